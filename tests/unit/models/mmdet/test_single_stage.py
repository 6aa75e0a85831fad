"""A detector around a head: batches in, losses and boxes out; its parts complete each other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hatdet.building import Builder
from hatdet.models.detectors.tta import TTA
from hatdet.models.mmdet.batch import metas_of, truths_of
from hatdet.models.mmdet.heads.base import DenseHead, Levels
from hatdet.quantization.converters import (
    Float2Calibration,
    Float2QAT,
    FuseBN,
    LoadCheckpoint,
    ModelConvertPipeline,
    QAT2Int,
)
from hatdet.quantization.integer_detector import IntegerDetector
from hatdet.registry import register
from hatdet.utils.checkpoints.checkpoint import save_checkpoint
from hatdet.utils.errors import RegistryError, UserError
from tests.helpers.dense_models import MODELS, build


@register
class PlainBackbone(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 2, stride=2)

    def forward(self, x: Tensor) -> list[Tensor]:
        return [self.conv(x)]


@register
class CountingHead(DenseHead):
    """Its loss is how many boxes it was told of; its one box is the picture."""

    kinds = ("cls", "bbox")
    strides = (2,)

    def __init__(self, *, num_classes: int = 1, train_cfg: Any = None, test_cfg: Any = None) -> None:
        super().__init__()
        self.num_classes, self.train_cfg, self.test_cfg = num_classes, train_cfg, test_cfg
        self.cls, self.reg = nn.Conv2d(4, num_classes, 1), nn.Conv2d(4, 4, 1)

    def forward(self, feats: Sequence[Tensor]) -> tuple[Tensor, ...]:
        return (self.cls(feats[0]), self.reg(feats[0]))

    def refine(self, *maps: Levels) -> tuple[Any, ...]:
        return maps[0], [2 * m for m in maps[1]]

    def loss_by_feat(self, *maps: Any, truths: Any, metas: Any) -> Any:
        count = maps[1][0].sum() * 0 + float(sum(int(truth.labels.sum()) + len(truth) for truth in truths))
        return {"loss_count": [count, count], "loss_h": torch.tensor(float(metas[0]["img_shape"][0]))}

    def predict_by_feat(self, *maps: Any, metas: Any, cfg: Any = None, rescale: bool = False) -> Any:
        return [{"rescale": rescale, **meta} for meta in metas]


def batch() -> dict[str, Tensor]:
    return {
        "img": torch.zeros(2, 3, 8, 12, dtype=torch.uint8),
        "gt_boxes": torch.tensor([[[0.0, 0, 4, 4], [1, 1, 2, 2]], [[0, 0, 3, 3], [0, 0, 0, 0]]]),
        "gt_labels": torch.tensor([[0, 2], [1, -1]]),
        "gt_ignore": torch.tensor([[[0.0, 0, 0, 0]], [[1, 1, 5, 5]]]),
        "img_size": torch.tensor([[6, 12], [8, 10]]),
        "orig_size": torch.tensor([[12, 24], [8, 10]]),
        "scale_factor": torch.tensor([[0.5, 0.5], [1.0, 1.0]]),
    }


def made(kind: str = "SingleStageDetector", head: str = "bbox_head", **more: Any) -> Any:
    cfg = {"type": f"mmdet.{kind}", "backbone": {"type": "PlainBackbone"}, head: {"type": "CountingHead"}, **more}
    return Builder().build(cfg)


def test_a_batch_says_what_is_in_each_picture() -> None:
    first, second = truths_of(batch())
    assert first.labels.tolist() == [0, 2] and first.ignored.shape == (0, 4)
    assert second.bboxes.tolist() == [[0, 0, 3, 3]] and second.ignored.tolist() == [[1, 1, 5, 5]]
    meta = metas_of(batch())[0]
    assert meta["img_shape"] == (6, 12) and meta["pad_shape"] == (8, 12) and meta["scale_factor"] == (0.5, 0.5)
    assert meta["ori_shape"] == (12, 24) and tuple(meta["border"]) == (0, 8, 0, 12)


def test_losses_of_levels_are_summed_and_boxes_are_those_of_the_file() -> None:
    model = made(data_preprocessor={"type": "mmdet.DetDataPreprocessor", "mean": [1.0] * 3, "std": [2.0] * 3})
    losses = model.train()(batch())
    assert {name: float(value.detach()) for name, value in losses.items()} == {"loss_count": 12.0, "loss_h": 6.0}
    assert [found["rescale"] for found in model.eval()(batch())] == [True, True]
    assert model.output_names == ("cls_2", "bbox_2") and model.metadata()["mean"] == [1.0, 1.0, 1.0]
    assert {name.split(".")[0] for name in model.state_dict()} == {"backbone", "bbox_head"}
    assert [m.shape[1] for m in model.network()(torch.zeros(1, 3, 4, 4))] == [1, 4]


def test_the_head_gets_what_the_detector_is_told() -> None:
    model = made(train_cfg={"pos_weight": -1}, test_cfg={"nms": {"type": "nms", "iou_threshold": 0.5}})
    assert model.bbox_head.train_cfg == {"pos_weight": -1}
    assert model.bbox_head.test_cfg == {"nms": {"type": "nms", "iou_threshold": 0.5}}


def test_proposals_are_of_one_class() -> None:
    model = made(
        "RPN", "rpn_head", train_cfg={"rpn": {"pos_weight": 1}, "rpn_proposal": {}}, test_cfg={"rpn": {"a": 1}}
    )
    assert model.bbox_head.train_cfg == {"pos_weight": 1} and model.bbox_head.test_cfg == {"a": 1}
    assert float(model.train()(batch())["loss_count"].detach()) == 2 * 3
    assert {name.split(".")[0] for name in model.state_dict()} == {"backbone", "bbox_head"}


def test_names_and_classes_must_agree() -> None:
    with pytest.raises(RegistryError, match=r"bbox_head has num_classes=1, but 2 are named: \['a', 'b'\]"):
        made("FCOS", classes=("a", "b"))


def test_numbers_outside_the_network_travel_with_it(tmp_path: Path) -> None:
    """Factors of levels are no part of what becomes integers: checkpoints, graphs and files bring them along."""
    trained = build("FCOS of strides").eval()
    with torch.no_grad():
        for number, scale in enumerate(trained.bbox_head.scales):
            scale.scale.fill_(1.5 + number)
    values = {f"scales.{number}.scale": 1.5 + number for number in range(3)}
    assert trained.metadata()["refine"] == values
    images = torch.randint(0, 256, (2, 3, 64, 96), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    pipeline = ModelConvertPipeline(converters=[FuseBN(), Float2Calibration()])
    quantized = pipeline(trained)
    quantized.eval()({"img": images})
    state = {"state_dict": quantized.state_dict(), "metadata": quantized.metadata()}
    save_checkpoint(tmp_path / "qat.pth.tar", state)
    quantized.set_quantizing(True)
    expected = QAT2Int(image_size=(64, 96))(quantized)
    fresh = ModelConvertPipeline(converters=[FuseBN(), Float2QAT()])(build("FCOS of strides"))  # as in training
    loaded = LoadCheckpoint(checkpoint_path=str(tmp_path / "qat.pth.tar"))(fresh)
    found = QAT2Int(image_size=(64, 96))(loaded)
    assert found.task.bbox_head.refine_values() == values and found.graph.metadata["refine"] == values
    alone = IntegerDetector(detector=build("FCOS of strides").eval(), graph=found.graph)
    for model in (found, alone):
        for ours, theirs in zip(model({"img": images}), expected({"img": images}), strict=True):
            assert all(torch.equal(ours[key], theirs[key]) for key in ("boxes", "scores", "labels"))


def test_predictions_do_not_ask_what_mode_a_float_network_was_left_in() -> None:
    """A head of strides multiplies its distances by them where it predicts; another network gives the maps."""
    detector = build("FCOS of strides").eval()
    images = torch.randint(0, 256, (2, 3, 64, 96), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    draws = torch.Generator().manual_seed(1)
    with torch.no_grad():
        maps = [2 * torch.randn(m.shape, generator=draws) for m in detector.run_network(detector.preprocess(images))]
        expected, decoded = detector.predict(maps, {"img": images}), detector.decoding((64, 96))(*maps)
        detector.train()
        for ours, theirs in zip(detector.predict(maps, {"img": images}), expected, strict=True):
            assert len(theirs["boxes"]) and all(torch.equal(ours[key], theirs[key]) for key in theirs)
        assert torch.equal(detector.decoding((64, 96))(*maps)[0], decoded[0])
    assert detector.bbox_head.training


@pytest.mark.parametrize(
    ("part", "more", "wanted", "found"),
    [("neck", {"in_channels": [8, 16, 48]}, 48, 40), ("bbox_head", {"in_channels": 24}, 24, 16)],
)
def test_parts_that_do_not_fit_are_named(part: str, more: dict[str, Any], wanted: int, found: int) -> None:
    detector = build("FCOS", **{part: {**MODELS["FCOS"][part], **more}})
    with pytest.raises(UserError, match=rf"model.{part} takes maps of {wanted} channels, it gets {found}; set its in"):
        detector.run_network(torch.zeros(1, 3, 64, 64))


def test_pictures_that_a_part_does_not_take_are_named() -> None:
    """Maps that do not lie on each other, and maps smaller than a filter."""
    with pytest.raises(UserError, match=r"model.neck does not take pictures of 40x72 \(Sizes.*\); give larger"):
        build("YOLOv3").run_network(torch.zeros(1, 3, 40, 72))
    with pytest.raises(UserError, match="model.backbone does not take pictures of 4x5 .*Kernel size can't be greater"):
        build("FCOS", backbone={"type": "mmdet.PyramidVisionTransformer", "num_layers": [1] * 4}).run_network(
            torch.zeros(1, 3, 4, 5)
        )


@pytest.mark.parametrize("maps", [2, 4])
def test_a_head_gets_as_many_maps_as_it_has_strides(maps: int) -> None:
    neck = {**MODELS["FCOS"]["neck"], "num_outs": maps, **({"end_level": 1} if maps == 2 else {})}
    with pytest.raises(UserError, match=rf"model.bbox_head takes maps of 3 strides \(8, 16, 32\), it gets {maps} maps"):
        build("FCOS", neck=neck).run_network(torch.zeros(1, 3, 64, 64))


def test_rtmdet_is_told_of_synchronized_statistics_by_its_trainer() -> None:
    for told in (True, False):
        assert list(build("RTMDet", use_syncbn=told).state_dict()) == list(build("RTMDet").state_dict())


def test_views_are_merged_by_the_settings_of_the_head() -> None:
    detector = build("FCOS").eval()
    detector.head.test_cfg = {**(detector.head.test_cfg or {}), "score_thr": 0.0, "max_per_img": 5}
    batch = {"img": torch.randint(0, 256, (1, 3, 64, 96), dtype=torch.uint8), "img_size": torch.tensor([[64, 90]])}
    with torch.no_grad():
        found = TTA(scales=(1.0, 0.5))(detector)({**batch, "scale_factor": torch.tensor([[0.5, 0.5]])})
    assert found[0]["boxes"].shape == (5, 4) and found[0]["labels"].shape == found[0]["scores"].shape == (5,)
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 8], [20, 20, 30, 30]])  # IoU of the first two: 0.8
    given = (boxes, torch.tensor([0.5, 0.75, 0.25]), torch.tensor([1, 1, 0]))
    for options, scores in (
        ({"nms": {"type": "nms", "iou_threshold": 0.9}}, [0.75, 0.5, 0.25]),
        ({"nms": {"type": "nms", "iou_threshold": 0.7}}, [0.75, 0.25]),
        ({"nms": {"type": "nms", "iou_threshold": 0.7}, "max_per_img": 1}, [0.75]),
    ):
        assert detector.merging(**options).suppress(*given)["scores"].tolist() == scores
    detector.head.test_cfg = {}
    with pytest.raises(UserError, match="give TTA an nms"):
        TTA()(detector)
