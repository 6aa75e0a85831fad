"""Localization distillation: distributions of edges learned of another detector (arXiv 2102.12252)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from hatdet.models.mmdet.heads.base import Levels, Losses, PictureMeta, Truth
from hatdet.models.mmdet.heads.common import reduce_mean
from hatdet.models.mmdet.heads.quality.gfl import GFLHead
from hatdet.models.mmdet.heads.towers import GROUP_NORM, first_weights, part
from hatdet.registry import register
from hatdet.utils.annotations import Spec

FIRST_WEIGHTS = first_weights("gfl_cls")


@register(scope="mmdet")
class LDHead(GFLHead):
    """:class:`GFLHead` that also learns the ``bbox`` maps of a teacher's head.

    Args:
        loss_ld: built loss between the distributions.
        others: see :class:`GFLHead`.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        loss_ld: nn.Module | None = None,
        stacked_convs: int = 4,
        conv_cfg: Spec | None = None,
        norm_cfg: Spec | None = GROUP_NORM,
        loss_dfl: nn.Module | None = None,
        bbox_coder: Any = None,
        reg_max: int = 16,
        init_cfg: Spec | list[dict[str, Any]] | None = FIRST_WEIGHTS,
        feat_channels: int = 256,
        anchor_generator: Any = None,
        reg_decoded_bbox: bool = False,
        loss_cls: nn.Module | None = None,
        loss_bbox: nn.Module | None = None,
        train_cfg: dict[str, Any] | None = None,
        test_cfg: Spec | None = None,
    ) -> None:
        super().__init__(
            num_classes, in_channels, stacked_convs, conv_cfg, norm_cfg, loss_dfl, bbox_coder, reg_max, init_cfg,
            feat_channels, anchor_generator, reg_decoded_bbox, loss_cls, loss_bbox, train_cfg, test_cfg,
        )  # fmt: skip
        self.loss_ld = part(loss_ld, {"type": "KnowledgeDistillationKLDivLoss", "loss_weight": 0.25, "T": 10})

    def loss_by_feat(
        self,
        *maps: Levels,
        truths: Sequence[Truth],
        metas: Sequence[PictureMeta],
        soft_targets: Levels | None = None,
    ) -> Losses:
        """Losses of :class:`GFLHead` and ``loss_ld``.

        Args:
            maps, truths, metas: as elsewhere.
            soft_targets: the ``bbox`` maps of the teacher's head, after its :meth:`refine`.

        Raises:
            ValueError: no teacher.
        """
        if soft_targets is None:
            raise ValueError("LDHead learns of a teacher: give its maps as soft_targets, or take GFLHead")
        losses, total = self._level_losses(maps, truths, metas, soft_targets)
        average = reduce_mean(total + 1e-6).item()
        for name in ("loss_bbox", "loss_dfl"):
            losses[name] = [loss / average for loss in losses[name]]
        return dict(losses)
