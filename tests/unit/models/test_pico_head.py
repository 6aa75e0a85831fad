"""PicoDet's head: who chooses the priors, losses computed by hand, scores and what decoders know."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from hatdet.engine.callbacks.hooks.epochs import SetEpochInfo
from hatdet.models.light.pico_head import PicoHead, PicoSE
from hatdet.models.mmdet.assigners.result import AssignResult, assigned
from hatdet.models.mmdet.heads.base import PictureMeta, Truth
from tests.helpers.components import made

LN2 = math.log(2)
META: PictureMeta = {"img_shape": (16, 16), "pad_shape": (16, 16)}
ALIGNED = {"type": "TaskAlignedAssigner", "topk": 13}


class First:
    """Gives box 1 to the first prior, and remembers what it was shown."""

    def __init__(self) -> None:
        self.seen: Any = None

    def assign(self, pred_instances: Any, gt_instances: Any, gt_instances_ignore: Any = None) -> AssignResult:
        self.seen = pred_instances
        found = torch.zeros(len(pred_instances.priors), dtype=torch.int64)
        found[: len(gt_instances.bboxes)] = 1
        return assigned(found, gt_instances.labels, None)


def head(align: bool = False, **train: Any) -> PicoHead:
    return PicoHead(num_classes=2, in_channels=8, strides=(8,), align=align, train_cfg={"assigner": First(), **train})


def truth(*boxes: tuple[float, float, float, float], label: int = 1) -> Truth:
    return Truth(torch.tensor(boxes).reshape(-1, 4), torch.full((len(boxes),), label))


def edges() -> Tensor:
    """Of the first of 2x2 positions: half a stride left and up, between the first bins; one stride right and down."""
    bins = torch.zeros(1, 4, 8, 2, 2)
    bins[0, :, 1, 0, 0] = 20.0
    bins[0, :2, 0, 0, 0] = 20.0
    return bins.flatten(1, 2)


@pytest.mark.parametrize("align", [False, True])
def test_losses_by_hand(align: bool) -> None:
    """The prior at (4, 4) finds (0, 0, 12, 12) of (0, 0, 16, 16): 144 / 256 is its overlap, quality and weight.

    Logits are 0, scores 0.5. Classes: ln 2 times the quality, and times 0.75 * 0.5^2 for 7 others. Boxes: 2.5 times
    1 - 144 / 256. Distances: 0.5 is where it is to be, 2 sides; 1.5 is half in a bin of share e^-20, 2 sides; a
    quarter of the sum, times 0.5.
    """
    one, quality = head(align), 144 / 256
    maps = [[torch.zeros(1, 2, 2, 2)], [edges()], [torch.zeros(1, 1, 2, 2)]][: 2 + align]
    losses = one.loss_by_feat(*one.refine(*maps), truths=[truth((0.0, 0.0, 16.0, 16.0))], metas=[META])
    expected = {
        "loss_cls": LN2 * (quality + 7 * 0.75 * 0.25),
        "loss_bbox": 2.5 * quality * (1 - quality),
        "loss_dfl": 0.5 * quality * (2 * LN2 + 2 * 10) / 4,
    }
    assert losses.keys() == expected.keys()
    assert {name: float(value) for name, value in losses.items()} == pytest.approx(expected, rel=1e-5)  # type: ignore[arg-type]


def test_a_picture_without_objects() -> None:
    one = head(align=True)
    maps = [torch.zeros(2, n, 2, 2, requires_grad=True) for n in (2, 32, 1)]
    refined = one.refine(*([level] for level in maps))
    losses = one.loss_by_feat(*refined, truths=[truth(), truth()], metas=[META, META])
    assert [losses[name].item() for name in ("loss_bbox", "loss_dfl")] == [0, 0]  # type: ignore[union-attr]
    assert float(losses["loss_cls"]) == pytest.approx(16 * LN2 * 0.75 * 0.25)  # type: ignore[arg-type]
    torch.stack([losses[name] for name in losses]).sum().backward()  # type: ignore[misc]
    assert all(level.grad is not None for level in maps)


def test_first_epochs_have_an_assigner_of_their_own() -> None:
    """Until someone tells the epoch it is past them: quantization-aware training goes on as training ended."""
    early, late = First(), First()
    one = head(assigner=late, initial_assigner=early, initial_epoch=2)
    for epoch, chosen in ((None, late), (0, early), (1, early), (2, late)):
        early.seen = late.seen = None
        if epoch is not None:
            loop: Any = type("Loop", (), {"model": one, "progress": type("At", (), {"epoch": epoch})})
            SetEpochInfo().on_epoch_begin(loop)
        maps = [torch.zeros(1, 2, 2, 2)], [edges()]
        one.loss_by_feat(*maps, truths=[truth((0.0, 0.0, 16.0, 16.0))], metas=[META])
        assert chosen.seen is not None and (early.seen is None or late.seen is None)
    assert late.seen.priors[0].tolist() == [-16, -16, 24, 24]  # five strides around (4, 4)
    assert late.seen.scores[0].tolist() == [0.5, 0.5] and late.seen.bboxes[0].tolist() == [0, 0, 12, 12]


@pytest.mark.parametrize(("kind", "score"), [("SimOTAAssigner", 0.5), ("DynamicSoftLabelAssigner", 0.0)])
def test_dynamic_assigners_see_points_with_strides(kind: str, score: float, monkeypatch: pytest.MonkeyPatch) -> None:
    assigner, seen = made({"type": kind}), []
    original = type(assigner).assign

    def spy(self: Any, pred_instances: Any, *args: Any, **kwargs: Any) -> AssignResult:
        seen.append(pred_instances)
        return original(self, pred_instances, *args, **kwargs)

    monkeypatch.setattr(type(assigner), "assign", spy)
    one = head(assigner=assigner, alpha=1.0, beta=6.0)
    wanted = one.wanted([[torch.zeros(1, 2, 2, 2)], [edges()]], [truth((0.0, 0.0, 16.0, 16.0))], [META])
    assert seen[0].priors[1].tolist() == [12, 4, 8, 8] and seen[0].scores[0, 0] == score
    assert 0 in wanted.index and wanted.quality[0] == pytest.approx(144 / 256)


def test_quality_of_an_aligned_assigner_is_the_best_overlap_of_the_box() -> None:
    """All of the same score: the prior with the best overlap gets it, the others less, by the sixth power."""
    one = head(assigner=made(ALIGNED), alpha=1.0, beta=6.0)
    bins = edges()
    wanted = one.wanted([[torch.zeros(1, 2, 2, 2)], [bins]], [truth((0.0, 0.0, 16.0, 16.0), label=0)], [META])
    best = 144 / 256  # the others: 3.5 strides every way, 256 of 56 * 56
    other = 256 / (56 * 56)
    assert wanted.quality.tolist() == pytest.approx([best, *[(other / best) ** 6 * best] * 3], rel=1e-5)
    assert wanted.labels.tolist() == [0] * 4


def test_scores_are_roots_of_products() -> None:
    one = PicoHead(num_classes=2, in_channels=8, strides=(8,), test_cfg={
        "score_thr": 0.0, "nms_pre": 10, "nms": {"type": "nms", "iou_threshold": 0.9}, "max_per_img": 1})  # fmt: skip
    cls, align = torch.full((1, 2, 2, 2), -20.0), torch.zeros(1, 1, 2, 2)
    cls[0, 1, 0, 0] = math.log(0.32 / 0.68)
    (found,) = one.eval().predict([cls], [edges()], [align], metas=[META])
    assert found["scores"].tolist() == pytest.approx([0.4]) and found["labels"].tolist() == [1]
    assert found["boxes"].tolist() == [[0, 0, 12, 12]]
    coding = one.coding()
    assert (coding.form, coding.num_bins, coding.root, coding.early) == ("bins", 8, True, True)
    assert one.refine_values() == {}


def test_layers_of_each_form() -> None:
    plain = PicoHead(num_classes=2, in_channels=8, channel_attention=False, align=False)
    whole = PicoHead(num_classes=2, in_channels=8)
    feats = [torch.randn(2, 8, side, side + 1) for side in (8, 4, 2, 1)]
    for one, kinds in ((plain, (2, 32)), (whole, (2, 32, 1))):
        shapes = [tuple(m.shape) for m in one.eval()(feats)]
        assert shapes == [(2, n, *f.shape[2:]) for n in kinds for f in feats]
        assert len(one.output_names) == len(shapes)
    assert not any(isinstance(m, PicoSE) for m in plain.modules())
    assert sum(isinstance(m, PicoSE) for m in whole.modules()) == 4
    first = torch.sigmoid(whole.head_cls[0].bias)  # type: ignore[arg-type]
    assert first.tolist() == pytest.approx([0.01, 0.01])
