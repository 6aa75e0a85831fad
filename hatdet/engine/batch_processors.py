"""What happens to one batch: to the device, forward, losses, backward, optimizer step."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from hatdet.engine.processes.bfloat16 import depthwise_in_float32, faster_in_bfloat16
from hatdet.engine.processes.depthwise import depthwise_apart
from hatdet.engine.processes.device import to_device
from hatdet.registry import register
from hatdet.utils.errors import UserError

if TYPE_CHECKING:
    from hatdet.engine.loop import Loop

DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16}


def collect_losses(outputs: Any) -> dict[str, Tensor]:
    """The default loss collector: the model's dict as it is.

    Raises:
        TypeError: the model in train mode returned something else.
    """
    if not isinstance(outputs, Mapping):
        raise TypeError(f"in train mode a model returns a dict of losses, got {type(outputs).__name__}")
    return dict(outputs)


def sum_losses(losses: Mapping[str, Tensor]) -> Tensor:
    """The sum of the entries with ``loss`` in their name; the others are only shown."""
    parts = [value for name, value in losses.items() if "loss" in name]
    if not parts:
        raise UserError(
            f"no entry of the model's outputs has 'loss' in its name: {', '.join(losses) or 'it is empty'}; "
            "name a loss so that its key has 'loss' in it"
        )
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total


@register
class BasicBatchProcessor:
    """Processes one batch, for training, calibration (``need_grad_update=False``) or evaluation.

    Args:
        need_grad_update: run backward and the optimizer.
        batch_transforms: functions ``batch -> batch`` on the device, in order. One with a method ``begin_step(loop)``
            (:class:`~hatdet.engine.multi_scale.MultiScale`) is told in training which step comes, and is for training
            alone: evaluation leaves it out.
        loss_collector: ``outputs -> dict of losses`` of the model in train mode.
        enable_amp: the forward of a training step in mixed precision; evaluation is in float32, as the model that is
            loaded later is. ``"auto"``: where that is faster: on a GPU, and on a CPU where convolutions in bfloat16
            have been measured to be (:mod:`hatdet.engine.processes.bfloat16`). On a CPU depthwise convolutions stay
            in float32 where that has been measured to be faster.
        enable_amp_dtype: ``float16`` (GPU only) or ``bfloat16``; None: float16 on a GPU, bfloat16 on a CPU.
        enable_channels_last: weights (and with them all maps) in channels_last memory format, 1.5 to 3 times
            faster on CPUs.
        grad_accumulation_step: batches whose gradients are averaged into one optimizer step. The last step of an
            epoch takes what is left.
    """

    def __init__(
        self,
        *,
        need_grad_update: bool = True,
        batch_transforms: Sequence[Callable[[Any], Any]] | None = None,
        loss_collector: Callable[[Any], Mapping[str, Tensor]] | None = None,
        enable_amp: bool | Literal["auto"] = False,
        enable_amp_dtype: str | None = None,
        enable_channels_last: bool = True,
        grad_accumulation_step: int = 1,
    ) -> None:
        if enable_amp_dtype is not None and enable_amp_dtype not in DTYPES:
            raise UserError(f"enable_amp_dtype is {enable_amp_dtype!r}; use one of {', '.join(DTYPES)}")
        if enable_amp not in (True, False, "auto"):
            raise UserError(f"enable_amp is {enable_amp!r}; use True, False or 'auto'")
        if grad_accumulation_step < 1:
            raise UserError(f"grad_accumulation_step is {grad_accumulation_step}; at least 1 is needed")
        self.need_grad_update = need_grad_update
        self.batch_transforms = list(batch_transforms or [])
        self.loss_collector = loss_collector or collect_losses
        self.enable_amp = enable_amp
        self.amp_dtype = None if enable_amp_dtype is None else DTYPES[enable_amp_dtype]
        self.enable_channels_last = enable_channels_last
        self.grad_accumulation_step = grad_accumulation_step
        self._scaler: torch.amp.GradScaler | None = None

    def prepare_model(self, model: nn.Module, device: torch.device) -> nn.Module:
        """Move the model to the device and into the memory format."""
        if self.enable_channels_last:
            return model.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]
        return model.to(device)

    def prepare_batch(self, batch: Any, device: torch.device, training: bool = True) -> Any:
        """The batch on the device, after the batch transforms; those for training alone only in ``training``."""
        batch = to_device(batch, device)
        for transform in self.batch_transforms:
            if training or not hasattr(transform, "begin_step"):
                batch = transform(batch)
        if isinstance(batch, Mapping) and "unfinished" in batch:
            raise UserError(
                "the batch's pictures are unfinished: LeaveToDevice in the transforms left colours and MixUp to the "
                "device; add dict(type='FinishOnDevice') to batch_transforms of the batch_processor"
            )
        return batch

    def mixed(self, device: torch.device) -> bool:
        """Whether the forward runs in mixed precision on this device."""
        if self.enable_amp == "auto":
            return device.type != "cpu" or faster_in_bfloat16()
        return self.enable_amp

    def autocast(self, device: torch.device) -> AbstractContextManager[Any]:
        """Mixed precision where it is enabled."""
        if not self.mixed(device):
            return contextlib.nullcontext()
        dtype = self.amp_dtype or (torch.float16 if device.type == "cuda" else torch.bfloat16)
        if dtype is torch.float16 and device.type == "cpu":
            raise UserError("enable_amp_dtype='float16' needs a GPU; use 'bfloat16' on the CPU")
        if device.type == "cpu" and depthwise_in_float32():
            return depthwise_apart()
        return torch.autocast(device.type, dtype=dtype)

    def scaler(self, device: torch.device) -> torch.amp.GradScaler | None:
        """The gradient scaler that float16 needs (on GPUs; bfloat16 has float32's range)."""
        wanted = self.mixed(device) and device.type == "cuda" and self.amp_dtype is not torch.bfloat16
        if wanted and self._scaler is None:
            self._scaler = torch.amp.GradScaler(device.type)
        return self._scaler if wanted else None

    def predict(self, model: nn.Module, batch: Any, device: torch.device) -> Any:
        """The model's outputs in the mode it is in: no gradients, and float32 whatever training runs in, so that a
        validation's numbers are those of the file."""
        batch = self.prepare_batch(batch, device, training=False)
        with torch.no_grad(), torch.autocast(device.type, enabled=False):
            return model(batch)

    def __call__(self, loop: Loop, batch: Any) -> None:
        """Process one batch of a loop; sets ``loop.outputs``, and in training ``loop.losses`` and ``loop.loss``."""
        for transform in self.batch_transforms:
            if hasattr(transform, "begin_step"):
                transform.begin_step(loop)
        batch = self.prepare_batch(batch, loop.device)
        loop.emit("on_batch_begin")
        if self.need_grad_update and loop.optimizer is not None:
            self._train(loop, batch)
        else:
            with torch.no_grad(), self.autocast(loop.device):
                loop.outputs = loop.network(batch)
        loop.emit("on_batch_end")

    def _train(self, loop: Loop, batch: Any) -> None:
        first, count = self._window(loop)
        last = loop.progress.step_in_epoch == first + count - 1
        scaler = self.scaler(loop.device)
        assert loop.optimizer is not None
        if loop.progress.step_in_epoch == first:
            loop.optimizer.zero_grad(set_to_none=True)
        with contextlib.nullcontext() if last else loop.no_sync():
            with self.autocast(loop.device):
                loop.outputs = loop.network(batch)
                losses = dict(self.loss_collector(loop.outputs))
                loop.emit("on_losses", batch, losses)
                total = sum_losses(losses)
            loop.losses = {name: value.detach() for name, value in losses.items()}
            loop.loss = total.detach()
            scaled = total if count == 1 else total / count
            (scaled if scaler is None else scaler.scale(scaled)).backward()
        loop.updated = False
        if last:
            self._update(loop, scaler)

    def _window(self, loop: Loop) -> tuple[int, int]:
        """First step (in the epoch) and length of the accumulation that the present step belongs to."""
        first = loop.progress.step_in_epoch - loop.progress.step_in_epoch % self.grad_accumulation_step
        return first, min(self.grad_accumulation_step, loop.steps_in_this_epoch - first)

    def between_updates(self, loop: Loop) -> bool:
        """Whether gradients are waiting for more batches: a checkpoint cannot be written now."""
        done = loop.progress.step_in_epoch
        return done % self.grad_accumulation_step != 0 and done < loop.steps_in_this_epoch

    def _update(self, loop: Loop, scaler: torch.amp.GradScaler | None) -> None:
        assert loop.optimizer is not None
        if scaler is not None:
            scaler.unscale_(loop.optimizer)
        loop.begin_update()
        loop.emit("on_optimizer_step_begin")
        if loop.update_skipped:
            if scaler is not None:
                scaler.update()
            return
        if scaler is None:
            loop.optimizer.step()
        else:
            scaler.step(loop.optimizer)
            scaler.update()
        loop.updated = True

    def state_dict(self) -> dict[str, Any]:
        """The gradient scaler's state."""
        return {} if self._scaler is None else {"scaler": self._scaler.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any], device: torch.device) -> None:
        """Take over what :meth:`state_dict` returned."""
        scaler = self.scaler(device)
        if scaler is not None and "scaler" in state:
            scaler.load_state_dict(dict(state["scaler"]))
