"""Calibration: a quantized model sees some batches and records the ranges of its activations."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import nn

from hatdet.engine.batch_processors import BasicBatchProcessor
from hatdet.engine.callbacks.base import Callback
from hatdet.engine.loop import Loop
from hatdet.engine.processes.device import batch_size_of
from hatdet.engine.progress import set_position
from hatdet.registry import register
from hatdet.utils import distributed
from hatdet.utils.errors import UserError
from hatdet.utils.seed import derive_seed, seed_everything

logger = logging.getLogger("hatdet")


@register
class Calibrator(Loop):
    """Runs ``num_steps`` batches without an optimizer, in eval mode, observers on and quantization off.

    After the last batch observers go off and quantization on, and a model with ``refine(batches)`` may adjust its
    weights, *before* ``on_epoch_end``: Validation and Checkpoint see the calibrated model. The loop is one epoch of
    ``num_steps`` steps; a loader that is shorter starts again.

    Args:
        model: becomes, by the pipeline, a model with ``set_observing(bool)`` and ``set_quantizing(bool)``.
        data_loader: batches like those that the model will meet, without strong augmentation.
        num_steps: how many batches; None: one pass over the loader.
        log_interval: show progress every so many steps.
        others: as for `Trainer`.
    """

    def __init__(
        self,
        *,
        model: nn.Module,
        data_loader: Any,
        batch_processor: BasicBatchProcessor | None = None,
        model_convert_pipeline: Callable[[nn.Module], nn.Module] | None = None,
        num_steps: int | None = None,
        device: torch.device | str | int | None = None,
        callbacks: Sequence[Callback] = (),
        val_metrics: Any = None,
        val_data_loader: Any = None,
        log_interval: float | None = None,
        seed: int = 0,
    ) -> None:
        if num_steps is not None and num_steps < 1:
            raise UserError(f"calibration needs at least one batch; got num_steps={num_steps}")
        super().__init__(
            model=model,
            data_loader=data_loader,
            batch_processor=batch_processor or BasicBatchProcessor(need_grad_update=False),
            model_convert_pipeline=model_convert_pipeline,
            device=device,
            callbacks=callbacks,
            val_data_loader=val_data_loader,
            val_metrics=val_metrics,
            seed=seed,
        )
        self.log_interval = max(1, round(log_interval)) if log_interval else None
        self.num_epochs = 1
        self.steps_per_epoch = self.total_steps = num_steps or self.steps_per_epoch

    def fit(self, resume: Any = None) -> dict[str, float]:
        """Calibrate; it takes a minute, so there is nothing to resume: ``resume`` starts from the beginning.

        Returns:
            the values of the validation.

        Raises:
            UserError: the pipeline did not make a model that can be calibrated.
        """
        if resume:
            logger.info("calibration is not resumed: starting from the beginning")
        self.convert()
        self._switch(observing=True, quantizing=False)
        watch = getattr(self.model, "watch_layers", None)
        watched = watch() if callable(watch) else None
        try:
            self.emit("on_loop_begin")
            self.model.eval()
            self.emit("on_epoch_begin")
            for batch in self.batches():
                self.emit("on_step_begin")
                self.batch_processor(self, batch)
                self.progress.advance(batch_size_of(batch))
                self._log()
                self.emit("on_step_end")
            self._switch(observing=False, quantizing=True)
            self._decide()
            if watched is not None:
                _report_dead(watched.close())
            self._refine()
            distributed.broadcast_module(self.model)
            self.emit("on_epoch_end")
            self.progress.next_epoch()
            self.emit("on_loop_end")
        finally:
            self.emit("close")
        return self.values

    def batches(self) -> Iterator[Any]:
        """``num_steps`` batches, passing over the loader as often as it takes."""
        left, turn = self.total_steps, 0
        while left:
            seed_everything(derive_seed(self.seed, turn, distributed.get_rank()))
            set_position(self.data_loader, epoch=turn, start=0)
            for batch in self.data_loader:
                yield batch
                left -= 1
                if not left:
                    return
            turn += 1

    def _refine(self) -> None:
        """Let a model that wants to adjust its weights have the same batches once more."""
        refine = getattr(self.model, "refine", None)
        if callable(refine):
            prepare = self.batch_processor.prepare_batch
            refine(lambda: (prepare(batch, self.device, training=False) for batch in self.batches()))

    def _switch(self, *, observing: bool, quantizing: bool) -> None:
        for name, value in (("set_observing", observing), ("set_quantizing", quantizing)):
            method = getattr(self.model, name, None)
            if not callable(method):
                raise UserError(
                    f"a {type(self.model).__name__} cannot be calibrated: put Float2Calibration into the "
                    "converters of model_convert_pipeline"
                )
            method(value)

    def _decide(self) -> None:
        """Let a model that has still to choose something (``undecided``) do so by the first images."""
        if getattr(self.model, "undecided", False):
            model: Any = self.model
            prepare = self.batch_processor.prepare_batch
            images = (prepare(batch, self.device, training=False)["img"] for batch in self.batches())
            model.decide(images)

    def _log(self) -> None:
        if self.log_interval and self.progress.step % self.log_interval == 0:
            logger.info("calibration: %d of %d batches", self.progress.step, self.total_steps)


def _report_dead(lines: Sequence[str], shown: int = 10) -> None:
    """Say which layers are dead; the first ones of many."""
    for line in lines[:shown]:
        logger.warning("%s", line)
    if len(lines) > shown:
        logger.warning("and %d more layers are dead", len(lines) - shown)
