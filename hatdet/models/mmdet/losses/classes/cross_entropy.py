"""Cross entropy of classes: softmax, sigmoid of each class, and masks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from hatdet.models.mmdet.losses.accuracy import accuracy
from hatdet.models.mmdet.losses.utils import Divisor, Reduction, WeightedLoss, one_hot
from hatdet.registry import register

_NO_LABEL = -100


@register(scope="mmdet")
class CrossEntropyLoss(WeightedLoss):
    """``-log p`` of the right class.

    Args:
        use_sigmoid: each class is a decision of its own (binary cross entropy of its logit).
        use_mask: the scores are masks, of which that of the right class counts.
        reduction: see :class:`WeightedLoss`.
        class_weight: a factor of each class (softmax); with ``use_sigmoid`` of each class where it is the right one.
        ignore_index: a label that does not count.
        loss_weight: multiplies the result.
        avg_non_ignore: the mean is over what counts, not over all.

    Raises:
        ValueError: sigmoid and mask together.
    """

    def __init__(
        self,
        use_sigmoid: bool = False,
        use_mask: bool = False,
        reduction: Reduction = "mean",
        class_weight: Sequence[float] | None = None,
        ignore_index: int | None = None,
        loss_weight: float = 1.0,
        avg_non_ignore: bool = False,
    ) -> None:
        super().__init__(reduction, loss_weight)
        if use_sigmoid and use_mask:
            raise ValueError("use_sigmoid and use_mask are two kinds of cross entropy; choose one")
        self.use_sigmoid, self.use_mask, self.class_weight = use_sigmoid, use_mask, class_weight
        self.ignore_index, self.avg_non_ignore = ignore_index, avg_non_ignore

    def forward(
        self,
        cls_score: Tensor,
        label: Tensor,
        weight: Tensor | None = None,
        avg_factor: Divisor = None,
        reduction_override: Reduction | None = None,
        ignore_index: int | None = None,
    ) -> Tensor:
        """The loss.

        Args:
            cls_score: logits (n, classes), for softmax also (n, classes, ...); masks (n, classes, h, w).
            label: int64 (n,) or (n, ...); with ``use_sigmoid`` also, in the shape of the logits, what each is to be
                (0 to 1). A label that is no class (background) is "none of them" for sigmoid; a negative one does not
                count. Of masks: (n, h, w), 0 or 1.
            weight: (n,), or in the shape of the logits; of masks: the class of each, int64 (n,).
            avg_factor: see :class:`WeightedLoss`.
            reduction_override: in the place of ``reduction``.
            ignore_index: in the place of the loss's own.
        """
        ignored = self.ignore_index if ignore_index is None else ignore_index
        factors = None if self.class_weight is None else cls_score.new_tensor(self.class_weight)
        reduction = self.chosen(reduction_override)
        if self.use_mask:
            return self._masks(cls_score, label, weight, factors, ignored, reduction, avg_factor)
        ignored = _NO_LABEL if ignored is None else ignored
        if self.use_sigmoid:
            loss, weight, counts = _binary(cls_score, label, weight, factors, ignored)
        else:
            counts = label != ignored
            loss = F.cross_entropy(cls_score, label, weight=factors, reduction="none", ignore_index=ignored)
        if self.avg_non_ignore and avg_factor is None and reduction == "mean":
            avg_factor = counts.sum()
        return self.reduced(loss, None if weight is None else weight.float(), avg_factor, reduction)

    def _masks(
        self,
        masks: Tensor,
        target: Tensor,
        classes: Tensor | None,
        factors: Tensor | None,
        ignored: int | None,
        reduction: Reduction,
        avg_factor: Divisor,
    ) -> Tensor:
        if classes is None or ignored is not None or reduction != "mean" or avg_factor is not None:
            raise ValueError(
                "cross entropy of masks is the mean over all pixels of the masks of the classes given as weight; "
                "ignore_index, another reduction and avg_factor do not go with use_mask"
            )
        own = masks[torch.arange(len(masks), device=masks.device), classes]
        return self.loss_weight * F.binary_cross_entropy_with_logits(own, target, weight=factors)[None]


def _binary(
    logits: Tensor, label: Tensor, weight: Tensor | None, factors: Tensor | None, ignored: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Binary cross entropy, weights and what counts, each in the shape of the logits."""
    counts = (label >= 0) & (label != ignored)
    if logits.dim() != label.dim():
        counts = counts.view(-1, 1).expand(len(label), logits.shape[-1])
        label = one_hot(label, logits.shape[-1]) & counts
        weight = None if weight is None else weight.view(-1, 1)
    loss = F.binary_cross_entropy_with_logits(logits, label.float(), pos_weight=factors, reduction="none")
    return loss, counts.float() if weight is None else weight * counts, counts


@register(scope="mmdet")
class CrossEntropyCustomLoss(CrossEntropyLoss):
    """:class:`CrossEntropyLoss` that says itself what its scores are: softmax with a background, or sigmoids.

    Args:
        num_classes: of foreground.
        use_sigmoid: see :class:`CrossEntropyLoss`, as all others.
    """

    custom_cls_channels = custom_activation = custom_accuracy = True

    def __init__(
        self,
        use_sigmoid: bool = False,
        use_mask: bool = False,
        reduction: Reduction = "mean",
        num_classes: int = -1,
        class_weight: Sequence[float] | None = None,
        ignore_index: int | None = None,
        loss_weight: float = 1.0,
        avg_non_ignore: bool = False,
    ) -> None:
        super().__init__(use_sigmoid, use_mask, reduction, class_weight, ignore_index, loss_weight, avg_non_ignore)
        if num_classes < 1:
            raise ValueError(f"num_classes is the number of foreground classes, got {num_classes}")
        self.num_classes = num_classes

    def get_cls_channels(self, num_classes: int) -> int:
        """Channels of the scores."""
        return num_classes if self.use_sigmoid else num_classes + 1

    def get_activation(self, cls_score: Tensor) -> Tensor:
        """Probabilities (n, num_classes + 1), the background last."""
        if not self.use_sigmoid:
            return cls_score[:, [*range(self.num_classes), -1]].softmax(dim=-1)
        classes = cls_score[:, : self.num_classes].sigmoid()
        return torch.cat([classes, (1 - classes.sum(dim=1, keepdim=True)).clamp(0, 1)], dim=1)

    def get_accuracy(self, cls_score: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Percent of the foreground whose class is the best of the foreground."""
        found = labels < self.num_classes
        return {"acc_classes": accuracy(cls_score[found, : self.num_classes], labels[found])}
