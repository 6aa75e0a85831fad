"""What a student's scores, boxes and feature maps are off those of its teacher.

All take the teacher's tensors as constants; the gradient goes to the student alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from hatdet.models.losses.reduce import mean_over_ranks
from hatdet.ops.boxes import aligned_giou

LEAST = 1e-6
"""Scores are kept so far from 0 and 1: their logits stay finite."""
CONFIDENT = 0.05
"""The score from which on the teacher's box is worth learning."""


def class_loss(student: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
    """Binary divergence of each class's score, weighted by how far the two are apart (arXiv 2308.14286, section 3.2).

    With the scores q of the teacher and p of the student (at a temperature T the sigmoids of their logits over T)::

        T^2 * sum |q - p| * KL(q, p) / max(1, sum over positions of the teacher's highest score)

    where ``KL(q, p) = q ln(q / p) + (1 - q) ln((1 - q) / (1 - p))``. The weight is a constant, so the gradient by the
    student's logit is ``T |q - p| (p - q)``. A softmax over classes would say nothing of how sure a position is, which
    is all that most positions of a dense detector say.

    Args:
        student, teacher: (B, P, K), in [0, 1].

    Returns:
        a scalar; 0 where both say the same.
    """
    own = torch.logit(student, LEAST) / temperature
    aim = (torch.logit(teacher, LEAST) / temperature).sigmoid()
    entropy = functional.binary_cross_entropy(aim, aim, reduction="none")
    divergence = functional.binary_cross_entropy_with_logits(own, aim, reduction="none") - entropy
    apart = (own.sigmoid() - aim).detach().abs()
    return temperature**2 * (apart * divergence).sum() / mean_over_ranks(teacher.amax(dim=-1).sum()).clamp(min=1)


def box_loss(student: Tensor, teacher: Tensor, confidence: Tensor) -> Tensor:
    """``sum c (1 - GIoU) / max(1, sum c)`` over the positions whose teacher has a confidence c of :data:`CONFIDENT` or
    more, and a box.

    Heads may say sides in the wrong order, at positions where their own losses look at no box. Such a box of the
    student's counts as one without an area, at its upper left corner: products of negative sides would make a GIoU
    without bounds.

    Args:
        student, teacher: boxes (B, P, 4), xyxy.
        confidence: (B, P), the teacher's highest score.

    Returns:
        a scalar, from 0 to 2.
    """
    is_box = (teacher[..., 2:] > teacher[..., :2]).all(dim=-1)
    image, prior = ((confidence >= CONFIDENT) & is_box).nonzero(as_tuple=True)
    weight, own = confidence[image, prior], student[image, prior]
    own = torch.cat((own[:, :2], torch.maximum(own[:, :2], own[:, 2:])), dim=1)
    apart = 1 - aligned_giou(own, teacher[image, prior])
    return (weight * apart).sum() / mean_over_ranks(weight.sum()).clamp(min=1)


def feature_loss(student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
    """``1 - r``, r the mean of the correlations of the channels (PKD, arXiv 2207.02039, equation 5).

    Each channel of a level is brought to mean 0 and deviation 1 over pictures and positions; half the mean square of
    the differences is then 1 minus Pearson's correlation: magnitudes, which differ between networks, do not count.

    Args:
        student, teacher: a map (B, C, H, W) for each level.

    Returns:
        the mean over channels, then over levels, between 0 (correlated) and 2.
    """
    pairs = zip(student, teacher, strict=True)
    return torch.stack([(standardized(s) - standardized(t)).square().mean() / 2 for s, t in pairs]).mean()


def standardized(maps: Tensor) -> Tensor:
    """Maps (B, C, H, W) with mean 0 and deviation 1 in each channel; a constant channel becomes 0."""
    variance, mean = torch.var_mean(maps, dim=(0, 2, 3), correction=0, keepdim=True)
    return (maps - mean) * (variance + LEAST).rsqrt()
