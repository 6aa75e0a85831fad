"""Which prior learns which box."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from hatdet.models.mmdet.assigners.atss import ATSSAssigner
from hatdet.models.mmdet.assigners.center_region import CenterRegionAssigner
from hatdet.models.mmdet.assigners.dynamic_k import DynamicSoftLabelAssigner, SimOTAAssigner
from hatdet.models.mmdet.assigners.grid import GridAssigner
from hatdet.models.mmdet.assigners.hungarian import HungarianAssigner, TopkHungarianAssigner
from hatdet.models.mmdet.assigners.max_iou import MaxIoUAssigner
from hatdet.models.mmdet.assigners.multi_instance import MultiInstanceAssigner
from hatdet.models.mmdet.assigners.point import PointAssigner
from hatdet.models.mmdet.assigners.region import RegionAssigner
from hatdet.models.mmdet.assigners.repeated import moved_apart
from hatdet.models.mmdet.assigners.task_aligned import TaskAlignedAssigner
from hatdet.models.mmdet.assigners.uniform import UniformAssigner
from hatdet.models.mmdet.instances import Instances
from hatdet.models.mmdet.overlaps import BboxOverlaps2D
from hatdet.models.mmdet.priors.anchors import AnchorGenerator
from tests.helpers.components import case, made, names, reference


def instances(tensors: dict[str, Any]) -> Instances:
    return Instances(**tensors)


@pytest.mark.parametrize("name", names("assigners"))
def test_reference(name: str) -> None:
    kept = case("assigners", name)
    given, wanted = kept["inputs"], kept["outputs"]
    ignored = given["gt_bboxes_ignore"]
    result = made(kept["args"], kept["type"]).assign(
        instances(given["pred_instances"]),
        instances(given["gt_instances"]),
        None if ignored is None else Instances(bboxes=ignored),
        **given["kwargs"],
    )
    assert result.num_gts == wanted["num_gts"]
    assert torch.equal(result.gt_inds, wanted["gt_inds"])
    assert torch.equal(result.labels, wanted["labels"])
    if wanted["max_overlaps"] is None:
        assert result.max_overlaps is None
    else:
        torch.testing.assert_close(result.max_overlaps, wanted["max_overlaps"], rtol=1e-6, atol=1e-6)
    for key, want in wanted.items():
        if key.startswith("extra_"):
            assert reference().same(result.get_extra_property(key.removeprefix("extra_")), want, 1e-6), key
        elif key == "assign_metrics":
            torch.testing.assert_close(result.assign_metrics, want)


PRIORS = torch.tensor(
    [[0.0, 0.0, 10.0, 10.0], [10.0, 0.0, 20.0, 10.0], [0.0, 10.0, 10.0, 20.0], [30.0, 30.0, 40.0, 40.0]]
)


def truth(*boxes: list[float], labels: list[int] | None = None) -> Instances:
    return Instances(
        bboxes=torch.tensor(boxes).float().reshape(-1, 4), labels=torch.tensor(labels or list(range(len(boxes)))).long()
    )


def test_overlap_by_hand() -> None:
    boxes = truth([0, 0, 10, 11], [0, 10, 10, 30], [12, 0, 20, 100])
    found = MaxIoUAssigner(0.6, (0.1, 0.5)).assign(Instances(priors=PRIORS), boxes)
    # 10/11; 80/820; 1/2; nothing: the first learns, the others are what the boxes' best ones make of them.
    assert found.gt_inds.tolist() == [1, 3, 2, -1] and found.labels.tolist() == [0, 2, 1, -1]
    plain = MaxIoUAssigner(0.6, 0.5, match_low_quality=False).assign(Instances(priors=PRIORS), boxes)
    assert plain.gt_inds.tolist() == [1, 0, -1, 0]
    # Two boxes want the same prior: the last one gets it.
    twice = MaxIoUAssigner(0.9, 0.1).assign(Instances(priors=PRIORS), truth([0, 0, 5, 10], [0, 0, 4, 10]))
    assert twice.gt_inds.tolist() == [2, 0, 0, 0]


def test_repeated_boxes_are_moved_apart() -> None:
    boxes = truth([0, 0, 100, 100], [0, 0, 100, 100], [50, 50, 90, 90])
    moved = moved_apart(boxes.bboxes, BboxOverlaps2D(), perm_range=0.01, generator=torch.Generator().manual_seed(0))
    assert torch.equal(moved[2], boxes.bboxes[2]) and not torch.equal(moved[0], moved[1])
    assert BboxOverlaps2D()(moved[:2], boxes.bboxes[:1]).min() >= 0.97
    torch.manual_seed(0)
    assigner = MaxIoUAssigner(0.5, 0.5, perm_repeat_gt_cfg={"iou_thr": 0.97, "perm_range": 0.01})
    priors = torch.rand(4000, 4) * 2 + torch.tensor([-1.0, -1.0, 99.0, 99.0])
    assert set(assigner.assign(Instances(priors=priors), boxes).gt_inds.unique().tolist()) >= {1, 2}


def test_core_and_shadow_by_hand() -> None:
    priors = torch.tensor([[4.0, 4.0, 6.0, 6.0], [0.0, 4.0, 2.0, 6.0], [14.0, 14.0, 16.0, 16.0], [1.0, 1.0, 3.0, 3.0]])
    assigner = CenterRegionAssigner(pos_scale=0.2, neg_scale=0.8)
    big, small = [0.0, 0, 10, 10], [3.0, 3, 7, 7]
    found = assigner.assign(Instances(priors=priors), truth(big))
    assert found.gt_inds.tolist() == [1, 0, 0, 0] and found.labels.tolist() == [0, -1, -1, -1]
    assert found.get_extra_property("shadowed_labels").tolist() == [[1, 0], [3, 0]]
    both = assigner.assign(Instances(priors=priors), truth(small, big, labels=[5, 7]))
    assert both.gt_inds[0] == 1 and [0, 7] in both.get_extra_property("shadowed_labels").tolist()
    same = assigner.assign(Instances(priors=priors), truth(small, big, labels=[5, 5]))
    assert same.gt_inds[0] == 0 and same.labels[0] == -1
    kept = CenterRegionAssigner(0.2, 0.8, foreground_dominate=True).assign(
        Instances(priors=priors), truth(small, big, labels=[5, 5])
    )
    assert kept.gt_inds[0] == 1 and [0, 5] not in kept.get_extra_property("shadowed_labels").tolist()
    ignored = assigner.assign(Instances(priors=priors), truth(big), truth([0, 0, 11, 11]))
    assert ignored.gt_inds.tolist() == [-1, 0, 0, 0]
    none = assigner.assign(Instances(priors=priors), truth())
    assert not none.gt_inds.any() and none.get_extra_property("shadowed_labels").shape == (0, 2)


def test_regions_by_hand() -> None:
    # 8 x 8 cells of 4 pixels with squares of 16, and 4 x 4 cells of 8 with squares of 32.
    grid = AnchorGenerator([4, 8], [1.0], [4.0], center_offset=0.5)
    levels = grid.grid_priors([(8, 8), (4, 4)])
    given = Instances(priors=torch.cat(levels), valid_flags=torch.ones(80, dtype=torch.bool))
    meta = {"img_shape": (32, 32)}
    found = RegionAssigner().assign(
        given, truth([8, 8, 24, 24]), meta, [(8, 8), (4, 4)], [64, 16], 4, [4, 8], allowed_border=-1
    )
    fine, coarse = found.gt_inds[:64].view(8, 8), found.gt_inds[64:].view(4, 4)
    # The middle (ratio 0.2: 14.4 to 17.6 px) is cut to cell 4; cells 3 and 4 end and begin there.
    assert found.max_overlaps is None and set(fine.unique().tolist()) == {-1, 0}
    assert (fine == -1).nonzero().tolist() == [[r, c] for r in (3, 4) for c in (3, 4)]
    assert not (coarse == -1).any()  # the surroundings (12 to 20 px) are cut to the corner between four cells
    larger = RegionAssigner().assign(
        given, truth([4, 4, 28, 28]), meta, [(8, 8), (4, 4)], [64, 16], 4, [4, 8], allowed_border=-1
    )
    fine, coarse = larger.gt_inds[:64].view(8, 8), larger.gt_inds[64:].view(4, 4)
    assert (fine == -1).nonzero().tolist() == [[r, c] for r in range(2, 6) for c in range(2, 6)]
    assert (coarse == -1).nonzero().tolist() == [[r, c] for r in (1, 2) for c in (1, 2)]
    wide = RegionAssigner(center_ratio=0.5).assign(
        given, truth([8, 8, 24, 24]), meta, [(8, 8), (4, 4)], [64, 16], 4, [4, 8], allowed_border=-1
    )
    assert (wide.gt_inds[:64].view(8, 8) == 1).nonzero().tolist() == [[r, c] for r in (3, 4) for c in (3, 4)]
    assert wide.labels[64:].tolist() == [0] * 16
    inside = RegionAssigner().assign(given, truth([8, 8, 24, 24]), meta, [(8, 8), (4, 4)], [64, 16], 4, [4, 8])
    assert inside.gt_inds[0] == -1  # the first square begins before the picture
    with pytest.raises(ValueError, match="cannot ignore boxes"):
        RegionAssigner().assign(given, truth(), meta, [], [], 4, [4], gt_instances_ignore=truth())


def test_one_prediction_or_more_for_a_box() -> None:
    boxes = truth([0, 0, 10, 10], [0, 10, 10, 20])
    scores = torch.full((4, 2), 0.5)
    found = TopkHungarianAssigner(topk=9).assign(scores, PRIORS, boxes.bboxes, boxes.labels, {"img_shape": (40, 40)})
    # Four predictions, two boxes: two each at most, the nearest first.
    assert found.gt_inds.tolist()[0] == 1 and found.gt_inds.tolist()[2] == 2
    assert sorted(found.gt_inds.tolist()) == [1, 1, 2, 2] and len(found.assign_metrics) == 4
    assert found.assign_metrics[0].item() == 0.5 and found.max_overlaps is not None
    none = TopkHungarianAssigner(topk=9).assign(scores, PRIORS, boxes.bboxes[:0], boxes.labels[:0], {})
    assert none.gt_inds.tolist() == [0] * 4
    with pytest.raises(ValueError, match="match_costs is empty"):
        HungarianAssigner([])


def test_two_boxes_for_a_proposal() -> None:
    boxes = truth([0, 0, 10, 10], [0, 0, 10, 8])
    found = MultiInstanceAssigner(0.5, 0.5).assign(Instances(priors=PRIORS), boxes)
    assert found.gt_inds.shape == (6, 2) and found.gt_inds[0].tolist() == [0, 1]
    assert found.labels.tolist() == [[1, 1], [0, 0], [0, 0], [0, 0], [1, 1], [1, 1]]
    lost = MultiInstanceAssigner(0.5, 0.5).assign(
        Instances(priors=PRIORS), truth([0, 0, 10, 10]), Instances(bboxes=torch.tensor([[28.0, 28.0, 44.0, 44.0]]))
    )
    assert lost.labels[3].tolist() == [-1, 0]
    assert MultiInstanceAssigner(0.5, 0.5).assign(Instances(priors=PRIORS), truth()).labels.tolist() == [[0, 0]] * 4


BUILT = {
    "max_iou": (MaxIoUAssigner(0.5, 0.4), {}),
    "grid": (GridAssigner(0.5, 0.5), {}),
    "atss": (ATSSAssigner(9), {"num_level_priors": [3, 1]}),
    "task_aligned": (TaskAlignedAssigner(13), {}),
    "point": (PointAssigner(), {}),
    "sim_ota": (SimOTAAssigner(), {}),
    "soft_label": (DynamicSoftLabelAssigner(), {}),
    "uniform": (UniformAssigner(0.15, 0.7), {}),
    "core": (CenterRegionAssigner(0.2, 0.8), {}),
}


@pytest.mark.parametrize("name", BUILT)
@pytest.mark.parametrize("boxes, priors", [(0, 4), (2, 0), (2, 4), (0, 0)])
def test_few_priors_and_no_boxes(name: str, boxes: int, priors: int) -> None:
    assigner, extra = BUILT[name]
    given = Instances(
        priors=PRIORS[:priors] if name != "point" else PRIORS[:priors, :3] + torch.tensor([0.0, 0.0, 8.0]),
        bboxes=PRIORS[:priors],
        decoder_priors=PRIORS[:priors],
        scores=torch.full((priors, 3), 0.5),
        responsible_flags=torch.ones(priors),
    )
    if name in ("sim_ota", "soft_label"):
        given.priors = torch.tensor([[5.0, 5.0, 8.0, 8.0]] * priors).reshape(-1, 4)
    if extra and not priors:
        extra = {"num_level_priors": [0]}
    result = assigner.assign(given, truth([0, 0, 10, 10], [0, 0, 12, 12])[:boxes], **extra)
    assert result.gt_inds.shape == result.labels.shape == (priors,) and result.num_preds == priors
    assert ((result.gt_inds > 0) == (result.labels >= 0)).all()
    assert result.num_gts == boxes
    if not boxes:
        assert not result.gt_inds.any()
