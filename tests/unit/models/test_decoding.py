"""The rule that says how raw maps become boxes and scores."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch

from hatdet.models.task_modules.anchors import AnchorGenerator
from hatdet.models.task_modules.coders import DistancePointBBoxCoder
from hatdet.models.task_modules.decoding import DecodeRule, InGraphDecoder
from hatdet.models.task_modules.encoders import XYWHBBoxEncoder
from hatdet.models.task_modules.post_process import RTMDetPostProcess
from hatdet.models.task_modules.priors import MlvlPointGenerator

POINTS = MlvlPointGenerator(strides=(8, 16), offset=0.5)
ANCHORS = AnchorGenerator(feat_strides=[8, 16], scales=[1.0, 2.0], ratios=[1.0])


def test_rows_are_level_after_level_position_after_position_prior_after_prior() -> None:
    rule = DecodeRule(ANCHORS, XYWHBBoxEncoder(), num_classes=3)
    maps = [
        torch.arange(2 * a * n * h * w).reshape(2, a * n, h, w) for n in (3, 4) for a, h, w in ((2, 1, 2), (2, 1, 1))
    ]
    logits, values = rule.rows(maps)
    assert logits.shape == (2, 6, 3) and values.shape == (2, 6, 4)
    # channel a * 3 + k of the position (0, 1): prior a, class k; an image has 12 numbers, a channel 2
    assert logits[1, :4].tolist() == [[12, 14, 16], [18, 20, 22], [13, 15, 17], [19, 21, 23]]
    assert values[0, 4:].tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]


def test_scores_times_their_factor() -> None:
    """Logits of 0 (0.5) and log 3 (0.75); factors of -log 3 (0.25) and 0 (0.5)."""
    rule = DecodeRule(POINTS, DistancePointBBoxCoder(), num_classes=2, score_factor=True)
    assert rule.columns == (2, 4, 1)
    log3 = 1.0986123
    logits, factors = torch.tensor([[[0.0, log3], [log3, 0.0]]]), torch.tensor([[[-log3], [0.0]]])
    priors = POINTS.grid_priors([(1, 1), (1, 1)])
    boxes, scores = rule.boxes_and_scores(priors, [logits, torch.ones(1, 2, 4), factors])
    assert scores.flatten().tolist() == pytest.approx([0.125, 0.1875, 0.375, 0.25])
    assert boxes.tolist() == [[[3, 3, 5, 5], [7, 7, 9, 9]]]


@pytest.mark.parametrize(("exp", "in_strides", "side"), [(0, 0, 2.0), (0, 1, 16.0), (1, 0, 7.389056), (1, 1, 59.11245)])
def test_distances(exp: int, in_strides: int, side: float) -> None:
    coder = DistancePointBBoxCoder(exp=bool(exp), in_strides=bool(in_strides))
    (box,) = coder.decode(torch.tensor([[100.0, 200.0, 8.0, 8.0]]), torch.full((1, 4), 2.0)).tolist()
    assert box == pytest.approx([100 - side, 200 - side, 100 + side, 200 + side])


def test_positions_pass_the_gate_by_their_best_prior() -> None:
    rule = DecodeRule(ANCHORS, XYWHBBoxEncoder(), num_classes=2, gate=1.0)
    logits = torch.tensor([[0.0, 0.5], [1.0, -9.0], [0.9, 0.9], [0.99, 0.0], [-9.0, -9.0], [-9.0, 2.0]])[None]
    assert rule.open(logits, [4, 2]).tolist() == [[True, True, False, False, True, True]]  # type: ignore[union-attr]
    assert torch.equal(rule.open(logits, [4, 2]), rule.open(logits.sigmoid(), [4, 2], scored=True))  # type: ignore[arg-type]
    assert DecodeRule(ANCHORS, XYWHBBoxEncoder(), num_classes=2).open(logits, [4, 2]) is None


@pytest.mark.parametrize(
    "rule",
    [
        DecodeRule(POINTS, DistancePointBBoxCoder(exp=True, in_strides=True), 5),
        DecodeRule(POINTS, DistancePointBBoxCoder(), 5, score_factor=True, gate=-2.5),
        DecodeRule(ANCHORS, XYWHBBoxEncoder(reg_std=(0.1, 0.1, 0.2, 0.2), max_log_ratio=3.0), 5),
        DecodeRule(ANCHORS, XYWHBBoxEncoder(), 5, score_factor=True, gate=0.5),
    ],
)
def test_metadata_says_it_all(rule: DecodeRule) -> None:
    told: dict[str, Any] = {**rule.metadata(), "num_classes": 5, "strides": [8, 16]}
    again = DecodeRule.of_metadata(json.loads(json.dumps(told)))
    assert again.metadata() == rule.metadata() and again.columns == rule.columns and again.gate == rule.gate
    maps = [
        torch.randn(1, a * n, s, s) for n in rule.columns for a, s in zip(rule.priors.num_priors, (4, 2), strict=True)
    ]
    ours, theirs = (InGraphDecoder(rule=r, priors=r.priors.grid_priors([(4, 4), (2, 2)]))(*maps) for r in (rule, again))
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_thresholds_are_those_of_the_product() -> None:
    """A class score of 0.5 is above 0.3; times 0.5 it is not."""
    rule = DecodeRule(POINTS, DistancePointBBoxCoder(), num_classes=1, score_factor=True)
    rows = [torch.zeros(1, 2, 1), torch.ones(1, 2, 4), torch.tensor([[[0.0], [1.0]]])]
    boxes, scores = rule.boxes_and_scores(POINTS.grid_priors([(1, 1), (1, 1)]), rows)
    (found,) = RTMDetPostProcess(score_thr=0.3).from_scores(scores, boxes, [1, 1])
    assert found["scores"].tolist() == pytest.approx([0.5 * 0.7310586])
