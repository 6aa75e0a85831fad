"""Losses for classes of which some are rare."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F

from hatdet.models.mmdet.losses.accuracy import accuracy
from hatdet.models.mmdet.losses.utils import Divisor, Reduction, WeightedLoss, one_hot
from hatdet.registry import register


@register(scope="mmdet")
class SeesawLoss(WeightedLoss):
    """Softmax in which frequent classes press less on rare ones (arXiv 2008.10032), and an objectness beside it.

    Args:
        use_sigmoid: must be False.
        p: how much less a class presses on a rarer one (mitigation).
        q: how much more it presses where it is taken for the right one (compensation).
        num_classes: of foreground.
        eps: the least probability that is divided by.
        reduction: see :class:`WeightedLoss`.
        loss_weight: multiplies the result.
        return_dict: the two losses by their names; otherwise their sum.

    Raises:
        ValueError: ``use_sigmoid=True``.
    """

    custom_cls_channels = custom_activation = custom_accuracy = True
    cum_samples: Tensor

    def __init__(
        self,
        use_sigmoid: bool = False,
        p: float = 0.8,
        q: float = 2.0,
        num_classes: int = 1203,
        eps: float = 1e-2,
        reduction: Reduction = "mean",
        loss_weight: float = 1.0,
        return_dict: bool = True,
    ) -> None:
        super().__init__(reduction, loss_weight)
        if use_sigmoid:
            raise ValueError("seesaw loss is one of softmax; set use_sigmoid=False")
        self.use_sigmoid, self.p, self.q, self.eps = use_sigmoid, p, q, eps
        self.num_classes, self.return_dict = num_classes, return_dict
        self.register_buffer("cum_samples", torch.zeros(num_classes + 1))

    def forward(
        self,
        cls_score: Tensor,
        labels: Tensor,
        label_weights: Tensor | None = None,
        avg_factor: Divisor = None,
        reduction_override: Reduction | None = None,
    ) -> Tensor | dict[str, Tensor]:
        """The loss.

        Args:
            cls_score: logits (n, num_classes + 2): classes, then object and background.
            labels: int64 (n,); the background is ``num_classes``.
            label_weights: (n,).
            avg_factor: see :class:`WeightedLoss`.
            reduction_override: in the place of ``reduction``.
        """
        classes, objectness = self._split(cls_score)
        self.cum_samples = self.cum_samples + torch.bincount(labels, minlength=self.num_classes + 1)
        weights = torch.ones_like(labels, dtype=torch.float) if label_weights is None else label_weights.float()
        found = labels < self.num_classes
        background = F.cross_entropy(objectness, (~found).long(), reduction="none")
        losses = {"loss_cls_objectness": self.reduced(background, weights, avg_factor, reduction_override)}
        if bool(found.any()):
            own = self._classes(classes[found], labels[found])
            losses["loss_cls_classes"] = self.reduced(own, weights[found], avg_factor, reduction_override)
        else:
            losses["loss_cls_classes"] = classes[found].sum()
        return losses if self.return_dict else losses["loss_cls_classes"] + losses["loss_cls_objectness"]

    def _classes(self, logits: Tensor, labels: Tensor) -> Tensor:
        rows = torch.arange(len(labels), device=labels.device)
        factors = torch.ones_like(logits)
        if self.p > 0:
            seen = self.cum_samples[: self.num_classes].clamp(min=1)
            factors = (seen / seen[labels][:, None]).clamp(max=1).pow(self.p)
        if self.q > 0:
            scores = logits.detach().softmax(dim=1)
            own = scores[rows, labels][:, None].clamp(min=self.eps)
            factors = factors * (scores / own).clamp(min=1).pow(self.q)
        others = ~one_hot(labels, self.num_classes)
        return F.cross_entropy(logits + factors.log() * others, labels, reduction="none")

    def _split(self, scores: Tensor) -> tuple[Tensor, Tensor]:
        if scores.shape[-1] != self.num_classes + 2:
            raise ValueError(f"seesaw loss takes {self.num_classes + 2} scores a row, got {scores.shape[-1]}")
        return scores[..., :-2], scores[..., -2:]

    def get_cls_channels(self, num_classes: int) -> int:
        """Channels of the scores."""
        return num_classes + 2

    def get_activation(self, cls_score: Tensor) -> Tensor:
        """Probabilities (n, num_classes + 1), the background last."""
        classes, objectness = (part.softmax(dim=-1) for part in self._split(cls_score))
        return torch.cat([classes * objectness[..., :1], objectness[..., 1:]], dim=-1)

    def get_accuracy(self, cls_score: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Percent right of object or background, and of the foreground's classes."""
        classes, objectness = self._split(cls_score)
        found = labels < self.num_classes
        return {
            "acc_objectness": accuracy(objectness, (~found).long()),
            "acc_classes": accuracy(classes[found], labels[found]),
        }


@register(scope="mmdet")
class EQLV2Loss(nn.Module):
    """Sigmoids whose positives and negatives get weights that balance their gradients (arXiv 2012.08548).

    The loss is the sum over classes, the mean over rows; all arguments of a call but scores and labels are left
    unused, as the method has it.

    Args:
        use_sigmoid: must be True.
        reduction: not used.
        class_weight: not used.
        loss_weight: multiplies the result.
        num_classes: of foreground; scores have one more, the background, last.
        use_distributed: gradients are collected over all processes.
        mu: share of positive gradients at which the weight of negatives is a half.
        alpha: how much positives of rare classes gain.
        gamma: steepness at ``mu``.
        vis_grad: not used.
        test_with_obj: probabilities are multiplied with that of not being background.

    Raises:
        ValueError: ``use_sigmoid=False``.
    """

    pos_grad: Tensor
    neg_grad: Tensor
    pos_neg: Tensor

    def __init__(
        self,
        use_sigmoid: bool = True,
        reduction: Reduction = "mean",
        class_weight: Sequence[float] | None = None,
        loss_weight: float = 1.0,
        num_classes: int = 1203,
        use_distributed: bool = False,
        mu: float = 0.8,
        alpha: float = 4.0,
        gamma: float = 12,
        vis_grad: bool = False,
        test_with_obj: bool = True,
    ) -> None:
        super().__init__()
        if not use_sigmoid:
            raise ValueError("equalization loss is one of sigmoids; set use_sigmoid=True")
        self.use_sigmoid, self.loss_weight, self.num_classes = use_sigmoid, loss_weight, num_classes
        self.mu, self.alpha, self.gamma = mu, alpha, gamma
        self.use_distributed, self.test_with_obj = use_distributed, test_with_obj
        self.register_buffer("pos_grad", torch.zeros(num_classes))
        self.register_buffer("neg_grad", torch.zeros(num_classes))
        self.register_buffer("pos_neg", torch.full((num_classes,), 100.0))  # at first all weights are 1

    def forward(
        self,
        cls_score: Tensor,
        label: Tensor,
        weight: Tensor | None = None,
        avg_factor: Divisor = None,
        reduction_override: Reduction | None = None,
    ) -> Tensor:
        """The loss of logits (n, num_classes + 1) and labels int64 (n,)."""
        target = one_hot(label, cls_score.shape[1]).type_as(cls_score)
        negative = torch.sigmoid(self.gamma * (self.pos_neg - self.mu))
        negative = torch.cat([negative, negative.new_ones(1)])
        weights = torch.where(target > 0, 1 + self.alpha * (1 - negative), negative)
        loss = F.binary_cross_entropy_with_logits(cls_score, target, reduction="none") * weights
        self._collect(cls_score.detach(), target, weights)
        return self.loss_weight * loss.sum() / len(cls_score)

    @torch.no_grad()
    def _collect(self, logits: Tensor, target: Tensor, weights: Tensor) -> None:
        gradient = (logits.sigmoid() - target).abs() * weights
        both = torch.stack([(gradient * target).sum(0)[:-1], (gradient * (1 - target)).sum(0)[:-1]])
        if self.use_distributed and dist.is_available() and dist.is_initialized():
            dist.all_reduce(both)
        self.pos_grad, self.neg_grad = self.pos_grad + both[0], self.neg_grad + both[1]
        self.pos_neg = self.pos_grad / (self.neg_grad + 1e-10)

    def get_cls_channels(self, num_classes: int) -> int:
        """Channels of the scores."""
        return num_classes + 1

    def get_activation(self, cls_score: Tensor) -> Tensor:
        """Probabilities (n, num_classes + 1), the background last."""
        scores = cls_score.sigmoid()
        if not self.test_with_obj:
            return scores
        return torch.cat([scores[:, :-1] * (1 - scores[:, -1:]), scores[:, -1:]], dim=1)
