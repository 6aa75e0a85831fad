"""Detectors that learn of a teacher, which is another detector and does not train."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor, nn

from hatdet.building import Builder
from hatdet.config.load import load_config
from hatdet.config.mmdetection.network.pretrained import start_from
from hatdet.models.detectors.base import Batch
from hatdet.models.mmdet.batch import metas_of
from hatdet.models.mmdet.building import build
from hatdet.models.mmdet.detectors.single_stage import Network, SingleStageDetector, full_precision
from hatdet.models.mmdet.heads.base import DenseHead
from hatdet.models.task_modules.preprocessor import DataPreprocessor
from hatdet.quantization.loading import LoadCheckpoint
from hatdet.registry import register
from hatdet.utils.annotations import Spec
from hatdet.utils.errors import UserError

logger = logging.getLogger("hatdet")
_Teacher = TypeVar("_Teacher", bound=nn.Module)


@register(scope="mmdet")
class KnowledgeDistillationSingleStageDetector(SingleStageDetector):
    """A student whose head learns the ``bbox`` maps of a teacher's head (localization distillation, arXiv 2102.12252).

    The teacher is built when the first loss asks for it and is no part of the state: a checkpoint, an export and a
    stage that does not train have the student alone.

    Args:
        backbone, neck, data_preprocessor, train_cfg, test_cfg, init_cfg, classes: see :class:`SingleStageDetector`;
            the teacher sees what the student's backbone sees.
        bbox_head: the student's, an ``LDHead``.
        teacher_config: the teacher: a detector, a config that has it as ``model``, or the path of a config file.
        teacher_ckpt: its weights, as ``load_from`` takes them: of an address the file is looked for, not downloaded.
        eval_teacher: its normalizations use their running statistics; False: those of the batch.

    Raises:
        ValueError: a head that learns of no teacher.
    """

    def __init__(
        self,
        *,
        backbone: nn.Module,
        neck: nn.Module | None = None,
        bbox_head: DenseHead,
        teacher_config: Spec | str,
        teacher_ckpt: str | None = None,
        eval_teacher: bool = True,
        train_cfg: dict[str, Any] | None = None,
        test_cfg: Spec | None = None,
        data_preprocessor: DataPreprocessor | None = None,
        init_cfg: Spec | None = None,
        classes: Sequence[str] = (),
    ) -> None:
        super().__init__(
            backbone=backbone, neck=neck, bbox_head=bbox_head, train_cfg=train_cfg, test_cfg=test_cfg,
            data_preprocessor=data_preprocessor, init_cfg=init_cfg, classes=classes,
        )  # fmt: skip
        _check_pupil(bbox_head, "soft_targets", "LDHead")
        self.teacher_config, self.teacher_ckpt, self.eval_teacher = teacher_config, teacher_ckpt, eval_teacher
        self._teacher: tuple[SingleStageDetector, ...] = ()  # in a tuple: no part of this module

    @property
    def teacher_model(self) -> SingleStageDetector:
        """The teacher; built on first use.

        Raises:
            UserError: it is no detector of which this one can learn, or its weights are absent.
        """
        if not self._teacher:
            with torch.random.fork_rng(devices=[]):  # the student's training draws what it would draw without it
                teacher = build(self._teacher_dict())
            self._check_teacher(teacher)
            _load(teacher, self.teacher_ckpt)
            self._teacher = (teacher.requires_grad_(False).train(not self.eval_teacher),)
        return self._teacher[0]

    def _teacher_dict(self) -> Mapping[str, Any]:
        written: Mapping[str, Any] = (
            load_config(self.teacher_config) if isinstance(self.teacher_config, str) else self.teacher_config
        )
        return written.get("model", written)  # type: ignore[no-any-return]

    def _check_teacher(self, teacher: Any) -> None:
        own = getattr(self.head, "reg_max", None)
        theirs = getattr(teacher.head, "reg_max", None) if isinstance(teacher, SingleStageDetector) else None
        if own != theirs:
            raise UserError(
                f"model.teacher_config: the head of {type(teacher).__name__} has reg_max={theirs}, the student's "
                f"{own}; take a teacher whose head says edges as distributions of that many values (a GFL)"
            )

    def guidance(self, batch: Batch) -> dict[str, Any]:
        """``soft_targets``: what the teacher's head says of the edges."""
        teacher = _beside(self.teacher_model, batch["img"])
        x = self.preprocess(batch["img"])
        return {"soft_targets": _asked(teacher, teacher.network(), teacher.head, x, self.eval_teacher)[1]}


@register(scope="mmdet")
class LAD(SingleStageDetector):
    """A student that learns of the assignment of boxes that a teacher makes (arXiv 2108.10520).

    The teacher is no part of the state, nor of what is exported.

    Args:
        backbone, neck, data_preprocessor, train_cfg, test_cfg, init_cfg, classes: see :class:`SingleStageDetector`.
        bbox_head: the student's, an ``LADHead``.
        teacher_backbone, teacher_neck, teacher_bbox_head: the teacher's; its head gets ``train_cfg`` and ``test_cfg``.
        teacher_ckpt, eval_teacher: see :class:`KnowledgeDistillationSingleStageDetector`.

    Raises:
        ValueError: a head that learns of no teacher, or a teacher's that makes no assignment.
    """

    completed: ClassVar[Mapping[str, tuple[str, ...]]] = dict.fromkeys(
        ("bbox_head", "teacher_bbox_head"), ("train_cfg", "test_cfg")
    )

    def __init__(
        self,
        *,
        backbone: nn.Module,
        neck: nn.Module | None = None,
        bbox_head: DenseHead,
        teacher_backbone: nn.Module,
        teacher_neck: nn.Module | None = None,
        teacher_bbox_head: DenseHead,
        teacher_ckpt: str | None = None,
        eval_teacher: bool = True,
        train_cfg: dict[str, Any] | None = None,
        test_cfg: Spec | None = None,
        data_preprocessor: DataPreprocessor | None = None,
        init_cfg: Spec | None = None,
        classes: Sequence[str] = (),
    ) -> None:
        super().__init__(
            backbone=backbone, neck=neck, bbox_head=bbox_head, train_cfg=train_cfg, test_cfg=test_cfg,
            data_preprocessor=data_preprocessor, init_cfg=init_cfg, classes=classes,
        )  # fmt: skip
        _check_pupil(bbox_head, "label_assignment_results", "LADHead")
        if not hasattr(teacher_bbox_head, "get_label_assignment"):
            raise ValueError(f"teacher_bbox_head: {type(teacher_bbox_head).__name__} assigns nothing; use LADHead")
        parts = {"backbone": teacher_backbone, "neck": teacher_neck, "bbox_head": teacher_bbox_head}
        teacher = Network([(name, part) for name, part in parts.items() if part is not None])
        teacher.requires_grad_(False).train(not eval_teacher)
        self._teacher = (teacher,)  # in a tuple: no part of this module
        self.eval_teacher = eval_teacher
        if teacher_ckpt is not None:
            _load(teacher, teacher_ckpt)

    @property
    def teacher_model(self) -> Network:
        """The teacher."""
        return self._teacher[0]

    def guidance(self, batch: Batch) -> dict[str, Any]:
        """``label_assignment_results``: the teacher's."""
        teacher = _beside(self.teacher_model, batch["img"])
        head: Any = teacher.bbox_head
        maps = _asked(teacher, teacher, head, self.preprocess(batch["img"]), self.eval_teacher)
        with torch.no_grad(), torch.autocast(batch["img"].device.type, enabled=False):
            found = head.get_label_assignment(*maps, truths=self.truths(batch), metas=metas_of(batch))
        return {"label_assignment_results": found}


def _check_pupil(head: DenseHead, argument: str, name: str) -> None:
    if argument not in inspect.signature(head.loss_by_feat).parameters:
        raise ValueError(f"bbox_head: {type(head).__name__} learns of no teacher; use {name}")


def _load(teacher: nn.Module, checkpoint: str | None) -> None:
    """Weights of a teacher; without a file for an address it stays as it is, and that is said."""
    if checkpoint is None:
        logger.warning("model.teacher_ckpt is None: the student learns of random weights")
        return
    load: LoadCheckpoint = Builder().build(start_from(checkpoint, "model.teacher_ckpt"))
    load(teacher)


def _beside(teacher: _Teacher, img: Tensor) -> _Teacher:
    """A teacher on the device of the pictures: it does not move with its student."""
    return teacher if next(teacher.parameters()).device == img.device else teacher.to(img.device)


@torch.no_grad()
def _asked(teacher: nn.Module, network: nn.Module, head: Any, x: Tensor, evaluating: bool) -> tuple[Any, ...]:
    """What the teacher's head says of a batch, in float32; the teacher is in the mode that is wanted of it, which the
    student's may have changed."""
    if teacher.training == evaluating:
        teacher.train(not evaluating)
    maps = network(x)
    with torch.autocast(x.device.type, enabled=False):
        return head.refine(*head.levels(full_precision(maps)))  # type: ignore[no-any-return]
