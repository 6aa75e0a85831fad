"""Boxes as networks regress them."""

from __future__ import annotations

import math

import pytest
import torch

from hatdet.models.mmdet.coders.bucketing import BucketingBBoxCoder
from hatdet.models.mmdet.coders.delta import DeltaXYWHBBoxCoder, DeltaXYWHBBoxCoderForGLIP, LegacyDeltaXYWHBBoxCoder
from hatdet.models.mmdet.coders.distance import DistancePointBBoxCoder, TBLRBBoxCoder
from hatdet.models.mmdet.coders.yolo import YOLOBBoxCoder
from tests.helpers.components import case, made, names, reference

PRIORS = torch.tensor([[0.0, 0.0, 10.0, 20.0], [10.0, 10.0, 14.0, 18.0]])
BOXES = torch.tensor([[2.0, 0.0, 12.0, 40.0], [8.0, 6.0, 12.0, 30.0]])


def tuples(value: object) -> object:
    return tuple(map(tuples, value)) if isinstance(value, (list, tuple)) else value


@pytest.mark.parametrize("name", names("coders"))
def test_reference(name: str) -> None:
    kept = case("coders", name)
    given, coder = kept["inputs"], made(kept["args"], kept["type"])
    extra, behind = {}, {}
    if "stride" in given:
        extra, behind = {"stride": given["stride"]}, {"stride": given["stride"][:, None]}
    got = {"encode": coder.encode(given["bboxes"], given["gt_bboxes"], **extra, **given.get("encode_kwargs", {}))}
    for key, kwargs in given.get("decode_kwargs", {"decode": {}}).items():
        got[key] = coder.decode(given["bboxes"], given["pred"], **behind, **kwargs)
    assert set(got) == set(kept["outputs"])
    for key, want in kept["outputs"].items():
        assert reference().same(tuples(got[key]), tuples(want), 1e-6), key


@pytest.mark.parametrize(
    "coder",
    [
        DeltaXYWHBBoxCoder((0.1, 0.0, 0.2, 0.0), (0.1, 0.1, 0.2, 0.2), clip_border=False),
        TBLRBBoxCoder(normalizer=(1.0, 2.0, 3.0, 4.0)),
        YOLOBBoxCoder(),
    ],
)
def test_there_and_back(coder: DeltaXYWHBBoxCoder) -> None:
    extra = {"stride": 64} if isinstance(coder, YOLOBBoxCoder) else {}
    torch.testing.assert_close(coder.decode(PRIORS, coder.encode(PRIORS, BOXES, **extra), **extra), BOXES)
    assert coder.decode(PRIORS[:0], coder.encode(PRIORS[:0], BOXES[:0], **extra), **extra).shape == (0, 4)
    assert coder.encode_size == 4


def test_deltas_by_hand() -> None:
    coder = DeltaXYWHBBoxCoder()
    want = torch.tensor([[0.2, 0.5, 0.0, math.log(2)], [-0.5, 0.5, 0.0, math.log(3)]])
    torch.testing.assert_close(coder.encode(PRIORS, BOXES), want)
    assert coder.decode(PRIORS, torch.cat((want, want), dim=1), (30, 11))[0].tolist() == [2, 0, 11, 30] * 2
    both = coder.decode(torch.stack((PRIORS, PRIORS)), torch.stack((want, want)), ((30, 11), (99, 99)))
    assert both[0, 0].tolist() == [2, 0, 11, 30] and both[1, 0].tolist() == pytest.approx([2, 0, 12, 40])
    assert DeltaXYWHBBoxCoder(add_ctr_clamp=True, ctr_clamp=1).decode(PRIORS, want)[0].tolist() == pytest.approx(
        [1, -9, 11, 31]
    )
    huge = torch.full((2, 4), 50.0)
    sides = DeltaXYWHBBoxCoder().decode(PRIORS, huge)
    assert (sides[0, 2] - sides[0, 0]).item() == pytest.approx(10 / 0.016)


def test_pixels_of_the_first_version() -> None:
    coder = LegacyDeltaXYWHBBoxCoder()
    want = torch.tensor([[2 / 11, 10 / 21, 0.0, math.log(41 / 21)]])
    torch.testing.assert_close(coder.encode(PRIORS[:1], BOXES[:1]), want)
    # As MMDetection has it: a box that is decoded is one pixel larger than the one that was encoded.
    torch.testing.assert_close(coder.decode(PRIORS[:1], want), torch.tensor([[1.5, -0.5, 12.5, 40.5]]))
    assert coder.decode(PRIORS[:1], want, (30, 11)).tolist() == [[1.5, 0.0, 10.0, 29.0]]
    glip = DeltaXYWHBBoxCoderForGLIP()
    assert glip.decode(PRIORS[:1], torch.zeros(1, 4)).tolist() == [[0, 0, 9, 19]]
    assert glip.decode(PRIORS[:1], torch.zeros(1, 4), (9, 9)).tolist() == [[0, 0, 8, 8]]


def test_distances_by_hand() -> None:
    coder = DistancePointBBoxCoder()
    points = torch.tensor([[5.0, 10.0]])
    assert coder.encode(points, BOXES[:1]).tolist() == [[3, 10, 7, 30]]
    torch.testing.assert_close(coder.encode(points, BOXES[:1], max_dis=8.0), torch.tensor([[3, 7.9, 7, 7.9]]))
    assert coder.decode(points, torch.tensor([[6.0, 10, 7, 30]]), (30, 11)).tolist() == [[0, 0, 11, 30]]
    assert DistancePointBBoxCoder(clip_border=False).decode(
        points, torch.tensor([[6.0, 1, 7, 3]]), (9, 9)
    ).tolist() == [[-1, 9, 12, 13]]


def test_buckets_by_hand() -> None:
    # Four strips of 10 each way; two for each side, with centres at 5 and 15 from it.
    coder = BucketingBBoxCoder(4, 1.0)
    offsets, weights, labels, counted = coder.encode(
        torch.tensor([[0.0, 0.0, 40.0, 40.0]]), torch.tensor([[6.0, 0.0, 37.0, 26.0]])
    )
    torch.testing.assert_close(offsets, torch.tensor([[-0.1, 0.9, -0.2, -1.2, 0.5, 1.5, 0.9, -0.1]]))
    assert weights.tolist() == [[1, 1, 1, 0, 1, 0, 1, 1]]
    assert labels.tolist() == [[1, 0, 1, 0, 1, 0, 0, 1]]
    assert counted.tolist() == [[1, 0, 1, 1, 1, 1, 0, 1]]
    boxes, sure = coder.decode(torch.tensor([[0.0, 0.0, 40.0, 40.0]]), (labels * 50, offsets), (40, 20))
    torch.testing.assert_close(boxes, torch.tensor([[6.0, 0.0, 19.0, 26.0]]))
    torch.testing.assert_close(sure, torch.ones(1))


def test_of_equal_buckets_the_first_counts() -> None:
    """Three strips a side of 10; the neighbour of the likeliest adds to how sure it is, another strip does not."""
    coder = BucketingBBoxCoder(6, 1.0)
    prior, log2 = torch.tensor([[0.0, 0.0, 60.0, 60.0]]), math.log(2)
    logits = torch.tensor([[0.0, 0.0, 0.0], [0.0, log2, 0.0], [log2, 0.0, log2], [0.0, log2, 2 * log2]])
    # shares: thirds; 1/4, 1/2, 1/4; 2/5, 1/5, 2/5 (the second best is no neighbour); 1/7, 2/7, 4/7
    boxes, sure = coder.decode(prior, (logits.view(1, 12), torch.zeros(1, 12)))
    torch.testing.assert_close(boxes, torch.tensor([[5.0, 5.0, 45.0, 35.0]]))
    torch.testing.assert_close(sure, torch.tensor([(2 / 3 + 3 / 4 + 2 / 5 + 6 / 7) / 4]))
    nothing = coder.decode(prior[:0], (logits.view(1, 12)[:0], torch.zeros(0, 12)))
    assert nothing[0].shape == (0, 4) and nothing[1].shape == (0,)


def test_what_coders_refuse() -> None:
    with pytest.raises(ValueError, match="4 numbers each"):
        DeltaXYWHBBoxCoder((0.0,))
    with pytest.raises(ValueError, match="normalizer is a number or 4 numbers"):
        TBLRBBoxCoder((1.0, 2.0))
    with pytest.raises(ValueError, match="use_box_type"):
        YOLOBBoxCoder(use_box_type=True)
