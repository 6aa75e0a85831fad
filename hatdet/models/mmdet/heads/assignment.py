"""What an assigner and a sampler say, as targets of every prior of a picture."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hatdet.models.mmdet.heads.base import PictureMeta, Truth
from hatdet.models.mmdet.heads.common import anchor_inside_flags, unmap
from hatdet.models.mmdet.instances import Instances


@dataclass
class Targets:
    """Of the n priors of a picture.

    Attributes:
        labels: int64 (n,), ``num_classes`` where nothing is to be found.
        weights: (n,) of the loss of the class; 0: not asked.
        boxes: (n, 4) of what is to be found, zero elsewhere.
        positive: bool (n,): something is to be found.
        found: int64 (n,): which box of the picture; -1 elsewhere.
        overlaps: (n,) as the assigner gives them (``max_overlaps``).
        metrics: (n,) ``assign_metrics`` of assigners that have them.
        count: what losses are divided by: positives (and negatives, where a sampler picks), at least 1.
    """

    labels: Tensor
    weights: Tensor
    boxes: Tensor
    positive: Tensor
    found: Tensor
    overlaps: Tensor | None
    metrics: Tensor | None
    count: int


def inside_of(
    priors: Sequence[Tensor], flags: Sequence[Tensor], meta: PictureMeta, allowed_border: int
) -> Tensor | None:
    """Which priors of a picture take part: bool (n,); None: all.

    Args:
        priors: (n_i, 4) of each level.
        flags: bool (n_i,) of each level: in the padded picture.
        meta: of the picture.
        allowed_border: pixels that a prior may reach out of the picture; negative: any.

    Raises:
        ValueError: none takes part.
    """
    inside = anchor_inside_flags(torch.cat(list(priors)), torch.cat(list(flags)), meta["img_shape"], allowed_border)
    if bool(inside.all()):
        return None
    if not bool(inside.any()):
        raise ValueError(
            f"no anchor lies inside a picture of {meta['img_shape']}; set allowed_border=-1 in train_cfg, "
            "or feed larger pictures"
        )
    return inside


def counts_inside(counts: Sequence[int], inside: Tensor | None) -> list[int]:
    """How many priors of each level take part."""
    if inside is None:
        return list(counts)
    return torch.stack([flags.sum() for flags in inside.split(list(counts))]).tolist()  # type: ignore[no-any-return]


def assign(
    assigner: Any,
    sampler: Any,
    predictions: Mapping[str, Tensor],
    truth: Truth,
    *,
    num_classes: int,
    pos_weight: float = -1,
    inside: Tensor | None = None,
    counts: Sequence[int] | None = None,
    **arguments: Any,
) -> Targets:
    """Targets of the priors of one picture.

    Args:
        assigner: has ``assign``.
        sampler: has ``sample``; None: all that is assigned is learned of.
        predictions: ``priors`` (n, 4) and what else the assigner reads, a row for each prior.
        truth: of the picture.
        num_classes: the class of what finds nothing.
        pos_weight: of the class of what finds something; 0 or less: 1.
        inside: bool (n,): which priors take part.
        counts: priors of each level, for assigners that ask (``num_level_priors``).
        arguments: other arguments of ``assign``.
    """
    everything = Instances(**predictions)
    given = everything if inside is None else everything[inside]
    gts = Instances(bboxes=truth.bboxes, labels=truth.labels)
    ignored = Instances(bboxes=truth.ignored) if len(truth.ignored) else None
    if counts is not None and "num_level_priors" in inspect.signature(assigner.assign).parameters:
        arguments["num_level_priors"] = counts_inside(counts, inside)
    result = assigner.assign(pred_instances=given, gt_instances=gts, gt_instances_ignore=ignored, **arguments)
    found = result.gt_inds - 1
    positive, negative, count = _sampled(sampler, result, given, gts)
    weights = (positive | negative).to(given.priors.dtype)
    if pos_weight > 0:
        weights = torch.where(positive, pos_weight, weights)
    targets = Targets(
        torch.full_like(found, num_classes), weights, given.priors.new_zeros((len(found), 4)), positive,
        torch.where(positive, found, -1), getattr(result, "max_overlaps", None),
        getattr(result, "assign_metrics", None), count,
    )  # fmt: skip
    if len(truth):
        index = found.clamp(min=0)
        targets.labels = torch.where(positive, truth.labels[index], num_classes)
        targets.boxes = torch.where(positive[:, None], truth.bboxes[index], 0)
    return targets if inside is None else _everywhere(targets, inside, num_classes)


def _sampled(sampler: Any, result: Any, predictions: Instances, gts: Instances) -> tuple[Tensor, Tensor, int]:
    """Positives, negatives, and what to divide by."""
    if sampler is None or type(sampler).__name__ == "PseudoSampler":
        positive = result.gt_inds > 0
        return positive, result.gt_inds == 0, max(int(positive.sum()), 1)
    sample = sampler.sample(result, predictions, gts)
    positive, negative = (torch.zeros_like(result.gt_inds, dtype=torch.bool) for _ in range(2))
    positive[sample.pos_inds] = True
    negative[sample.neg_inds] = True
    return positive, negative, int(sample.avg_factor)


def _everywhere(targets: Targets, inside: Tensor, num_classes: int) -> Targets:
    n = len(inside)

    def spread(values: Tensor | None, fill: float = 0) -> Any:
        return None if values is None else unmap(values, n, inside, fill)

    return Targets(
        spread(targets.labels, num_classes), spread(targets.weights), spread(targets.boxes), spread(targets.positive),
        spread(targets.found, -1), spread(targets.overlaps), spread(targets.metrics), targets.count,
    )  # fmt: skip
