"""Assigners of MMDetection's names against the same written as plain loops over the boxes: CPU time of one picture.

python benchmarks/mmdet_assigners.py --boxes 10 300

Priors of a 640x640 picture, 80 classes, one thread; the two take turns, and their results are compared.
"""

from __future__ import annotations

import argparse
import functools
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.timing import Row, format_table, interleave
from hatdet.commands.shared.arguments import make_parser
from hatdet.commands.shared.process import run
from hatdet.models.mmdet.assigners.atss import ATSSAssigner
from hatdet.models.mmdet.assigners.dynamic_k import DynamicSoftLabelAssigner, SimOTAAssigner
from hatdet.models.mmdet.assigners.max_iou import MaxIoUAssigner
from hatdet.models.mmdet.assigners.task_aligned import TaskAlignedAssigner
from hatdet.models.mmdet.instances import Instances
from hatdet.models.mmdet.overlaps import bbox_overlaps
from hatdet.models.mmdet.priors.anchors import AnchorGenerator
from hatdet.models.mmdet.priors.points import MlvlPointGenerator

SIDE = 640
STRIDES = (8, 16, 32)
MAPS = [(SIDE // stride, SIDE // stride) for stride in STRIDES]
Plain = Callable[[Instances, Instances], Tensor]


def main(argv: Sequence[str] | None = None) -> None:
    args = parse(argv)
    torch.set_num_threads(1)
    rows = []
    for count in args.boxes:
        for name, (assign, plain, predictions) in cases(count).items():
            given, truth = predictions
            same = torch.equal(assign(given, truth).gt_inds, plain(given, truth))
            calls = {
                "hatdet": lambda a=assign, g=given, t=truth: a(g, t),
                "plain": lambda p=plain, g=given, t=truth: p(g, t),
            }
            times = interleave(calls, args.repeat, warmup=1)
            note = "loop over boxes" + ("" if same else ", OTHER RESULT")
            rows.append(Row(f"{name}, {count} boxes", times["hatdet"], times["plain"], note))
    print(format_table(rows))


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument(
        "--boxes", type=int, nargs="+", default=[10, 300], help="boxes of the picture (default: 10 300)"
    )
    parser.add_argument("--repeat", type=int, default=5, help="repetitions of each (default: 5)")
    return parser.parse_args(argv)


def cases(count: int) -> dict[str, tuple[Callable[..., Any], Plain, tuple[Instances, Instances]]]:
    """Name -> assignment, plain assignment, and the picture that both get."""
    generator = torch.Generator().manual_seed(0)
    centre = torch.rand(count, 2, generator=generator) * SIDE
    size = (torch.rand(count, 2, generator=generator) ** 2 / 2 + 0.01) * SIDE
    boxes = torch.cat((centre - size / 2, centre + size / 2), dim=1).clamp(0, SIDE)
    truth = Instances(bboxes=boxes, labels=torch.randint(0, 80, (count,), generator=generator))
    points = torch.cat(MlvlPointGenerator(STRIDES, offset=0).grid_priors(MAPS, with_stride=True))
    squares = AnchorGenerator(STRIDES, [1.0], octave_base_scale=8, scales_per_octave=1).grid_priors(MAPS)
    nine = AnchorGenerator(STRIDES, [0.5, 1.0, 2.0], octave_base_scale=4, scales_per_octave=3).grid_priors(MAPS)
    reach = (torch.rand(len(points), 2, generator=generator) * 4 + 0.5) * points[:, 2:]
    predicted = torch.cat((points[:, :2] - reach, points[:, :2] + reach), dim=1)
    logits = torch.randn(len(points), 80, generator=generator) - 3
    levels = [len(level) for level in squares]
    of_points = Instances(priors=points, bboxes=predicted, scores=logits)
    of_chances = Instances(priors=points, bboxes=predicted, scores=logits.sigmoid())
    of_squares = Instances(priors=torch.cat(squares), bboxes=predicted, scores=logits.sigmoid())
    atss = functools.partial(ATSSAssigner(9).assign, num_level_priors=levels)
    return {
        "SimOTA": (SimOTAAssigner().assign, plain_sim_ota, (of_chances, truth)),
        "dynamic soft label": (DynamicSoftLabelAssigner().assign, plain_soft_label, (of_points, truth)),
        "ATSS": (atss, functools.partial(plain_atss, levels=levels), (of_squares, truth)),
        "task aligned": (TaskAlignedAssigner(13).assign, plain_task_aligned, (of_squares, truth)),
        "greatest IoU, 9 anchors": (
            MaxIoUAssigner(0.5, 0.4).assign,
            plain_max_iou,
            (Instances(priors=torch.cat(nine)), truth),
        ),
    }


def plain_sim_ota(given: Instances, truth: Instances) -> Tensor:
    """SimOTA, box by box."""
    (x, y, w, h), costs, ious, either = given.priors.unbind(1), [], [], torch.zeros(len(given), dtype=torch.bool)
    target = torch.zeros_like(given.scores)
    for box, label in zip(truth.bboxes, truth.labels, strict=True):
        cx, cy = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
        inside = (x > box[0]) & (x < box[2]) & (y > box[1]) & (y < box[3])
        near = (x - (cx - 2.5 * w) > 0) & (cx + 2.5 * w - x > 0) & (y - (cy - 2.5 * h) > 0) & (cy + 2.5 * h - y > 0)
        either |= inside | near
        iou = bbox_overlaps(box[None], given.bboxes)[0]
        target.zero_()[:, label] = 1
        entropy = F.binary_cross_entropy(given.scores, target, reduction="none").sum(1)
        ious.append(iou)
        costs.append(entropy - 3 * (iou + 1e-7).log() + (~(inside & near)) * 1e5)
    return plain_dynamic_k(costs, ious, either, 10)


def plain_soft_label(given: Instances, truth: Instances) -> Tensor:
    """Dynamic soft label assignment, box by box."""
    (x, y, stride, _), costs, ious = given.priors.unbind(1), [], []
    either, target = torch.zeros(len(given), dtype=torch.bool), torch.zeros_like(given.scores)
    for box, label in zip(truth.bboxes, truth.labels, strict=True):
        either |= (x > box[0]) & (x < box[2]) & (y > box[1]) & (y < box[3])
        iou = bbox_overlaps(box[None], given.bboxes)[0]
        target.zero_()[:, label] = iou
        entropy = F.binary_cross_entropy_with_logits(given.scores, target, reduction="none")
        soft = (entropy * (target - given.scores.sigmoid()).square()).sum(1)
        distance = ((x - (box[0] + box[2]) / 2) ** 2 + (y - (box[1] + box[3]) / 2) ** 2).sqrt() / stride
        ious.append(iou)
        costs.append(soft - 3 * (iou + 1e-7).log() + torch.pow(10, distance - 3))
    return plain_dynamic_k(costs, ious, either, 13)


def plain_dynamic_k(costs: list[Tensor], ious: list[Tensor], either: Tensor, topk: int) -> Tensor:
    """What both do with costs."""
    candidate = either.nonzero().squeeze(1)
    taken: list[list[int]] = [[] for _ in range(len(either))]
    for index, (cost, iou) in enumerate(zip(costs, ious, strict=True)):
        wanted = max(int(iou[candidate].topk(min(topk, len(candidate))).values.sum()), 1)
        for place in candidate[cost[candidate].topk(wanted, largest=False).indices].tolist():
            taken[place].append(index)
    found = torch.zeros(len(either), dtype=torch.int64)
    for place, boxes in enumerate(taken):
        if len(boxes) == 1:
            found[place] = boxes[0] + 1
        elif boxes:
            found[place] = torch.stack([cost[place] for cost in costs]).argmin() + 1
    return found


def plain_atss(given: Instances, truth: Instances, levels: Sequence[int]) -> Tensor:
    """ATSS, box by box and level by level."""
    x, y = (given.priors[:, 0] + given.priors[:, 2]) / 2, (given.priors[:, 1] + given.priors[:, 3]) / 2
    best, found = torch.full((len(given),), -1e8), torch.zeros(len(given), dtype=torch.int64)
    for index, box in enumerate(truth.bboxes):
        distance = ((x - (box[0] + box[2]) / 2) ** 2 + (y - (box[1] + box[3]) / 2) ** 2).sqrt()
        chosen, start = [], 0
        for level in distance.split(list(levels)):
            chosen.append(level.topk(min(9, len(level)), largest=False).indices + start)
            start += len(level)
        candidate = torch.cat(chosen)
        iou = bbox_overlaps(given.priors, box[None])[candidate, 0]
        px, py = x[candidate], y[candidate]
        inside = torch.stack((px - box[0], py - box[1], box[2] - px, box[3] - py)).amin(0) > 0.01
        keep(best, found, candidate, iou, (iou >= iou.mean() + iou.std()) & inside, index)
    return found


def plain_task_aligned(given: Instances, truth: Instances) -> Tensor:
    """Task alignment, box by box."""
    x, y = (given.priors[:, 0] + given.priors[:, 2]) / 2, (given.priors[:, 1] + given.priors[:, 3]) / 2
    best, found = torch.full((len(given),), -1e8), torch.zeros(len(given), dtype=torch.int64)
    for index, (box, label) in enumerate(zip(truth.bboxes, truth.labels, strict=True)):
        iou = bbox_overlaps(box[None], given.bboxes)[0]
        metric, candidate = (given.scores[:, label] * iou**6).topk(13)
        px, py = x[candidate], y[candidate]
        inside = torch.stack((px - box[0], py - box[1], box[2] - px, box[3] - py)).amin(0) > 0.01
        keep(best, found, candidate, iou[candidate], (metric > 0) & inside, index)
    return found


def keep(best: Tensor, found: Tensor, candidate: Tensor, iou: Tensor, wanted: Tensor, index: int) -> None:
    """Give a box its candidates, where no box before it overlaps them as much."""
    more = wanted & (iou > best[candidate])
    best[candidate[more]] = iou[more]
    found[candidate[more]] = index + 1


def plain_max_iou(given: Instances, truth: Instances) -> Tensor:
    """Greatest IoU, box by box."""
    overlaps = torch.stack([bbox_overlaps(box[None], given.priors)[0] for box in truth.bboxes])
    best, index = overlaps.max(dim=0)
    found = torch.full_like(index, -1)
    found[best < 0.4] = 0
    found[best >= 0.5] = index[best >= 0.5] + 1
    for row, overlap in enumerate(overlaps):
        found[overlap == overlap.max()] = row + 1
    return found


if __name__ == "__main__":
    run(main)
