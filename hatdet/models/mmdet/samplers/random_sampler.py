"""Samplers that draw at random, evenly or with balance."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from hatdet.models.mmdet.assigners.result import AssignResult
from hatdet.models.mmdet.building import build
from hatdet.models.mmdet.samplers.base import BaseSampler, negatives, positives, without
from hatdet.registry import register
from hatdet.utils.annotations import Spec


@register(scope="mmdet")
class RandomSampler(BaseSampler):
    """All with the same probability. Args: those of :class:`BaseSampler`."""

    def choose_pos(self, assign_result: AssignResult, count: int, priors: Tensor, feats: Any) -> Tensor:
        """Indices of at most ``count`` positives."""
        return self.some(positives(assign_result), count)

    def choose_neg(self, assign_result: AssignResult, count: int, priors: Tensor, feats: Any) -> Tensor:
        """Indices of at most ``count`` negatives."""
        return self.some(negatives(assign_result), count)


@register(scope="mmdet")
class InstanceBalancedPosSampler(RandomSampler):
    """About equally many positives of each ground truth (Libra R-CNN, arXiv 1904.02701)."""

    def choose_pos(self, assign_result: AssignResult, count: int, priors: Tensor, feats: Any) -> Tensor:
        """Indices of at most ``count`` positives."""
        found = positives(assign_result)
        if len(found) <= count:
            return found
        mixed = found[torch.randperm(len(found), generator=self.generator).to(found.device)]
        box, order = assign_result.gt_inds[mixed].sort(stable=True)
        mixed = mixed[order]
        _, sizes = torch.unique_consecutive(box, return_counts=True)
        each = round(count / len(sizes)) + 1
        first = (sizes.cumsum(0) - sizes).repeat_interleave(sizes)
        chosen = mixed[torch.arange(len(mixed), device=mixed.device) - first < each]
        if len(chosen) > count:
            return self.some(chosen, count)
        return torch.cat((chosen, self.some(without(found, chosen), count - len(chosen))))


@register(scope="mmdet")
class IoUBalancedNegSampler(RandomSampler):
    """Negatives of all overlaps (Libra R-CNN, arXiv 1904.02701).

    Args:
        floor_thr: from this overlap on negatives are balanced; -1: all.
        floor_fraction: share of negatives below it.
        num_bins: ranges of overlap with equally many negatives.
        others: those of :class:`BaseSampler`.

    Raises:
        ValueError: numbers out of range.
    """

    def __init__(
        self,
        num: int,
        pos_fraction: float,
        floor_thr: float = -1,
        floor_fraction: float = 0,
        num_bins: int = 3,
        neg_pos_ub: float = -1,
        add_gt_as_proposals: bool = True,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(num, pos_fraction, neg_pos_ub, add_gt_as_proposals, generator)
        if (floor_thr < 0 and floor_thr != -1) or not 0 <= floor_fraction <= 1 or num_bins < 1:
            raise ValueError(
                "floor_thr is at least 0 or -1, floor_fraction from 0 to 1, num_bins at least 1; got "
                f"{floor_thr}, {floor_fraction} and {num_bins}"
            )
        self.floor_thr = floor_thr
        self.floor_fraction = floor_fraction
        self.num_bins = num_bins

    def choose_neg(self, assign_result: AssignResult, count: int, priors: Tensor, feats: Any) -> Tensor:
        """Indices of at most ``count`` negatives."""
        found, overlaps = negatives(assign_result), assign_result.max_overlaps
        if len(found) <= count:
            return found
        assert overlaps is not None
        own = overlaps[found]
        above = own > self.floor_thr if self.floor_thr <= 0 else own >= self.floor_thr
        below = (own >= 0) & ~above if self.floor_thr >= 0 else torch.zeros_like(above)
        wanted = int(count * (1 - self.floor_fraction))
        high = found[above]
        if len(high) > wanted:
            high = self._balanced(high, overlaps, wanted) if self.num_bins > 1 else self.some(high, wanted)
        chosen = torch.cat((self.some(found[below], count - len(high)), high))
        return torch.cat((chosen, self.some(without(found, chosen), count - len(chosen))))

    def _balanced(self, gallery: Tensor, overlaps: Tensor, count: int) -> Tensor:
        """``count`` of the gallery, equally many of each range of overlap, as far as there are."""
        least = max(self.floor_thr, 0)
        step = (float(overlaps.max()) - least) / self.num_bins
        own, each = overlaps[gallery], int(count / self.num_bins)
        parts = []
        for i in range(self.num_bins):
            inside = (own >= least + i * step) & (own < least + (i + 1) * step)
            parts.append(self.some(gallery[inside], each))
        chosen = torch.cat(parts)
        return torch.cat((chosen, self.some(without(gallery, chosen), count - len(chosen))))


@register(scope="mmdet")
class CombinedSampler(BaseSampler):
    """Positives by one sampler, negatives by another.

    Args:
        pos_sampler, neg_sampler: what chooses; arguments that they leave out are those given here.
        others: those of :class:`BaseSampler`.
    """

    def __init__(
        self,
        pos_sampler: Spec,
        neg_sampler: Spec,
        num: int,
        pos_fraction: float,
        neg_pos_ub: float = -1,
        add_gt_as_proposals: bool = True,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(num, pos_fraction, neg_pos_ub, add_gt_as_proposals, generator)
        given = {
            "num": num,
            "pos_fraction": pos_fraction,
            "neg_pos_ub": neg_pos_ub,
            "add_gt_as_proposals": add_gt_as_proposals,
            "generator": generator,
        }
        self.pos_sampler: BaseSampler = build(pos_sampler, **given)
        self.neg_sampler: BaseSampler = build(neg_sampler, **given)

    def choose_pos(self, assign_result: AssignResult, count: int, priors: Tensor, feats: Any) -> Tensor:
        """Indices of at most ``count`` positives."""
        return self.pos_sampler.choose_pos(assign_result, count, priors, feats)

    def choose_neg(self, assign_result: AssignResult, count: int, priors: Tensor, feats: Any) -> Tensor:
        """Indices of at most ``count`` negatives."""
        return self.neg_sampler.choose_neg(assign_result, count, priors, feats)
