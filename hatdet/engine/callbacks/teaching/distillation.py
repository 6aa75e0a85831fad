"""Losses of a teacher beside those of the labels."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, nn

from hatdet.engine.callbacks.base import Callback
from hatdet.engine.checkpoints.provenance import teacher_record
from hatdet.registry import register
from hatdet.utils import distributed
from hatdet.utils.errors import UserError
from hatdet.utils.seed import derive_seed, preserved_rng_state, seed_everything

if TYPE_CHECKING:
    from hatdet.engine.loop import Loop

logger = logging.getLogger("hatdet")


class TeachingPart(Protocol):
    """Who knows both models (:class:`hatdet.models.teaching.teacher.Teacher`)."""

    checkpoint: str
    detector: nn.Module

    @property
    def trained(self) -> nn.Module: ...
    def pair(self, student: nn.Module) -> None: ...
    def listen(self, student: nn.Module) -> None: ...
    def losses(self, img: Tensor) -> dict[str, Tensor]: ...
    def close(self) -> None: ...


@register
class Distillation(Callback):
    """Adds a teacher's losses to each training step.

    The teacher is no part of the model: checkpoints, averages and exports have the student alone. What trains along
    with the student (adapters of feature maps) has an AdamW of its own and is kept in this callback's state, so that
    ``--resume`` goes on with the same numbers; its gradients are averaged over the processes.

    Args:
        teacher: e.g. :class:`hatdet.models.teaching.teacher.Teacher`.
        adapter_lr: highest rate of what trains along; it follows the schedule of the optimizer's first group.

    Raises:
        UserError: on resuming with another teacher than before.
    """

    def __init__(self, *, teacher: TeachingPart, adapter_lr: float = 1e-3) -> None:
        if adapter_lr <= 0:
            raise UserError(f"adapter_lr is {adapter_lr}; it must be above 0")
        self.teacher, self.adapter_lr = teacher, adapter_lr
        self.record = teacher_record(teacher.checkpoint)
        self.optimizer: torch.optim.Optimizer | None = None
        self._saved: Mapping[str, Any] = {}
        self._due = False

    def check(self, loop: Loop) -> None:
        with preserved_rng_state():  # the student's training draws what it would draw without a teacher
            seed_everything(derive_seed(loop.seed, "adapters"))
            self.teacher.pair(loop.model)

    def on_loop_begin(self, loop: Loop) -> None:
        self.teacher.detector = loop.batch_processor.prepare_model(self.teacher.detector, loop.device)
        trained = self.teacher.trained.to(loop.device)
        if parameters := list(trained.parameters()):
            self.optimizer = torch.optim.AdamW(parameters, lr=self.adapter_lr, weight_decay=0.0)
        if self._saved:
            trained.load_state_dict(self._saved["adapters"])
            if self.optimizer is not None:
                self.optimizer.load_state_dict(self._saved["optimizer"])
        self.teacher.listen(loop.model)
        logger.info(
            "teacher: %s (%s, %.3f M parameters)",
            self.teacher.checkpoint,
            type(self.teacher.detector).__name__,
            sum(parameter.numel() for parameter in self.teacher.detector.parameters()) / 1e6,
        )

    def on_losses(self, loop: Loop, batch: Any, losses: dict[str, Tensor]) -> None:
        losses.update(self.teacher.losses(batch["img"]))

    def on_optimizer_step_begin(self, loop: Loop) -> None:
        self._due = True
        scaler = loop.batch_processor.scaler(loop.device)
        for parameter in self.teacher.trained.parameters():
            if parameter.grad is not None:
                if scaler is not None:
                    parameter.grad /= scaler.get_scale()
                parameter.grad.copy_(distributed.reduce_mean(parameter.grad))

    def on_batch_end(self, loop: Loop) -> None:
        if self.optimizer is None or not self._due:
            return
        self._due = False
        gradients = [p.grad for p in self.teacher.trained.parameters() if p.grad is not None]
        finite = bool(torch.isfinite(nn.utils.get_total_norm(gradients))) if gradients else False
        if loop.updated and finite:
            assert loop.optimizer is not None
            first = loop.optimizer.param_groups[0]
            self.optimizer.param_groups[0]["lr"] = self.adapter_lr * first["lr"] / first["initial_lr"]
            self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def close(self, loop: Loop) -> None:
        self.teacher.close()

    def state_dict(self) -> dict[str, Any]:
        return {
            "teacher": self.record,
            "adapters": self.teacher.trained.state_dict(),
            "optimizer": {} if self.optimizer is None else self.optimizer.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        former = state["teacher"]
        if former["digest"] != self.record["digest"]:
            raise UserError(
                f"this training learned of {former['file']} (weights {former['digest'][:12]}), the teacher is now "
                f"{self.record['file']} ({self.record['digest'][:12]}); resume with the former one, or train anew "
                "(--overwrite)"
            )
        self._saved = state
