"""From scored boxes to detections."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from hatdet.models.mmdet import post
from hatdet.models.mmdet.instances import Instances
from tests.helpers.components import case, names, reference


@pytest.mark.parametrize("name", names("post"))
def test_reference(name: str) -> None:
    kept = case("post", name)
    given: dict[str, Any] = {**kept["inputs"], **kept["args"]}
    wanted = kept["outputs"]
    if kept["type"] == "multiclass_nms":
        given["return_inds"] = True
    found = getattr(post, kept["type"])(**given)
    got = dict(zip(wanted, found if isinstance(found, tuple) else (found,), strict=True))
    for key, want in wanted.items():
        assert got[key].shape == want.shape and reference().same(got[key], want, 1e-6), key


BOXES = torch.tensor([[0.0, 0, 9, 9], [0, 0, 9, 4], [20, 20, 29, 29], [0, 0, 9, 8]])
SCORES = torch.tensor([0.6, 0.9, 0.5, 0.7])
NO_BOXES = torch.zeros(0, 4)


def test_hard_ones_by_hand() -> None:
    assert post.nms(BOXES, SCORES, 0.45)[1].tolist() == [1, 0, 2]  # box 3 overlaps box 1 by 4/8, box 0 by 4/9
    assert post.nms(BOXES, SCORES, 0.5)[1].tolist() == [1, 3, 2]
    assert post.nms(BOXES, SCORES, 0.5, offset=1)[1].tolist() == [1, 0, 2]  # 5/9 and 5/10
    assert post.nms(BOXES, SCORES, 0.5, score_threshold=0.5)[1].tolist() == [1, 3]
    dets, keep = post.nms(BOXES, SCORES, 0.5, max_num=1)
    assert keep.tolist() == [1] and dets.tolist() == [[0, 0, 9, 4, pytest.approx(0.9)]]
    assert post.nms(NO_BOXES, SCORES[:0], 0.5)[0].shape == (0, 5)


def test_soft_ones_by_hand() -> None:
    dets, keep = post.soft_nms(BOXES, SCORES, 0.5, method="naive")
    assert keep.tolist() == [1, 0, 2]  # box 3 overlaps box 1 by a half: dropped, from the threshold on
    dets, keep = post.soft_nms(BOXES, SCORES, 0.4, method="linear")
    assert keep.tolist()[:2] == [1, 2]
    torch.testing.assert_close(dets[2:, 4], torch.tensor([0.7 * 0.5, 0.6 * (5 / 9) * (1 / 9)]))
    gaussian, keep = post.soft_nms(BOXES[:2], SCORES[:2], sigma=1.0, method="gaussian")
    assert gaussian[1, 4].item() == pytest.approx(0.6 * 2.718281828 ** -((4 / 9) ** 2))
    low, keep = post.soft_nms(BOXES, SCORES, min_score=0.95)
    assert keep.tolist() == [1] and low[0, 4].item() == pytest.approx(0.9)  # the best one stays
    assert post.soft_nms(NO_BOXES, SCORES[:0])[0].shape == (0, 5)
    with pytest.raises(ValueError, match="unknown method 'greedy'; write one of naive, linear, gaussian"):
        post.soft_nms(BOXES, SCORES, method="greedy")


def test_classes_by_hand() -> None:
    labels = torch.tensor([0, 1, 0, 1])
    for cfg in ({"type": "nms", "iou_threshold": 0.3}, {"type": "soft_nms", "iou_thr": 0.3, "method": "naive"}):
        assert post.batched_nms(BOXES, SCORES, labels, cfg)[1].tolist() == [1, 0, 2]
        assert post.batched_nms(BOXES, SCORES, labels, cfg, class_agnostic=True)[1].tolist() == [1, 2]
        assert post.batched_nms(BOXES, SCORES, labels, {**cfg, "class_agnostic": True, "max_num": 1})[1].tolist() == [1]
        assert post.batched_nms(BOXES, SCORES, labels, {**cfg, "max_num": 2, "split_thr": 2})[1].tolist() == [1, 0]
    dets, keep = post.batched_nms(BOXES, SCORES, labels, None)
    assert keep.tolist() == [1, 3, 0, 2] and dets.shape == (4, 5)
    with pytest.raises(ValueError, match="unknown type 'nms_rotated' of nms"):
        post.batched_nms(BOXES, SCORES, labels, {"type": "nms_rotated"})


def test_all_classes_of_a_picture() -> None:
    scores = torch.tensor([[0.9, 0.2, 0.0], [0.3, 0.8, 0.0]])
    boxes = torch.tensor([[0.0, 0, 9, 9], [0, 0, 9, 8]])
    dets, labels, index = post.multiclass_nms(boxes, scores, 0.25, {"iou_threshold": 0.5}, return_inds=True)
    assert labels.tolist() == [0, 1] and index.tolist() == [0, 3] and dets[:, 4].tolist() == pytest.approx([0.9, 0.8])
    weighed, labels = post.multiclass_nms(
        boxes, scores, 0.25, {"iou_threshold": 0.5}, score_factors=torch.tensor([0.1, 1.0])
    )
    assert labels.tolist() == [1, 0] and weighed[:, 4].tolist() == pytest.approx([0.8, 0.3])
    assert post.multiclass_nms(boxes[:0], scores[:0], 0.25, {"iou_threshold": 0.5})[0].shape == (0, 5)
    fast = post.fast_nms(boxes[:0], scores[:0], scores[:0], 0.1, 0.5, 10)
    assert fast[0].shape == (0, 5) and fast[2].shape == (0, 3)
    dets, labels = post.multiclass_nms(torch.zeros(0, 8), torch.zeros(0, 3), 0.1, {"iou_threshold": 0.5})
    assert dets.shape == (0, 5) and labels.shape == (0,)


@pytest.mark.parametrize("kernel, factor", [("linear", 0.5), ("gaussian", 2.718281828**-0.5)])
def test_masks_by_hand(kernel: str, factor: float) -> None:
    masks = torch.tensor([[[1, 1, 0, 0]], [[1, 1, 1, 1]], [[1, 1, 1, 1]]])
    labels, scores = torch.tensor([3, 3, 4]), torch.tensor([0.8, 0.6, 0.1])
    lowered, kept, found, index = post.mask_matrix_nms(masks, labels, scores, kernel=kernel)
    torch.testing.assert_close(lowered, torch.tensor([0.8, 0.6 * factor, 0.1]))
    assert kept.tolist() == [3, 3, 4] and torch.equal(found, masks) and index.tolist() == [0, 1, 2]
    assert post.mask_matrix_nms(masks, labels, scores, filter_thr=0.2, max_num=1)[3].tolist() == [0]
    assert post.mask_matrix_nms(masks, labels, scores, nms_pre=2)[3].tolist() == [0, 1]
    assert post.mask_matrix_nms(masks, labels, scores, filter_thr=0.9)[2].shape == (0, 1, 4)
    assert post.mask_matrix_nms(masks[:0], labels[:0], scores[:0])[0].shape == (0,)
    with pytest.raises(ValueError, match="unknown kernel 'cubic'"):
        post.mask_matrix_nms(masks, labels, scores, kernel="cubic")


PLAIN = {"img_shape": (20, 40), "scale_factor": (1.0, 1.0), "flip": False, "flip_direction": None}
MIRRORED = {"img_shape": (40, 80), "scale_factor": (2.0, 2.0), "flip": True, "flip_direction": "horizontal"}


def test_merging_by_hand() -> None:
    box = torch.tensor([[2.0, 4.0, 10.0, 8.0]])
    seen = torch.tensor([[60.0, 8.0, 76.0, 16.0]])  # the same, mirrored, twice as large
    assert post.bbox_mapping_back(seen, (40, 80), 2.0, True).tolist() == box.tolist()
    assert post.bbox_mapping_back(box, (20, 40), (1, 2), True, "diagonal").tolist() == [[30, 6, 38, 8]]
    boxes, scores = post.merge_aug_bboxes(
        [box, seen], [torch.tensor([[0.2]]), torch.tensor([[0.4]])], [[PLAIN], [MIRRORED]]
    )
    assert boxes.tolist() == box.tolist() and scores.tolist() == [[pytest.approx(0.3)]]
    score = torch.tensor([[0.9]])
    proposals = [torch.cat((box, score), 1), torch.cat((seen, score / 2), 1)]
    merged = post.merge_aug_proposals(proposals, [PLAIN, MIRRORED], {"nms": {"iou_threshold": 0.7}, "max_per_img": 5})
    assert merged.tolist() == [[2, 4, 10, 8, pytest.approx(0.9)]]
    one = post.merge_aug_proposals(proposals, [PLAIN, PLAIN], {"nms_thr": 0.7, "max_num": 1})
    assert len(one) == 1
    results = [[Instances(bboxes=box, labels=torch.tensor([1]))], [Instances(bboxes=seen, labels=torch.tensor([2]))]]
    together = post.merge_aug_results(results, [[PLAIN], [MIRRORED]])
    assert together[0].bboxes.tolist() == box.tolist() * 2 and together[0].labels.tolist() == [1, 2]
    mask = torch.tensor([[[0.0, 1.0]]])
    assert post.merge_aug_masks([mask, mask], {"flip": True, "flip_direction": "horizontal"}).tolist() == [[[1, 0]]]
    weighed = post.merge_aug_masks([mask, mask * 4], {}, [3.0, 1.0])
    assert weighed.tolist() == [[[0, pytest.approx(7 / 4)]]]
    with pytest.raises(ValueError, match="unknown flip_direction 'up'"):
        post.bbox_mapping_back(box, (20, 40), 1.0, True, "up")
