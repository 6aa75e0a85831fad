"""Which priors count in the loss."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hatdet.models.mmdet.assigners.multi_instance import MultiInstanceAssigner
from hatdet.models.mmdet.assigners.result import AssignResult
from hatdet.models.mmdet.instances import Instances
from hatdet.models.mmdet.samplers.hard import OHEMSampler, ScoreHLRSampler
from hatdet.models.mmdet.samplers.multi_instance import MultiInsRandomSampler
from hatdet.models.mmdet.samplers.pseudo import MaskPseudoSampler, PseudoSampler
from hatdet.models.mmdet.samplers.random_sampler import (
    CombinedSampler,
    InstanceBalancedPosSampler,
    IoUBalancedNegSampler,
    RandomSampler,
)
from tests.helpers.components import case, made, names, reference


def given_of(kept: dict[str, Any]) -> tuple[Any, Instances, Instances]:
    given = kept["inputs"]
    result = AssignResult(len(given["gt_bboxes"]), given["gt_inds"], given["max_overlaps"], given["labels"])
    truth = Instances(bboxes=given["gt_bboxes"], labels=given["gt_labels"])
    return result, Instances(priors=given["priors"]), truth


RANDOM = ("combined_libra", "instance_balanced", "iou_balanced_floor", "random_rcnn", "random_rpn")


@pytest.mark.parametrize("name", [name for name in names("samplers") if name in RANDOM])
def test_reference_of_random_ones(name: str) -> None:
    kept = case("samplers", name)
    sampler, edges, bounds = (
        made(kept["args"], kept["type"]),
        kept["outputs"]["neg_iou_edges"],
        kept["outputs"]["bounds"],
    )
    counts: dict[str, list[Tensor]] = {key: [] for key in bounds}
    for seed in range(40):
        torch.manual_seed(seed)
        result, predicted, truth = given_of(kept)
        found = sampler.sample(result, predicted, truth)
        assert len(found.pos_inds.unique()) == len(found.pos_inds) and len(found.neg_inds.unique()) == len(
            found.neg_inds
        )
        assert (result.gt_inds[found.pos_inds] > 0).all() and (result.gt_inds[found.neg_inds] == 0).all()
        counts["n_pos"].append(torch.tensor(len(found.pos_inds)))
        counts["n_neg"].append(torch.tensor(len(found.neg_inds)))
        counts["pos_per_gt"].append(torch.bincount(found.pos_assigned_gt_inds, minlength=len(truth.bboxes)))
        histogram = torch.histogram(result.max_overlaps[found.neg_inds], edges).hist.long()
        counts["neg_iou_hist"].append(histogram)
    for key, bound in bounds.items():
        drawn = torch.stack(counts[key]).double()
        low, high = bound["min"], bound["max"]
        # Forty draws each way: a bound may be missed by one or two, a mean by some standard errors.
        spread = drawn.std(0).nan_to_num() + 1e-9
        assert ((drawn.mean(0) - bound["mean"]).abs() <= 4 * spread * (2 / 40) ** 0.5).all(), key
        assert (drawn.min(0).values >= low - 2 - 2 * (high > low)).all() and (drawn.max(0).values <= high + 4).all(), (
            key
        )
        if (low == high).all():
            assert (drawn == low).all(), key


@pytest.mark.parametrize("name", [name for name in names("samplers") if name == "pseudo"])
def test_reference_of_all(name: str) -> None:
    kept = case("samplers", name)
    hold(made(kept["args"], kept["type"]).sample(*given_of(kept)), kept["outputs"])


def hold(found: Any, wanted: dict[str, Any]) -> None:
    for key, want in wanted.items():
        got = getattr(found, key)
        assert torch.equal(got, want) if isinstance(want, Tensor) else got == want, key


@pytest.mark.parametrize("name", [name for name in names("samplers") if name == "ohem_few"])
def test_reference_of_hard_ones(name: str) -> None:
    kept = case("samplers", name)
    head = TwoLayers(kept["inputs"]["roi_head"])
    reference().fill(head)
    sampler = OHEMSampler(**kept["args"], context=head)
    hold(sampler.sample(*given_of(kept), feats=kept["inputs"]["feats"]), kept["outputs"])


class TwoLayers(nn.Module):
    """The box head of the reference: RoIAlign, two layers, one for the classes."""

    def __init__(self, cfg: dict[str, Any]) -> None:
        super().__init__()
        self.size, self.stride = cfg["roi_feat_size"], cfg["featmap_strides"][0]
        inner, classes = cfg["fc_out_channels"], cfg["num_classes"]
        self.bbox_head = nn.Module()
        self.bbox_head.shared_fcs = nn.ModuleList(
            [nn.Linear(cfg["in_channels"] * self.size**2, inner), nn.Linear(inner, inner)]
        )
        self.bbox_head.fc_cls = nn.Linear(inner, classes + 1)
        self.bbox_head.num_classes = classes
        self.bbox_head.loss = lambda cls_score, labels, **_: {
            "loss_cls": F.cross_entropy(cls_score, labels, reduction="none")
        }

    def _bbox_forward(self, feats: list[Tensor], rois: Tensor) -> dict[str, Tensor]:
        values = roi_align(feats[0], rois, self.size, self.stride).flatten(1)
        for layer in self.bbox_head.shared_fcs:
            values = layer(values).relu()
        return {"cls_score": self.bbox_head.fc_cls(values)}


def roi_align(feature: Tensor, rois: Tensor, size: int, stride: float, samples: int = 2) -> Tensor:
    """Mean of bilinear samples in each cell of each RoI (Mask R-CNN, arXiv 1703.06870), pixel centres at 0.5."""
    boxes = rois[:, 1:] / stride
    steps = (torch.arange(size * samples) + 0.5) / (size * samples)
    place = boxes[:, None, :2] + steps[:, None] * (boxes[:, None, 2:] - boxes[:, None, :2])
    height, width = feature.shape[-2:]
    # grid_sample's border is the last pixel's centre, as RoIAlign clamps it.
    x, y = place[..., 0] * 2 / width - 1, place[..., 1] * 2 / height - 1
    grid = torch.stack((x[:, None].expand(-1, len(steps), -1), y[:, :, None].expand(-1, -1, len(steps))), dim=-1)
    found = F.grid_sample(feature.expand(len(rois), -1, -1, -1), grid, padding_mode="border", align_corners=False)
    return F.avg_pool2d(found, samples)


def assigned(*gt_inds: int, overlaps: list[float] | None = None) -> AssignResult:
    inds = torch.tensor(gt_inds)
    shares = torch.tensor(overlaps) if overlaps else torch.zeros(len(inds))
    return AssignResult(2, inds, shares, torch.where(inds > 0, inds + 4, -1))


TRUTH = Instances(bboxes=torch.tensor([[0.0, 0.0, 4.0, 4.0], [4.0, 0.0, 8.0, 4.0]]), labels=torch.tensor([5, 6]))


def predictions(count: int) -> Instances:
    return Instances(priors=torch.arange(4.0 * count).reshape(count, 4))


def test_all_by_hand() -> None:
    found = PseudoSampler().sample(assigned(0, 2, -1, 1), predictions(4), TRUTH)
    assert found.pos_inds.tolist() == [1, 3] and found.neg_inds.tolist() == [0]
    assert found.pos_assigned_gt_inds.tolist() == [1, 0] and found.pos_gt_labels.tolist() == [6, 5]
    assert found.pos_gt_bboxes.tolist() == TRUTH.bboxes[[1, 0]].tolist() and found.avg_factor == 2
    assert found.priors.tolist() == predictions(4).priors[[1, 3, 0]].tolist()
    none = PseudoSampler().sample(assigned(0, 0), predictions(2), TRUTH[:0])
    assert none.pos_gt_bboxes.shape == (0, 4) and none.num_pos == 1 and none.num_gts == 0
    masks = MaskPseudoSampler().sample(
        assigned(0, 2), Instances(masks=torch.zeros(2, 3, 3)), Instances(masks=torch.ones(2, 3, 3))
    )
    assert masks.pos_masks.shape == masks.pos_gt_masks.shape == (1, 3, 3) and masks.masks.shape == (2, 3, 3)


def test_drawn_ones_are_a_function_of_the_seed() -> None:
    def draw(seed: int) -> list[int]:
        sampler = RandomSampler(8, 0.25, generator=torch.Generator().manual_seed(seed))
        state = torch.get_rng_state()
        found = sampler.sample(assigned(*[1] * 20, *[0] * 40), predictions(60), TRUTH)
        assert torch.equal(torch.get_rng_state(), state)  # torch's own generator is left alone
        return [*found.pos_inds.tolist(), *found.neg_inds.tolist()]

    assert draw(1) == draw(1) != draw(2)


def test_numbers_by_hand() -> None:
    result = assigned(1, 0, 0, 0, 0, 0)
    found = RandomSampler(4, 0.5, neg_pos_ub=2, add_gt_as_proposals=False).sample(result, predictions(6), TRUTH)
    assert (len(found.pos_inds), len(found.neg_inds), found.avg_factor) == (1, 2, 3)
    more = RandomSampler(6, 0.5).sample(assigned(1, 0, 0, 0, 0, 0), predictions(6), TRUTH)
    assert more.pos_inds.tolist() == [0, 1, 2] and more.pos_is_gt.tolist() == [1, 1, 0] and len(more.neg_inds) == 3
    assert more.pos_gt_labels.tolist() == [5, 6, 5] and more.pos_assigned_gt_inds.tolist() == [0, 1, 0]


def test_balance_by_hand() -> None:
    rare = InstanceBalancedPosSampler(8, 0.5, add_gt_as_proposals=False)
    for seed in range(5):
        torch.manual_seed(seed)
        found = rare.sample(assigned(*[1] * 30, 2, 2, *[0] * 10), predictions(42), TRUTH)
        # Four of two boxes: three each, of which one has only two; then one is dropped at random.
        assert len(found.pos_inds) == 4 and (found.pos_assigned_gt_inds == 1).sum() >= 1
    shares = [0.0] * 100 + [0.25] * 4 + [0.5] * 4 + [0.59] * 4
    even = IoUBalancedNegSampler(12, 0.5, num_bins=3, add_gt_as_proposals=False)
    found = even.sample(assigned(*[0] * 112, overlaps=shares), predictions(112), TRUTH)
    values = torch.tensor(shares)[found.neg_inds]
    # Ranges up to 0.197, 0.393, 0.59 (not with it): four of each as far as they reach, the rest at random.
    assert len(values) == 12 and (values == 0.25).sum() == 4 and (values == 0.5).sum() == 4
    with pytest.raises(ValueError, match="floor_thr is at least 0 or -1"):
        IoUBalancedNegSampler(12, 0.5, floor_thr=-0.5)


def test_combined() -> None:
    sampler = CombinedSampler(
        {"type": "InstanceBalancedPosSampler"},
        {"type": "IoUBalancedNegSampler", "num_bins": 2},
        num=8,
        pos_fraction=0.5,
    )
    assert isinstance(sampler.neg_sampler, IoUBalancedNegSampler) and sampler.neg_sampler.num == 8
    found = sampler.sample(assigned(*[1] * 30, *[0] * 10), predictions(40), TRUTH)
    assert len(found.pos_inds) == 4 and len(found.neg_inds) == 4


class Said:
    """A RoI head that says what the test wants."""

    def __init__(self, scores: Tensor) -> None:
        self.scores = scores
        self.bbox_head = SimpleNamespace(
            num_classes=2,
            loss=lambda cls_score, labels, **_: {"loss_cls": F.cross_entropy(cls_score, labels, reduction="none")},
            bbox_coder=SimpleNamespace(decode=lambda rois, deltas: deltas),
        )

    def _bbox_forward(self, feats: Tensor, rois: Tensor) -> dict[str, Tensor]:
        index = (rois[:, 1] / 4).long()  # predictions() numbers its boxes so
        return {"cls_score": self.scores[index], "bbox_pred": feats[index]}


def test_ranks_by_hand() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 9], [50, 50, 60, 60], [0, 0, 10, 9.5], [0, 0, 1, 1]])
    chance = torch.tensor([0.9, 0.8, 0.5, 0.7, 0.01])
    scores = torch.stack((chance, chance * 0 + 1e-9, 1 - chance), dim=1).log()
    sampler = ScoreHLRSampler(4, 0.25, context=Said(scores), add_gt_as_proposals=False, k=1.0)
    found, weights = sampler.sample(assigned(0, 0, 0, 0, 0), predictions(5), TRUTH, feats=boxes)
    # Best of both groups first (0.9 and 0.5), then 0.8, then 0.7; the last has too little score.
    assert found.neg_inds.tolist() == [0, 2, 1, 3]
    torch.testing.assert_close(weights / weights[0], torch.tensor([1.0, 0.75, 0.5, 0.25]))
    losses = F.cross_entropy(scores[[0, 2, 1, 3]], torch.full((4,), 2), reduction="none")
    assert (losses * weights).sum().item() == pytest.approx(losses.sum().item())
    more, weights = ScoreHLRSampler(5, 0.2, context=Said(scores), add_gt_as_proposals=False).sample(
        assigned(0, 0, 0, 0, 0), predictions(5), TRUTH, feats=boxes
    )
    assert sorted(more.neg_inds.tolist()) == [0, 1, 2, 3, 4] and weights[-1] == weights[-2]
    none, weights = sampler.sample(assigned(1, 1), predictions(2), TRUTH, feats=boxes)
    assert weights is None and len(none.neg_inds) == 0
    with pytest.raises(ValueError, match="OHEMSampler asks a RoI head about its losses; give it as context"):
        OHEMSampler(4, 0.25).sample(assigned(0, 0, 0, 0, 0), predictions(5), TRUTH)


def test_proposals_with_two_boxes() -> None:
    proposals = Instances(priors=torch.tensor([[0.0, 0, 4, 4], [20, 20, 24, 24]]))
    result = MultiInstanceAssigner(0.5, 0.5).assign(proposals, TRUTH)
    found = MultiInsRandomSampler(6, 0.5).sample(result, proposals, TRUTH)
    assert found.pos_inds.tolist() == [0, 2, 3] and found.neg_inds.tolist() == [1]
    assert found.pos_gt_bboxes.shape == (3, 2, 4) and found.pos_assigned_gt_inds[:, 0].tolist() == [0, 0, 1]
    assert found.pos_gt_labels.tolist() == [[1, 0]] * 3 and found.neg_gt_labels.tolist() == [[0, 0]]
    assert found.pos_is_gt.tolist() == [0, 1, 1]
