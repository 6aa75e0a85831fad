"""Steps of decoders by tables that only some models have, with numpy alone: the text stands after ``body.py``'s.

It imports nothing of hatdet and must not; ``_f32`` is that of ``../body.py``.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from hatdet.export.decoder.body import _f32

# --- the text that is taken begins here


def _in_order(parts: np.ndarray) -> np.ndarray:
    """Sums over the last dimension, one after the other."""
    total = parts[..., 0].copy()
    for number in range(1, parts.shape[-1]):
        total += parts[..., number]
    return total


# [if ordered]
def overlaps_of(box: np.ndarray, others: np.ndarray, least: float) -> np.ndarray:
    """float32 (n,): intersection over union of a box (4,) with others (n, 4); the union is at least ``least``."""
    low, high = np.maximum(box[:2], others[:, :2]), np.minimum(box[2:], others[:, 2:])
    sides = np.maximum(high - low, _f32(0))
    shared = sides[:, 0] * sides[:, 1]
    areas = (others[:, 2] - others[:, 0]) * (others[:, 3] - others[:, 1])
    own = (box[2] - box[0]) * (box[3] - box[1])
    return shared / np.maximum(own + areas - shared, _f32(least))


# [end]
# [if soft]
def soften(boxes: np.ndarray, scores: np.ndarray, groups: np.ndarray, model: dict[str, Any]) -> tuple[Any, np.ndarray]:
    """Indices of the boxes that stay, best first, and all scores, lowered by better boxes that overlap.

    Of equal scores the first is taken, and what falls out is replaced by the last: the order of a list without gaps.
    """
    left, order, done = scores.copy(), list(range(len(scores))), 0
    least, threshold, one = _f32(model["min_score"]), _f32(model["iou_threshold"]), _f32(1)
    while done < min(len(order), model["max_per_img"]):
        best = done + int(left[order[done:]].argmax())
        order[done], order[best] = order[best], order[done]
        own, rest = order[done], np.array(order[done + 1 :], np.int64)
        ious = overlaps_of(boxes[own], boxes[rest], 1e-12) * (groups[rest] == groups[own]).astype(_f32)
        if model["soft"] == "gaussian":
            factors = np.exp((-(ious * ious) / _f32(model["sigma"])).astype(np.float64)).astype(_f32)
        else:
            factors = np.where(ious >= threshold, one - ious if model["soft"] == "linear" else _f32(0), one)
        left[rest] = left[rest] * factors
        done += 1
        at = done
        while at < len(order):
            if left[order[at]] >= least:
                at += 1
            else:
                order[at] = order[-1]
                order.pop()
    return np.array(order[:done], np.int64), left


# [end]
# [if vote]
def vote(found: np.ndarray, kinds: np.ndarray, boxes: np.ndarray, scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Means of the candidates (n, 4) around detections (k, 4), by score and nearness; sums go from the best on."""
    moved = found.copy()
    for number, box in enumerate(found):
        ious = overlaps_of(box, boxes, 1e-6)
        near = (ious > _f32(0.01)) & (labels == kinds[number])
        far = _f32(1) - ious[near]
        weights = np.exp((-(far * far) / _f32(0.025)).astype(np.float64)).astype(_f32) * scores[near]
        wide = weights.astype(np.float64)[:, None]
        if len(wide) and (total := wide.cumsum()[-1]) > 0:
            moved[number] = ((wide * boxes[near].astype(np.float64)).cumsum(axis=0)[-1] / total).astype(_f32)
    return moved


# [end]
# [if num_buckets]
def buckets_of(
    model: dict[str, Any], level: dict[str, Any], codes: np.ndarray, offsets: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Likeliest strips (n, 4), offsets in them (n, 4) and how sure they are (n,), of codes (n, 4, strips) each."""
    parts = np.asarray(level["bins"], np.float64)[codes + 128]
    shares = (parts / _in_order(parts)[..., None]).astype(_f32)
    index = shares.argmax(axis=2)[..., None]  # of equal ones the first
    rest = shares.copy()
    np.put_along_axis(rest, index, _f32(-1), axis=2)
    other = rest.argmax(axis=2)[..., None]
    neighbours = (np.abs(index - other) == 1).astype(_f32)
    sure = np.take_along_axis(shares, index, axis=2) + np.take_along_axis(rest, other, axis=2) * neighbours
    chosen = np.take_along_axis(np.asarray(level["shifts"], _f32)[offsets + 128], index, axis=2)
    return index[..., 0], chosen[..., 0], _in_order(sure[..., 0]) * _f32(0.25)


def boxes_of_buckets(
    model: dict[str, Any],
    level: dict[str, Any],
    centre: np.ndarray,
    size: np.ndarray,
    codes: np.ndarray,
    offsets: np.ndarray,
) -> np.ndarray:
    """float32 (n, 4) xyxy: sides in the likeliest strips of priors of these centres and sizes (n, 2)."""
    half = _f32(0.5) * (size * _f32(model["growth"]))
    start, end = centre - half, centre + half
    step = (end - start) / _f32(model["num_buckets"])
    index, shift, _ = buckets_of(model, level, codes, offsets)
    strip, width = _f32(0.5) + index.astype(_f32), np.abs(step)
    low = start + strip[:, 0::2] * step - shift[:, 0::2] * width  # left and top
    high = end + strip[:, 1::2] * -step - shift[:, 1::2] * width  # right and bottom, counted inwards
    return np.concatenate((low, high), axis=1)


# [end]
