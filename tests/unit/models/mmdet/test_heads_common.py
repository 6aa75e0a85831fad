"""What dense heads share."""

import torch

from hatdet.models.mmdet.heads.common import (
    anchor_inside_flags,
    filter_scores_and_topk,
    flatten,
    images_to_levels,
    levels_to_images,
    multi_apply,
    select_single_mlvl,
    unmap,
)
from hatdet.models.mmdet.heads.prediction import Candidates, finish


def test_multi_apply_gives_one_list_of_each_result() -> None:
    assert multi_apply(lambda a, b, c: (a + b, a * c), [1, 2], [10, 20], c=3) == ([11, 22], [3, 6])


def test_levels_of_two_pictures() -> None:
    first, second = images_to_levels([torch.arange(5), torch.arange(10, 15)], [4, 1])
    assert first.tolist() == [[0, 1, 2, 3], [10, 11, 12, 13]] and second.tolist() == [[4], [14]]


def test_pictures_of_two_levels() -> None:
    fine, coarse = torch.arange(12.0).reshape(1, 2, 2, 3), torch.tensor([[[[50.0]], [[60.0]]]])
    (picture,) = levels_to_images([fine, coarse])
    assert picture.tolist() == [[0, 6], [1, 7], [2, 8], [3, 9], [4, 10], [5, 11], [50, 60]]


def test_flat_maps_go_through_the_priors_of_a_place_before_the_next_place() -> None:
    level = torch.arange(8.0).reshape(1, 4, 1, 2)  # 2 priors of 2 numbers at 2 places
    assert flatten(level, 2)[0].tolist() == [[0, 2], [4, 6], [1, 3], [5, 7]]


def test_unmap_fills_what_was_left_out() -> None:
    inside = torch.tensor([True, False, True])
    assert unmap(torch.tensor([3, 4]), 3, inside, fill=9).tolist() == [3, 9, 4]
    assert unmap(torch.ones(2, 2), 3, inside).tolist() == [[1, 1], [0, 0], [1, 1]]


def test_anchors_inside_a_picture_that_is_wider_than_high() -> None:
    anchors = torch.tensor([[0.0, 0, 19, 9], [0, 0, 20, 9], [-1, 0, 5, 5], [0, 0, 9, 10], [1, 1, 2, 2]])
    valid = torch.tensor([True, True, True, True, False])
    assert anchor_inside_flags(anchors, valid, (10, 20), 0).tolist() == [True, False, False, False, False]
    assert anchor_inside_flags(anchors, valid, (10, 20), 1).tolist() == [True, True, True, True, False]
    assert anchor_inside_flags(anchors, valid, (10, 20), -1).tolist() == valid.tolist()


def test_the_best_pairs_of_prior_and_class() -> None:
    scores = torch.tensor([[0.9, 0.1], [0.5, 0.6], [0.3, 0.5]])
    best, labels, priors, picked = filter_scores_and_topk(scores, 0.3, 3, {"a": torch.tensor([10, 11, 12])})
    assert torch.equal(best, torch.tensor([0.9, 0.6, 0.5]))
    assert labels.tolist() == [0, 1, 0] and priors.tolist() == [0, 1, 1] and picked["a"].tolist() == [10, 11, 11]
    assert len(filter_scores_and_topk(scores, 0.3, -1)[0]) == 4
    assert len(filter_scores_and_topk(scores, 0.95, 5)[0]) == 0


def test_one_picture_of_each_level() -> None:
    level = torch.arange(4.0, requires_grad=True).reshape(2, 2, 1, 1)
    (found,) = select_single_mlvl([level], 1)
    assert found.flatten().tolist() == [2, 3] and not found.requires_grad
    assert select_single_mlvl([level], 1, detach=False)[0].requires_grad


def test_candidates_lose_what_is_small_and_go_to_pixels_of_the_file() -> None:
    boxes = torch.tensor([[0.0, 0, 20, 10], [0, 0, 4, 40]])
    found = Candidates(boxes, torch.tensor([0.5, 0.8]), torch.tensor([1, 0]), factors=torch.tensor([0.5, 1.0]))
    detections = finish(found, {"min_bbox_size": 2}, {"scale_factor": (2.0, 4.0)}, rescale=True, with_nms=False)
    assert detections["boxes"].tolist() == [[0, 0, 10, 2.5]]
    assert detections["scores"].tolist() == [0.25] and detections["labels"].tolist() == [1]
