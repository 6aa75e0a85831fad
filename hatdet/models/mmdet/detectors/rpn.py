"""The region proposal network as a detector of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from hatdet.models.detectors.base import Batch
from hatdet.models.mmdet.batch import metas_of
from hatdet.models.mmdet.detectors.single_stage import SingleStageDetector
from hatdet.models.mmdet.heads.anchor.cascade.cascade_rpn import CascadeRPNHead
from hatdet.models.mmdet.heads.base import DenseHead, Truth
from hatdet.models.task_modules.preprocessor import DataPreprocessor
from hatdet.registry import register
from hatdet.utils.annotations import Spec


@register(scope="mmdet")
class RPN(SingleStageDetector):
    """Proposals (arXiv 1506.01497), all of one class: a box is an object or none.

    Args:
        backbone, neck, data_preprocessor, init_cfg, classes: see :class:`SingleStageDetector`.
        rpn_head: the head; its parameters are saved as those of a ``bbox_head``.
        train_cfg, test_cfg: ``rpn``: what the head gets.
    """

    completed: ClassVar[Mapping[str, tuple[str, ...]]] = {"rpn_head": ("train_cfg", "test_cfg")}

    def __init__(
        self,
        *,
        backbone: nn.Module,
        neck: nn.Module | None = None,
        rpn_head: DenseHead,
        train_cfg: dict[str, Any] | None = None,
        test_cfg: Spec | None = None,
        data_preprocessor: DataPreprocessor | None = None,
        init_cfg: Spec | None = None,
        classes: Sequence[str] = (),
    ) -> None:
        super().__init__(
            backbone=backbone, neck=neck, bbox_head=rpn_head, train_cfg=train_cfg, test_cfg=test_cfg,
            data_preprocessor=data_preprocessor, init_cfg=init_cfg,
        )  # fmt: skip
        self.classes = tuple(classes)[:1]

    @staticmethod
    def complete_part(
        name: str, cfg: Mapping[str, Any], missing: Mapping[str, Any], argument: Callable[[str], Any]
    ) -> dict[str, Any]:
        """The head's ``train_cfg`` and ``test_cfg``: what the detector's say under ``rpn``."""
        found = {key: (argument(key) or {}).get("rpn") for key in ("train_cfg", "test_cfg") if key in missing}
        return {key: value for key, value in found.items() if value is not None}

    def forward(self, batch: Batch) -> dict[str, Tensor] | list[dict[str, Tensor]]:
        if not isinstance(self.head, CascadeRPNHead):
            return super().forward(batch)
        with self.head.of_sizes([meta["img_shape"] for meta in metas_of(batch)]):
            return super().forward(batch)

    def truths(self, batch: Batch) -> list[Truth]:
        found = super().truths(batch)
        return [replace(truth, labels=torch.zeros_like(truth.labels)) for truth in found]
