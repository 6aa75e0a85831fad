"""What the anchors of pictures are to become."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from hatdet.models.mmdet.heads.base import Levels, PictureMeta, Truth
from hatdet.models.mmdet.heads.common import anchor_inside_flags, images_to_levels
from hatdet.models.mmdet.instances import Instances


@dataclass
class Targets:
    """Of all pictures, level by level.

    Attributes:
        labels: int64 (B, n_i); ``num_classes``: background.
        label_weights: (B, n_i).
        bbox_targets: (B, n_i, k): what the coder gives, or boxes.
        bbox_weights: (B, n_i, k).
        avg_factor: what losses are divided by.
        samples: of each picture, what the sampler gave; its indices count the anchors that took part.
    """

    labels: Levels
    label_weights: Levels
    bbox_targets: Levels
    bbox_weights: Levels
    avg_factor: float
    samples: list[Any] = field(default_factory=list)


def truth_instances(truth: Truth) -> tuple[Instances, Instances | None]:
    """The boxes of a picture, and those to be ignored, as assigners take them."""
    ignored = Instances(bboxes=truth.ignored.to(truth.bboxes)) if len(truth.ignored) else None
    return Instances(bboxes=truth.bboxes, labels=truth.labels), ignored


def inside_of(
    generator: Any,
    anchors: Tensor,
    sizes: Sequence[tuple[int, int]],
    meta: PictureMeta,
    allowed_border: int,
    per_place: int = 1,
) -> Tensor | None:
    """Which anchors of a picture take part; None: all.

    Those whose place is not beyond ``pad_shape`` and which do not reach out of ``img_shape`` by more than
    ``allowed_border`` (negative: as far as they like).

    Args:
        generator: of the anchors.
        anchors: (N, 4), level after level.
        sizes: (h, w) of each level's map.
        meta: of the picture.
        allowed_border: pixels.
        per_place: so many anchors after each other are asked for together (N / per_place,): any of them.

    Raises:
        ValueError: there is none.
    """
    padded = meta.get("pad_shape")
    whole = padded is None or all(
        -(-padded[0] // stride[1]) >= height and -(-padded[1] // stride[0]) >= width
        for (height, width), stride in zip(sizes, generator.strides, strict=True)
    )
    if whole and allowed_border < 0:
        return None
    if whole:
        valid = anchors.new_ones(len(anchors), dtype=torch.bool)
    else:
        valid = torch.cat(generator.valid_flags(sizes, padded, device=anchors.device)).bool()
    inside = anchor_inside_flags(anchors, valid, meta["img_shape"], allowed_border)
    if per_place > 1:
        inside = inside.view(-1, per_place).any(dim=1)
    if not inside.any():
        raise ValueError(
            f"no anchor lies inside a picture of {tuple(meta['img_shape'])} (h, w); "
            "set allowed_border=-1 in train_cfg, or take smaller anchors"
        )
    return inside


def batch_targets(
    head: Any,
    anchors: Sequence[Tensor],
    inside: Sequence[Tensor | None],
    counts: Sequence[int],
    truths: Sequence[Truth],
    draw: Callable[[Tensor, Truth, int], Any] | None = None,
) -> Targets:
    """Assign, sample and encode for each picture; unsampled anchors weigh nothing.

    Args:
        head: has ``train_cfg``, ``assign_and_sample``, ``box_targets``, ``num_classes``, ``bbox_coder``.
        anchors: (N, 4) of each picture, level after level.
        inside: which of them take part, (N,) of each picture, None: all.
        counts: of the anchors of each level.
        truths: of the pictures.
        draw: in the place of ``assign_and_sample``: from anchors (n, 4), truth and number of the picture.
    """
    first, shape = anchors[0], (len(truths), len(anchors[0]))
    width = 4 if head.reg_decoded_bbox else head.bbox_coder.encode_size
    labels = torch.full(shape, head.num_classes, dtype=torch.long, device=first.device)
    label_weights = first.new_zeros(shape)
    bbox_targets = first.new_zeros((*shape, width))
    bbox_weights = torch.zeros_like(bbox_targets)
    weight = head.train_cfg.get("pos_weight", -1)
    samples, avg_factor = [], 0.0
    for i, truth in enumerate(truths):
        chosen = inside[i]
        priors = anchors[i] if chosen is None else anchors[i][chosen]
        sample = head.assign_and_sample(priors, truth) if draw is None else draw(priors, truth, i)
        positive, negative = where_of(sample, chosen)
        if len(positive):
            bbox_targets[i, positive] = head.box_targets(sample)
            bbox_weights[i, positive] = 1.0
            labels[i, positive] = sample.pos_gt_labels
            label_weights[i, positive] = 1.0 if weight <= 0 else weight
        label_weights[i, negative] = 1.0
        samples.append(sample)
        avg_factor += sample.avg_factor
    split = [images_to_levels(list(t), counts) for t in (labels, label_weights, bbox_targets, bbox_weights)]
    return Targets(split[0], split[1], split[2], split[3], avg_factor, samples)


def where_of(sample: Any, inside: Tensor | None) -> tuple[Tensor, Tensor]:
    """Positives and negatives of a sample among all anchors, where it was drawn from those ``inside``."""
    if inside is None:
        return sample.pos_inds, sample.neg_inds
    index = inside.nonzero()[:, 0]
    return index[sample.pos_inds], index[sample.neg_inds]
