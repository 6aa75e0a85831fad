"""What heads of points, of quality and of corners are made of, with numbers that can be checked by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from hatdet.models.mmdet import exact
from hatdet.models.mmdet.heads.assignment import Targets
from hatdet.models.mmdet.heads.base import Truth
from hatdet.models.mmdet.heads.keypoint.corner_pool import CornerPool
from hatdet.models.mmdet.heads.keypoint.gaussian import (
    gaussian_radius,
    gen_gaussian_target,
    get_local_maximum,
    get_topk_from_heatmap,
    last_at,
    transpose_and_gather_feat,
)
from hatdet.models.mmdet.heads.point.fcos_targets import centerness_of, fcos_targets
from hatdet.models.mmdet.heads.point.reppoints_geometry import box_grid, square, to_boxes
from hatdet.models.mmdet.heads.point.yolox import YOLOXHead
from hatdet.models.mmdet.heads.prediction import Candidates, best_priors, vote
from hatdet.models.mmdet.heads.quality.gaussian_mixture import COVARIANCES, fit_two
from hatdet.models.mmdet.heads.quality.gfl import Integral
from hatdet.models.mmdet.heads.quality.tood_parts import TaskDecomposition, normalized_alignment
from hatdet.utils.errors import RegistryError
from tests.helpers.components import made
from tests.unit.models.mmdet.test_heads_without_boxes import BOXES, HEADS, META, NOTHING, features, head_of


def test_a_radius_keeps_the_overlap() -> None:
    (radius,) = gaussian_radius(torch.tensor([[10.0, 20.0]]), min_overlap=0.5).tolist()
    alike = 200 / ((10 + radius) * (20 + radius))  # grown at both corners by half of it on each side
    shifted = (10 - radius) * (20 - radius)
    assert shifted / (400 - shifted) >= 0.5 - 1e-9 and alike >= 0.5


def test_heat_falls_off_and_the_higher_counts() -> None:
    heat = gen_gaussian_target(
        (2, 5, 6), torch.tensor([0, 0, 1]), torch.tensor([[1, 1], [3, 1], [0, 4]]), torch.tensor([1, 1, 0])
    )
    side = math.exp(-1 / (2 * 0.5**2))
    assert heat[0, 1].tolist() == pytest.approx([side, 1, side, 1, side, 0])
    assert float(heat[0, 0, 0]) == pytest.approx(math.exp(-2 / (2 * 0.5**2)))
    assert int((heat[1] > 0).sum()) == 1 and float(heat[1, 4, 0]) == 1
    none = torch.zeros(0, dtype=torch.long)
    assert not gen_gaussian_target((1, 2, 2), none, torch.zeros((0, 2), dtype=torch.long), none).any()


def test_the_last_has_the_place() -> None:
    assert last_at(torch.tensor([2, 0, 2]), 4).tolist() == [1, -1, 2, -1]


def test_peaks_of_a_map_that_is_not_square() -> None:
    heat = torch.tensor([[[[0.1, 0.9, 0.2], [0.3, 0.4, 0.5]], [[0.8, 0.0, 0.0], [0.0, 0.0, 0.7]]]])
    scores, places, classes, ys, xs = get_topk_from_heatmap(get_local_maximum(heat), 3)
    assert scores[0].tolist() == pytest.approx([0.9, 0.8, 0.7]) and places[0].tolist() == [1, 0, 5]
    assert classes[0].tolist() == [0, 1, 1] and ys[0].tolist() == [0, 0, 1] and xs[0].tolist() == [1, 0, 2]
    assert transpose_and_gather_feat(heat, places)[0, 2].tolist() == pytest.approx([0.5, 0.7])


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("top", [[3, 5], [3, 5], [2, 5]]),
        ("bottom", [[1, 4], [3, 4], [3, 5]]),
        ("left", [[4, 4], [3, 0], [5, 5]]),
        ("right", [[1, 4], [3, 3], [2, 5]]),
    ],
)
def test_corner_pools(mode: str, expected: list[list[int]]) -> None:
    assert CornerPool(mode)(torch.tensor([[[[1, 4], [3, 0], [2, 5]]]]))[0, 0].tolist() == expected


def test_a_point_learns_the_smallest_box_that_fits() -> None:
    points = torch.tensor([[10.0, 10.0], [30.0, 10.0], [90.0, 90.0], [50.0, 20.0]])
    truth = Truth(torch.tensor([[0.0, 0.0, 60.0, 40.0], [4.0, 4.0, 20.0, 16.0]]), torch.tensor([1, 0]))
    ranges = torch.tensor([[-1.0, 100.0]]).repeat(4, 1)
    labels, distances = fcos_targets(points, ranges, truth, 3)
    assert labels.tolist() == [0, 1, 3, 1]
    assert distances[0].tolist() == [6, 6, 10, 6] and distances[1].tolist() == [30, 10, 30, 30]
    labels, _ = fcos_targets(points, ranges, truth, 3, reach=torch.full((4,), 12.0))
    assert labels.tolist() == [0, 1, 3, 3]  # the last is 20 pixels from the centre
    assert fcos_targets(points, torch.tensor([[0.0, 9.0]]).repeat(4, 1), truth, 3)[0].tolist() == [3, 3, 3, 3]
    assert centerness_of(torch.tensor([[1.0, 3.0, 4.0, 3.0]])).tolist() == [0.5]


def test_points_and_their_boxes() -> None:
    assert square(9)[0, :6, 0, 0].tolist() == [-1, -1, -1, 0, -1, 1]
    points = torch.tensor([[0.0, 1.0, 2.0, 3.0, -1.0, 5.0, 1.0, 1.0, 9.0, -9.0]])  # (y, x) five times
    assert to_boxes(points, "minmax")[0].tolist() == [-9, -1, 5, 9]
    assert to_boxes(points, "partial_minmax")[0].tolist() == [1, -1, 5, 2]
    assert to_boxes(points, "minmax", y_first=False)[0].tolist() == [-1, -9, 9, 5]
    box = to_boxes(torch.tensor([[0.0, 0.0, 2.0, 4.0]]), "moment", torch.tensor([math.log(2), 0.0]))[0].tolist()
    assert box == pytest.approx([2 - 2 * 8**0.5, 1 - 2**0.5, 2 + 2 * 8**0.5, 1 + 2**0.5])
    with pytest.raises(RegistryError, match="num_points=8; write an odd square"):
        made({**HEADS["RepPointsHead"], "num_points": 8}, "RepPointsHead")


def test_a_grid_in_a_moved_box() -> None:
    values = torch.tensor([0.5, 0.0, math.log(2), 0.0]).view(1, 4, 1, 1)
    grid, box = box_grid(values, torch.tensor([0.0, 0.0, 4.0, 2.0]).view(1, 4, 1, 1), 3)
    assert box.flatten().tolist() == pytest.approx([0, 0, 8, 2])
    assert grid.flatten().tolist() == pytest.approx([0, 0, 0, 4, 0, 8, 1, 0, 1, 4, 1, 8, 2, 0, 2, 4, 2, 8])


def test_initial_distance_gives_yolox_s_untrained_boxes_a_size() -> None:
    torch.manual_seed(0)
    head = YOLOXHead(num_classes=2, in_channels=8, feat_channels=8, strides=(8, 16), initial_distance=2.0).eval()
    maps = head.levels(head([torch.zeros(1, 8, side, side) for side in (2, 1)]))
    boxes, _ = head.boxes_and_scores(*maps)
    expected = torch.tensor(
        [[-12.0, -12.0, 20.0, 20.0], [-4.0, -12.0, 28.0, 20.0]]
    )  # two strides around (4, 4), (12, 4)
    assert torch.allclose(boxes[0, :2], expected, atol=1.0)
    assert torch.allclose(boxes[0, 4], torch.tensor([-24.0, -24.0, 40.0, 40.0]), atol=2.0)
    with pytest.raises(ValueError, match="initial_distance must be above 0, got 0"):
        YOLOXHead(num_classes=2, in_channels=8, initial_distance=0)


def test_what_yolox_learns_is_what_it_says() -> None:
    cells = torch.tensor([[16.0, 8.0, 8.0, 8.0]])
    boxes = torch.tensor([[10.0, 4.0, 30.0, 24.0]])
    assert torch.allclose(YOLOXHead.decode(cells, YOLOXHead._l1_targets(boxes, cells)), boxes, atol=1e-4)


def test_means_of_distances() -> None:
    logits = torch.full((1, 4, 5), -100.0)
    for edge, distance in enumerate((0, 1, 4, 2)):
        logits[0, edge, distance] = 0.0
    logits[0, 3, 3] = 0.0
    assert Integral(4)(logits.flatten(1))[0].tolist() == pytest.approx([0, 1, 4, 2.5])


@pytest.mark.parametrize("covariance", COVARIANCES)
def test_two_heaps_are_parted_in_sets_of_any_size(covariance: str) -> None:
    values = torch.tensor([[0.1, 0.2, 0.15, 3.0, 3.1], [1.0, 5.0, 5.2, 0.0, 0.0]])
    known = torch.tensor([[True] * 5, [True, True, True, False, False]])
    lower, densities = fit_two(values, known, covariance)
    assert lower[0].tolist() == [True, True, True, False, False] and lower[1, :3].tolist() == [True, False, False]
    assert int(densities[0, :3].argmax()) == 2
    assert torch.allclose(fit_two(values[1:, :3], known[1:, :3], covariance)[1], densities[1:, :3])


def test_boxes_move_to_their_neighbours() -> None:
    dets = torch.tensor([[0.0, 0.0, 10.0, 10.0], [5.0, 5.0, 5.0, 9.0]])
    boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 10.0, 8.0], [50.0, 50.0, 60.0, 60.0]])
    found = Candidates(boxes[[0, 1, 1, 2]], torch.tensor([0.9, 0.9, 0.8, 0.7]), torch.tensor([0, 0, 1, 0]))
    moved = vote(dets, torch.tensor([0, 0]), found)
    weight = math.exp(-(0.2**2) / 0.025)
    assert moved[0].tolist() == pytest.approx([0, 0, 10, (10 + 8 * weight) / (1 + weight)])
    assert moved[1].tolist() == [5, 5, 5, 9]  # without an area it overlaps nothing


def test_roots_are_the_nearest_numbers() -> None:
    values = torch.rand(100_000, generator=torch.Generator().manual_seed(0))
    assert np.array_equal(exact.sqrt(values).numpy(), np.sqrt(values.numpy()))


def test_nobody_votes_where_nothing_is_found() -> None:
    none = Candidates(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.long))
    assert vote(none.boxes, none.labels, none).shape == (0, 4)
    one = torch.tensor([[1.0, 2.0, 5.0, 8.0]])
    assert torch.equal(vote(one, torch.tensor([1]), Candidates(one, torch.tensor([0.3]), torch.tensor([1]))), one)


def test_equal_votes_count_alike() -> None:
    """Overlap 0.5 of either neighbour with the middle box, weights e**-10 of 1: the mean stays in the middle."""
    boxes = torch.tensor([[0.0, 0.0, 12.0, 4.0], [4.0, 0.0, 16.0, 4.0], [-4.0, 0.0, 8.0, 4.0]])
    found = Candidates(boxes, torch.full((3,), 0.5), torch.zeros(3, dtype=torch.long))
    assert vote(boxes[:1], torch.tensor([0]), found)[0].tolist() == pytest.approx([0, 0, 12, 4], abs=1e-6)
    weight = math.exp(-(0.5**2) / 0.025)
    found.scores[2] = 0.25
    assert vote(boxes[:1], torch.tensor([0]), found)[0, 0].item() == pytest.approx(
        (4 * weight - 4 * weight / 2) / (1 + 1.5 * weight), rel=1e-5
    )


def test_of_equal_priors_the_first_stay() -> None:
    scores = torch.tensor([[0.1, 0.5], [0.9, 0.0], [0.5, 0.2], [0.5, 0.5]])
    assert best_priors(scores, 2).tolist() == [0, 1] and best_priors(scores, 3).tolist() == [0, 1, 2]
    assert best_priors(scores, -1).tolist() == best_priors(scores, 9).tolist() == [0, 1, 2, 3]


def test_alignment_goes_to_the_best_overlap() -> None:
    targets = Targets(
        torch.tensor([0, 0, 2, 1]), torch.ones(4), torch.zeros(4, 4), torch.tensor([True, True, False, True]),
        torch.tensor([1, 1, -1, 0]), torch.tensor([0.5, 0.8, 0.9, 0.3]), torch.tensor([0.2, 0.1, 7.0, 0.05]), 3,
    )  # fmt: skip
    assert normalized_alignment(targets, 2).tolist() == pytest.approx([0.8, 0.4, 0, 0.3], abs=1e-5)
    targets.positive, targets.found = torch.zeros(4, dtype=torch.bool), torch.full((4,), -1)
    assert not normalized_alignment(targets, 0).any()


@pytest.mark.parametrize("norm_cfg", [None, {"type": "BN"}])
@pytest.mark.parametrize("conv_cfg", [None, {"type": "ConvWS"}])
def test_attention_to_features_is_attention_to_weights(
    conv_cfg: dict[str, Any] | None, norm_cfg: dict[str, Any] | None
) -> None:
    torch.manual_seed(0)
    part = TaskDecomposition(4, 3, 6, conv_cfg, norm_cfg).eval()
    feat = torch.randn(2, 12, 5, 7)
    weights = part.reduction_conv.conv.weight
    for picture in feat:
        attention = part.layer_attention(picture.mean(dim=(1, 2)).view(1, 12, 1, 1)).flatten().repeat_interleave(4)
        own = F.conv2d(picture[None], weights * attention.view(1, 12, 1, 1))
        norm = part.reduction_conv.norm
        own = own if norm is None else norm(own)
        assert torch.allclose(part(picture[None]), own.relu(), atol=1e-5)


@pytest.mark.parametrize(("size", "whole"), [((10, 24), 2), ((24, 10), 3), ((12, 15), 3), ((15, 12), 2)])
def test_a_radius_of_3_but_for_rounding_is_cut_as_it_is_rounded(size: tuple[int, int], whole: int) -> None:
    """The exact radius of 24 x 10 at an overlap of 0.3 is 3; products in another order give a little less."""
    (radius,) = gaussian_radius(torch.tensor([size], dtype=torch.float32), min_overlap=0.3)
    assert float(radius) == pytest.approx(3.0) and int(radius) == whole


def test_without_boxes_a_heatmap_is_empty() -> None:
    head: Any = head_of("CenterNetUpdateHead")
    heat, distances = head._targets(torch.rand(6, 2) * 90, [4, 2], NOTHING)
    assert not heat.any() and bool((distances < 0).all())


def test_first_scores_are_small() -> None:
    for name, layer, score in (
        ("FCOSHead", "conv_cls", 0.01), ("AutoAssignHead", "conv_cls", 0.02), ("GFLHead", "gfl_cls", 0.01),
        ("RepPointsHead", "reppoints_cls_out", 0.01), ("TOODHead", "tood_cls", 0.01), ("DDODHead", "atss_cls", 0.01),
    ):  # fmt: skip
        bias = getattr(head_of(name), layer).bias
        assert torch.sigmoid(bias).tolist() == pytest.approx([score] * len(bias), abs=1e-6), name
    peaks: Any = head_of("CornerHead")
    assert torch.sigmoid(peaks.tl_heat[0][-1].conv.bias).tolist() == pytest.approx([0.1] * 3)


def test_convolutions_of_levels_are_shared_and_normalizations_are_not() -> None:
    args = {**HEADS["RTMDetSepBNHead"], "share_conv": True, "use_depthwise": False}
    head = made(args, "RTMDetSepBNHead")
    assert head.cls_convs[0][1].conv is head.cls_convs[1][1].conv
    assert head.cls_convs[0][1].bn is not head.cls_convs[1][1].bn
    with pytest.raises(RegistryError, match="share_conv shares no depthwise convolutions"):
        made({**args, "use_depthwise": True}, "RTMDetSepBNHead")


def test_old_files_name_the_last_layers_by_the_method() -> None:
    head = head_of("FCOSHead")
    state = {
        name.replace("conv_cls.", "fcos_cls.").replace("conv_reg.", "fcos_reg."): value
        for name, value in head.state_dict().items()
    }
    state["fcos_cls.bias"] = torch.arange(3.0)
    other: Any = head_of("FCOSHead")
    other.load_state_dict(state)
    assert other.conv_cls.bias.tolist() == [0, 1, 2]


@pytest.mark.parametrize("name", ["VFNetHead", "RepPointsHead"])
def test_losses_ask_for_training_mode(name: str) -> None:
    head = head_of(name).eval()
    maps = head.outputs(features(head, 1))
    with pytest.raises(ValueError, match=r"call train\(\) before the forward pass"):
        head.loss_by_feat(*maps, truths=[NOTHING], metas=[{}])


@pytest.mark.parametrize(
    ("name", "wrong", "message"),
    [
        ("FCOSHead", {"conv_bias": "yes"}, "conv_bias is 'yes'; write True, False or 'auto'"),
        ("VFNetHead", {"bbox_norm_type": "pixel"}, "write 'reg_denom' or 'stride'"),
        ("TOODHead", {"anchor_type": "free"}, "write 'anchor_free' or 'anchor_based'"),
        ("RepPointsHead", {"transform_method": "max"}, "write one of minmax, partial_minmax, moment"),
        ("PAAHead", {"covariance_type": "round"}, "write one of full, tied, diag, spherical"),
        ("CentripetalHead", {"guiding_shift_channels": 3}, "a shift has two numbers"),
        ("CornerHead", {"init_cfg": {"type": "Normal"}}, "has first weights of its own"),
    ],
)
def test_what_arguments_may_not_be(name: str, wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(RegistryError, match=message):
        made({**HEADS[name], **wrong}, name)


def test_a_head_learns_nothing_of_itself() -> None:
    args = {key: value for key, value in HEADS["GFLHead"].items() if key != "type"}
    torch.manual_seed(0)
    head = made(args, "LDHead").train()
    maps = head.outputs(features(head, 2))
    given: dict[str, Any] = {"truths": [BOXES, NOTHING], "metas": [META, META]}
    own = head.loss_by_feat(*maps, **given, soft_targets=[level.detach() for level in maps[1]])
    other = head.loss_by_feat(*maps, **given, soft_targets=[level.detach() * -3 for level in maps[1]])
    assert sum(own["loss_ld"]).item() == pytest.approx(0, abs=1e-6) and sum(other["loss_ld"]).item() > 1e-5
    assert torch.equal(sum(own["loss_cls"]), sum(other["loss_cls"]))
    with pytest.raises(ValueError, match="give its maps as soft_targets, or take GFLHead"):
        head.loss_by_feat(*maps, **given)


def test_a_student_learns_what_the_teacher_assigns() -> None:
    student: Any = head_of("LADHead").train()
    teacher: Any = head_of("LADHead").train()
    for parameter in teacher.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    given: dict[str, Any] = {"truths": [BOXES, NOTHING], "metas": [META, META]}
    feats = features(student, 2)
    assignment = teacher.get_label_assignment(*teacher.outputs(feats), **given)
    assert 0 < assignment.count == len(assignment.index) == int((assignment.labels < 3).sum())
    maps = student.outputs(feats)
    taught = student.loss_by_feat(*maps, **given, label_assignment_results=assignment)
    assignment.labels = torch.full_like(assignment.labels, 3)
    assert not torch.equal(
        taught["loss_cls"], student.loss_by_feat(*maps, **given, label_assignment_results=assignment)["loss_cls"]
    )
