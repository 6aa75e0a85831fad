"""Test-time augmentation: views go through the detector, their boxes come back to the picture."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hatdet.models.detectors.tta import TTA, Direction, TestTimeAugmentation
from hatdet.models.task_modules.post_process import RTMDetPostProcess
from hatdet.utils.errors import UserError


class BrightBox(nn.Module):
    """Finds the bounding box of the bright pixels, in file pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[int, ...]] = []

    def forward(self, batch: Mapping[str, Any]) -> list[dict[str, Tensor]]:
        self.seen.append(tuple(batch["img"].shape))
        results = []
        for image, factor in zip(batch["img"], batch["scale_factor"], strict=True):
            ys, xs = (image[0] > 127).nonzero(as_tuple=True)
            box = torch.tensor([[xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]]).float()
            results.append(
                {"boxes": box / factor.repeat(2), "scores": torch.tensor([0.8]), "labels": torch.tensor([0])}
            )
        return results


def batch() -> dict[str, Any]:
    """A 64 x 48 picture in the upper left of 64 x 64, from a file of twice its size; a box at 8..24, 16..32."""
    img = torch.zeros((1, 3, 64, 64), dtype=torch.uint8)
    img[:, :, 16:32, 8:24] = 255
    return {"img": img, "img_size": torch.tensor([[64, 48]]), "scale_factor": torch.tensor([[0.5, 0.5]])}


def test_every_view_finds_the_same_box_in_the_file() -> None:
    detector = BrightBox()
    process = RTMDetPostProcess(iou_threshold=0.9)
    tta = TestTimeAugmentation(detector=detector, post_process=process, scales=(1.0, 0.5, 1.5))
    found = tta(batch())
    assert detector.seen == [(1, 3, 64, 64)] * 2 + [(1, 3, 32, 32)] * 2 + [(1, 3, 96, 96)] * 2
    assert found[0]["boxes"].tolist() == [[16.0, 32.0, 48.0, 64.0]]  # all six agree, and suppression leaves one


def test_a_box_on_one_side_comes_back_to_that_side() -> None:
    """Only the mirrored view counts here: without the way back the box would be at 48 - 24 .. 48 - 8."""

    class Second(BrightBox):
        def forward(self, batch: Mapping[str, Any]) -> list[dict[str, Tensor]]:
            found = super().forward(batch)
            if len(self.seen) % 2:
                found = [{key: value[:0] for key, value in one.items()} for one in found]
            return found

    found = TestTimeAugmentation(detector=Second(), post_process=RTMDetPostProcess(), scales=(1.0,))(batch())
    assert found[0]["boxes"].tolist() == [[16.0, 32.0, 48.0, 64.0]]


@pytest.mark.parametrize("direction", ["horizontal", "vertical", "diagonal"])
def test_every_direction_comes_back(direction: Direction) -> None:
    """The picture is 64 x 48 of 64 x 64, so that its edges and the padding's differ in x."""
    detector = BrightBox()
    process = RTMDetPostProcess(iou_threshold=0.9)
    tta = TestTimeAugmentation(detector=detector, post_process=process, scales=(1.0,), directions=(direction,))
    found = tta(batch())
    assert found[0]["boxes"].tolist() == [[16.0, 32.0, 48.0, 64.0]] and len(detector.seen) == 2
    with pytest.raises(UserError, match="allowed are horizontal, vertical, diagonal"):
        TestTimeAugmentation(detector=detector, post_process=None, directions=("left",))  # type: ignore[arg-type]


def test_a_detector_that_merges_is_asked_to() -> None:
    class Merging(BrightBox):
        def merging(self, nms: Any, max_per_img: int | None) -> Any:
            assert nms == dict(type="nms") and max_per_img == 3
            return SimpleNamespace(suppress=lambda boxes, scores, labels: {"count": len(boxes)})

    assert TTA(scales=(1.0, 0.5), nms=dict(type="nms"), max_per_img=3)(Merging())(batch()) == [{"count": 4}]
    with pytest.raises(UserError, match="several views: no post_process.suppress; leave --tta out"):
        TTA()(BrightBox())
    with pytest.raises(UserError, match="by its own nms; leave nms out"):
        TTA(nms=dict(type="nms"))(BrightBox())


def test_scales_must_be_positive() -> None:
    for scales in ((), (0.0,), (-1.0, 1.0)):
        with pytest.raises(UserError, match="positive scales"):
            TestTimeAugmentation(detector=BrightBox(), post_process=None, scales=scales)


def test_pictures_that_are_centred_on_their_canvas() -> None:
    """The picture begins at (10, 4); the detector takes that off, in every view."""

    class Centred(BrightBox):
        def forward(self, batch: Mapping[str, Any]) -> list[dict[str, Tensor]]:
            found = super().forward(batch)
            shift = batch["border"][0, [2, 0, 2, 0]].float() / batch["scale_factor"][0].repeat(2)
            return [{**one, "boxes": one["boxes"] - shift} for one in found]

    img = torch.zeros((1, 3, 64, 64), dtype=torch.uint8)
    img[:, :, 16:32, 20:36] = 255
    centred = {"img": img, "img_size": torch.tensor([[64, 64]]), "scale_factor": torch.tensor([[0.5, 0.5]])}
    centred["border"] = torch.tensor([[4, 60, 10, 50]])
    process = RTMDetPostProcess(iou_threshold=0.9)
    found = TestTimeAugmentation(detector=Centred(), post_process=process, scales=(1.0, 0.5, 1.5))(centred)
    assert found[0]["boxes"].tolist() == [[20.0, 24.0, 52.0, 56.0]]
