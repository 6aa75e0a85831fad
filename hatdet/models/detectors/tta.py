"""Test-time augmentation: several views of a picture through one detector, their boxes merged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hatdet.registry import register
from hatdet.utils.annotations import Spec
from hatdet.utils.errors import UserError

Direction = Literal["horizontal", "vertical", "diagonal"]


class TestTimeAugmentation(nn.Module):
    """Scores each picture at several sizes, and mirrored, and suppresses among all boxes found.

    The views are made of the batch that evaluation loads: a view of scale s is the whole padded picture resized by s
    (bilinear), its sides rounded to multiples of ``divisor``. Call contract: that of a detector in evaluation mode.

    Args:
        detector: gives boxes of a batch; may be an integer model.
        post_process: supplies ``suppress(boxes, scores, labels)``: the detector's own.
        scales: factors of the loaded size; MMDetection's TTA of RTMDet has 640, 320 and 960 for 640.
        flip: each view also mirrored,
        directions: in each of these ways.
        divisor: the largest stride.

    Raises:
        UserError: no scale, or one that is not positive.
    """

    __test__ = False  # not a test, whatever pytest thinks of its name

    def __init__(
        self,
        *,
        detector: nn.Module,
        post_process: Any,
        scales: Sequence[float] = (1.0, 0.5, 1.5),
        flip: bool = True,
        directions: Sequence[Direction] = ("horizontal",),
        divisor: int = 32,
    ) -> None:
        super().__init__()
        if not scales or any(not s > 0 for s in scales):
            raise UserError(f"TTA needs positive scales, got {list(scales)}")
        self.detector = detector
        self.post_process = post_process
        if not set(directions) <= set(get_args(Direction)):
            raise UserError(f"directions is {list(directions)}; allowed are {', '.join(get_args(Direction))}")
        self.scales, self.flip, self.directions, self.divisor = tuple(scales), flip, tuple(directions), divisor

    def evaluation_model(self) -> TestTimeAugmentation:
        """The same views through what evaluation scores: the integer model of a quantized detector."""
        method = getattr(self.detector, "evaluation_model", None)
        if not callable(method):
            return self
        return TestTimeAugmentation(
            detector=method(),
            post_process=self.post_process,
            scales=self.scales,
            flip=self.flip,
            directions=self.directions,
            divisor=self.divisor,
        )

    def forward(self, batch: Mapping[str, Any]) -> list[dict[str, Tensor]]:
        found: list[list[dict[str, Tensor]]] = []
        for scale in self.scales:
            view = self._scaled(batch, scale)
            found.append(self.detector(view))
            if self.flip:
                found += [self._mirrored(view, direction) for direction in self.directions]
        merged = []
        for views in zip(*found, strict=True):
            boxes, scores, labels = (torch.cat([v[key] for v in views]) for key in ("boxes", "scores", "labels"))
            merged.append(self.post_process.suppress(boxes, scores, labels))
        return merged

    def _scaled(self, batch: Mapping[str, Any], scale: float) -> dict[str, Any]:
        height, width = batch["img"].shape[2:]
        size = [max(self.divisor, round(s * scale / self.divisor) * self.divisor) for s in (height, width)]
        if size == [height, width]:
            return dict(batch)
        factors = torch.tensor([size[0] / height, size[1] / width])  # y, x
        img = F.interpolate(batch["img"].float(), size=size, mode="bilinear", align_corners=False)
        img = img.round_().clamp_(0, 255).to(batch["img"].dtype) if batch["img"].dtype == torch.uint8 else img
        view = {**batch, "img": img.contiguous(memory_format=torch.channels_last)}
        view["img_size"] = (batch["img_size"].double() * factors.to(batch["img_size"].device)).round().long()
        view["scale_factor"] = batch["scale_factor"] * factors.flip(0).to(batch["scale_factor"])
        if "border" in batch:  # top, bottom, left, right
            view["border"] = batch["border"] * factors.repeat_interleave(2).to(batch["border"].device)
        return view

    def _mirrored(self, view: dict[str, Any], direction: Direction) -> list[dict[str, Tensor]]:
        """Boxes found in the mirrored picture, mirrored back."""
        axes = {"horizontal": (0,), "vertical": (1,), "diagonal": (0, 1)}[direction]  # 0: x, 1: y
        img = view["img"].clone()
        for i, (height, width) in enumerate(view["img_size"].tolist()):  # the picture alone: not its padding
            img[i, :, :height, :width] = view["img"][i, :, :height, :width].flip([2 - axis for axis in axes])
        results: list[dict[str, Tensor]] = []
        for i, found in enumerate(self.detector({**view, "img": img})):
            boxes = found["boxes"].clone()
            for axis in axes:
                margin = 2 * view["border"][i, 2 - 2 * axis].to(boxes) if "border" in view else 0
                full = (view["img_size"][i, 1 - axis].to(boxes) - margin) / view["scale_factor"][i, axis].to(boxes)
                boxes[:, [axis, axis + 2]] = full - found["boxes"][:, [axis + 2, axis]]
            results.append({**found, "boxes": boxes})
        return results


@register
class TTA:
    """Wraps a finished detector for test-time augmentation: ``Predictor(tta=dict(type="TTA"))``.

    Args:
        scales, flip, directions: see :class:`TestTimeAugmentation`.
        nms, max_per_img: how a detector that has ``merging`` (MMDetection's) merges boxes; without ``nms``, and all
            others: as it suppresses its own.
    """

    def __init__(
        self,
        *,
        scales: Sequence[float] = (1.0, 0.5, 1.5),
        flip: bool = True,
        directions: Sequence[Direction] = ("horizontal",),
        nms: Spec | None = None,
        max_per_img: int | None = None,
    ) -> None:
        self.scales, self.flip, self.directions = tuple(scales), flip, tuple(directions)
        self.nms, self.max_per_img = nms, max_per_img

    def __call__(self, model: nn.Module) -> nn.Module:
        owner: Any = getattr(model, "task", model)
        return TestTimeAugmentation(
            detector=model,
            post_process=self._merging(owner),
            scales=self.scales,
            flip=self.flip,
            directions=self.directions,
            divisor=max(getattr(owner, "strides", (32,))),
        )

    def _merging(self, detector: Any) -> Any:
        if hasattr(detector, "merging"):
            return detector.merging(self.nms, self.max_per_img)
        if self.nms is not None:
            raise UserError(f"{type(detector).__name__} merges boxes of several views by its own nms; leave nms out")
        post_process = getattr(detector, "post_process", None)
        if not hasattr(post_process, "suppress"):
            raise UserError(
                f"{type(detector).__name__} cannot merge the boxes of several views: no post_process.suppress; "
                "leave --tta out, or give the detector a post_process"
            )
        return post_process
