"""Heads that look at what matters most for the precision of detections: PISA."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from hatdet.models.mmdet.heads.anchor.retina.plain import RetinaHead
from hatdet.models.mmdet.heads.anchor.ssd import SSDHead
from hatdet.models.mmdet.heads.anchor.targets import Targets
from hatdet.models.mmdet.heads.base import Levels, Losses, PictureMeta, Truth
from hatdet.models.mmdet.heads.common import flatten
from hatdet.models.mmdet.losses.boxes.differences import SmoothL1Loss
from hatdet.models.mmdet.losses.classes.cross_entropy import CrossEntropyLoss
from hatdet.models.mmdet.losses.pisa import carl_loss, isr_p
from hatdet.registry import register


def _row(levels: Levels) -> Tensor:
    """Targets (B, n_i, ...) of levels -> (B * N, ...), picture after picture."""
    return torch.cat(levels, dim=1).flatten(0, 1)


@register(scope="mmdet")
class PISARetinaHead(RetinaHead):
    """RetinaNet's head, its positives ranked by how good they are (arXiv 1904.04821).

    Raw maps, scores, boxes and arguments: see :class:`RetinaHead`. ``train_cfg`` has ``isr`` (``k``, ``bias``), how
    weights of positives fall with their rank, and ``carl`` (``k``, ``bias``), a loss that couples class and box;
    each may be absent.
    """

    def loss_by_feat(self, *maps: Levels, truths: Sequence[Truth], metas: Sequence[PictureMeta]) -> Losses:
        """``loss_cls``, ``loss_bbox`` and ``loss_carl`` of all levels together."""
        cfg, cls_scores, bbox_preds = self.train_cfg or {}, *maps[:2]
        found = self.get_targets(cls_scores, truths, metas)
        logits = torch.cat([flatten(level, self.cls_out_channels) for level in cls_scores], dim=1).flatten(0, 1)
        values = torch.cat([flatten(level, 4) for level in bbox_preds], dim=1).flatten(0, 1)
        targets = _row(found.labels), _row(found.label_weights), _row(found.bbox_targets), _row(found.bbox_weights)
        if cfg.get("isr") is not None:
            anchors = torch.cat(self.priors_of(cls_scores)).repeat(len(truths), 1)
            with torch.no_grad():
                targets = isr_p(
                    logits, values, targets, anchors, found.samples, loss_cls=self.loss_cls,
                    bbox_coder=self.bbox_coder, num_class=self.num_classes, **cfg["isr"],
                )  # fmt: skip
        labels, label_weights, bbox_targets, bbox_weights = targets
        average = {"avg_factor": found.avg_factor}
        losses: Losses = {
            "loss_cls": self.loss_cls(logits, labels, label_weights, **average),
            "loss_bbox": self.loss_bbox(values, bbox_targets, bbox_weights, **average),
        }
        if cfg.get("carl") is not None:
            losses.update(
                carl_loss(
                    logits, labels, values, bbox_targets, self.loss_bbox, sigmoid=True, num_class=self.num_classes,
                    **cfg["carl"], **average,
                )
            )  # fmt: skip
        return losses


@register(scope="mmdet")
class PISASSDHead(SSDHead):
    """SSD's head, its positives ranked by how good they are (arXiv 1904.04821).

    Raw maps, scores, boxes and arguments: see :class:`SSDHead`; ``isr`` and ``carl`` of ``train_cfg``: see
    :class:`PISARetinaHead`.
    """

    def losses_of(self, logits: Tensor, values: Tensor, targets: Targets, anchors: Tensor) -> Losses:
        cfg, shape = self.train_cfg or {}, targets.labels[0].shape
        rows = (
            targets.labels[0].flatten(), targets.label_weights[0].flatten(), targets.bbox_targets[0].flatten(0, 1),
            targets.bbox_weights[0].flatten(0, 1),
        )  # fmt: skip
        if cfg.get("isr") is not None:
            with torch.no_grad():
                rows = isr_p(
                    logits.flatten(0, 1), values.flatten(0, 1), rows, anchors.repeat(len(logits), 1), targets.samples,
                    loss_cls=CrossEntropyLoss(), bbox_coder=self.bbox_coder, num_class=self.num_classes, **cfg["isr"],
                )  # fmt: skip
        parts = [[row.unflatten(0, shape)] for row in rows]
        ranked = Targets(parts[0], parts[1], parts[2], parts[3], targets.avg_factor)
        losses = super().losses_of(logits, values, ranked, anchors)
        if cfg.get("carl") is not None:
            losses.update(
                carl_loss(
                    logits.flatten(0, 1), rows[0], values.flatten(0, 1), rows[2], SmoothL1Loss(beta=1.0),
                    avg_factor=targets.avg_factor, num_class=self.num_classes, **cfg["carl"],
                )
            )  # fmt: skip
        return losses
