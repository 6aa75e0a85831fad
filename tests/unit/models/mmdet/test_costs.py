"""What it costs to match."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from hatdet.models.mmdet.assigners.linear_sum import linear_sum_assignment
from hatdet.models.mmdet.costs.boxes import BBoxL1Cost, ClassificationCost, IoUCost
from hatdet.models.mmdet.costs.focal import BinaryFocalLossCost, FocalLossCost
from hatdet.models.mmdet.costs.masks import CrossEntropyLossCost, DiceCost
from hatdet.models.mmdet.instances import Instances
from tests.helpers.components import case, made, names

PREDICTED = Instances(bboxes=torch.tensor([[0.0, 0.0, 10.0, 20.0]]), scores=torch.tensor([[0.0, math.log(3.0)]]))
TRUTH = Instances(bboxes=torch.tensor([[0.0, 0.0, 20.0, 20.0], [10.0, 0.0, 20.0, 20.0]]), labels=torch.tensor([0, 1]))
META = {"img_shape": (20, 40)}


@pytest.mark.parametrize("name", names("match_costs"))
def test_reference(name: str) -> None:
    kept = case("match_costs", name)
    given = kept["inputs"]
    cost = made(kept["args"], kept["type"])(
        Instances(**given["pred_instances"]), Instances(**given["gt_instances"]), given["img_meta"]
    )
    torch.testing.assert_close(cost, kept["outputs"]["cost"], rtol=1e-5, atol=1e-6)


def test_places_and_classes_by_hand() -> None:
    torch.testing.assert_close(BBoxL1Cost(weight=2.0)(PREDICTED, TRUTH, META), torch.tensor([[0.5, 1.0]]))
    torch.testing.assert_close(BBoxL1Cost("xywh")(PREDICTED, TRUTH, META), torch.tensor([[0.125 + 0.25, 0.25]]))
    assert IoUCost("iou")(PREDICTED, TRUTH, META).tolist() == [[-0.5, 0.0]]
    assert IoUCost()(PREDICTED, TRUTH, META).tolist() == [[-0.5, 0.0]]
    torch.testing.assert_close(ClassificationCost()(PREDICTED, TRUTH), torch.tensor([[-0.25, -0.75]]))
    cost = FocalLossCost(alpha=0.5, gamma=1.0)(PREDICTED, TRUTH)
    # Of probability p: -(1 - p) log(p) / 2 + p log(1 - p) / 2
    torch.testing.assert_close(cost, torch.tensor([[0.0, (-0.25 * math.log(0.75) + 0.75 * math.log(0.25)) / 2]]))
    with pytest.raises(ValueError, match="give img_meta with img_shape"):
        BBoxL1Cost()(PREDICTED, TRUTH)
    with pytest.raises(ValueError, match="unknown box_format 'cxcywh'"):
        BBoxL1Cost("cxcywh")  # type: ignore[arg-type]


def test_masks_by_hand() -> None:
    masks = Instances(masks=torch.tensor([[[1.0, 1.0], [0.0, 0.0]]]))
    wanted = Instances(masks=torch.tensor([[[1, 0], [0, 0]], [[1, 1], [0, 0]]]))
    torch.testing.assert_close(DiceCost(eps=0.0)(masks, wanted), torch.tensor([[1 - 2 / 3, 0.0]]))
    torch.testing.assert_close(DiceCost(eps=0.0, naive_dice=False)(masks, wanted), torch.tensor([[1 - 2 / 3, 0.0]]))
    sure = Instances(masks=masks.masks * 200 - 100)
    torch.testing.assert_close(DiceCost(pred_act=True, eps=0.0)(sure, wanted), torch.tensor([[1 - 2 / 3, 0.0]]))
    torch.testing.assert_close(CrossEntropyLossCost()(sure, wanted), torch.tensor([[25.0, 0.0]]))
    even = Instances(masks=torch.zeros(1, 2, 2))
    focal = FocalLossCost(alpha=0.25, gamma=2.0, binary_input=True)(even, wanted)
    bit = math.log(2) / 4  # of one pixel, before alpha
    torch.testing.assert_close(focal, torch.tensor([[(0.25 + 3 * 0.75) / 4 * bit, 0.5 * bit]]))


def test_words_by_hand() -> None:
    predicted = Instances(scores=torch.zeros(1, 3))
    truth = Instances(
        positive_maps=torch.tensor([[1.0, 0.0, 0.0]]), text_token_mask=torch.tensor([[True, True, False]])
    )
    cost = BinaryFocalLossCost()(predicted, truth)
    torch.testing.assert_close(cost, torch.tensor([[(0.25 + 0.75) * math.log(2) / 4]]))


@pytest.mark.parametrize("shape", [(1, 1), (4, 4), (3, 6), (6, 3), (5, 0)])
def test_the_cheapest_pairing(shape: tuple[int, int]) -> None:
    for seed in range(20):
        # Few different values: many ties.
        cost = np.random.default_rng(seed).integers(0, 6, shape).astype(float)
        rows, columns = linear_sum_assignment(cost)
        assert len(set(columns)) == len(rows) == min(shape) and list(rows) == sorted(set(rows))
        small = cost if shape[0] <= shape[1] else cost.T
        ways = itertools.permutations(range(small.shape[1]), small.shape[0])
        assert cost[rows, columns].sum() == min(small[range(small.shape[0]), way].sum() for way in map(list, ways))


def test_pairs_that_may_not_be() -> None:
    cost = np.array([[1.0, np.inf], [0.0, 5.0]])
    assert linear_sum_assignment(cost)[1].tolist() == [0, 1]
    with pytest.raises(ValueError, match="no pairing without forbidden pairs"):
        linear_sum_assignment(np.full((2, 2), np.inf))
    with pytest.raises(ValueError, match="is NaN or -inf"):
        linear_sum_assignment(np.array([[np.nan]]))
