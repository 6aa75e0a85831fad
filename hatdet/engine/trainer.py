"""The training loop."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
from torch import nn

from hatdet.building import Factory
from hatdet.engine.batch_processors import BasicBatchProcessor
from hatdet.engine.callbacks.base import Callback
from hatdet.engine.loop import Loop
from hatdet.engine.optimizer import batch_size_scale, build_optimizer, check_paramwise, describe_groups
from hatdet.engine.paramwise import check_paramwise_cfg
from hatdet.engine.processes.device import batch_size_of
from hatdet.engine.processes.leaving import EvaluationStopped, asked, leave, until_asked
from hatdet.engine.progress import set_position
from hatdet.registry import register
from hatdet.utils import distributed
from hatdet.utils.checkpoints.archive import read_without_tensors
from hatdet.utils.class_names import KnownClasses
from hatdet.utils.errors import UserError
from hatdet.utils.seed import derive_seed, seed_everything, set_rng_state

logger = logging.getLogger("hatdet")


@register
class Trainer(Loop):
    """Trains a model in one process.

    :meth:`fit` converts the model, moves it to the device, builds the optimizer on the converted model, resumes,
    and loops. All generators are seeded anew at each epoch, from (seed, epoch, rank), so that an epoch does not
    depend on what came before in this process; a resumed epoch goes on with the saved generator states.

    Args:
        model: a module that returns a dict of losses in train mode (docs/contracts.md, section 4).
        data_loader: batches; its sampler may have ``set_epoch`` and ``start``.
        optimizer: described, not built: it gets the converted model's parameters. Besides its own arguments it
            takes ``params`` and ``paramwise`` (:func:`hatdet.engine.optimizer.parameter_groups`), or MMEngine's
            ``paramwise_cfg`` and ``constructor`` (:mod:`hatdet.engine.paramwise`).
        batch_processor: what happens to a batch; `BasicBatchProcessor()` by default.
        model_convert_pipeline: a callable ``model -> model``.
        num_epochs, num_steps: the length; give one of them. A step is one batch.
        device: None: this process's GPU, or the CPU.
        callbacks: in the order in which they are called.
        sync_bn: batch statistics over all processes (GPU only).
        train_metrics: updated by `MetricUpdater`.
        val_data_loader, val_metrics: what `Validation` uses where it is not given its own.
        find_unused_parameters: for a distributed model with parameters that a step may not use.
        base_batch_size: images a step that the learning rate was chosen for; the rate is scaled linearly to the
            actual number. None: no scaling.
    """

    resumable = True

    def __init__(
        self,
        *,
        model: nn.Module,
        data_loader: Any,
        optimizer: Annotated[Factory, "params?", "paramwise?", "paramwise_cfg?", "constructor?"],
        batch_processor: BasicBatchProcessor | None = None,
        model_convert_pipeline: Callable[[nn.Module], nn.Module] | None = None,
        num_epochs: int | None = None,
        num_steps: int | None = None,
        device: torch.device | str | int | None = None,
        callbacks: Sequence[Callback] = (),
        sync_bn: bool = False,
        train_metrics: Any = None,
        val_metrics: Any = None,
        val_data_loader: Any = None,
        seed: int = 0,
        find_unused_parameters: bool = False,
        base_batch_size: int | None = None,
    ) -> None:
        super().__init__(
            model=model,
            data_loader=data_loader,
            batch_processor=batch_processor,
            model_convert_pipeline=model_convert_pipeline,
            device=device,
            callbacks=callbacks,
            val_data_loader=val_data_loader,
            val_metrics=val_metrics,
            seed=seed,
        )
        if base_batch_size is not None and base_batch_size < 1:
            raise UserError(f"base_batch_size is {base_batch_size}; it is a number of images a step, at least 1")
        check_paramwise(optimizer.kwargs.get("paramwise"))
        check_paramwise_cfg(optimizer.kwargs.get("paramwise_cfg"), optimizer.kwargs.get("constructor"))
        self.optimizer_factory, self.base_batch_size = optimizer, base_batch_size
        self.sync_bn, self.find_unused_parameters = sync_bn, find_unused_parameters
        self.train_metrics = train_metrics
        self.num_epochs, self.total_steps = self._length(num_epochs, num_steps)

    def _length(self, num_epochs: int | None, num_steps: int | None) -> tuple[int, int]:
        if (num_epochs is None) == (num_steps is None):
            raise UserError(f"give num_epochs or num_steps, one of them; got {num_epochs} and {num_steps}")
        for name, length in (("num_epochs", num_epochs), ("num_steps", num_steps)):
            if length is not None and length < 1:
                raise UserError(f"training needs at least one epoch or step; got {name}={length}")
        if num_epochs is not None:
            return num_epochs, num_epochs * self.steps_per_epoch
        assert num_steps is not None
        return math.ceil(num_steps / self.steps_per_epoch), num_steps

    def fit(self, resume: str | Path | bool | None = None) -> dict[str, float]:
        """Train to the end.

        Args:
            resume: a checkpoint; True: the last one that the `Checkpoint` callback wrote, or from the start where
                there is none yet.

        Returns:
            the values of the last validation.
        """
        self.setup(resume)
        try:
            self.emit("on_loop_begin")
            self.network = self.wrap(self.model)
            with self.interruption.deferred():
                if self.epoch_end_pending:
                    self.end_resumed_epoch()
                while not self.finished:
                    self.run_epoch()
            self.emit("on_loop_end")
        finally:
            self.network = self.model  # lets go of the process group, so that its threads end with it
            self.emit("close")
        return self.values

    def run_epoch(self) -> None:
        """One epoch, or the rest of one."""
        self.model.train()
        self.emit("on_epoch_begin")
        for batch in until_asked(self, self.batches()):
            self.emit("on_step_begin")
            self.batch_processor(self, batch)
            self.progress.advance(batch_size_of(batch))
            self.emit("on_step_end")
            if asked(self):
                self.epoch_end_pending = self.progress.step_in_epoch >= self.steps_in_this_epoch
                leave(self)
            if self.finished:
                break
        self.end_epoch()

    def end_epoch(self) -> None:
        """``on_epoch_end``: validation, checkpoint. A signal ends a validation; the resumed run does it anew."""
        self.in_epoch_end, self.epoch_end_pending = True, False
        try:
            self.emit("on_epoch_end")
        except EvaluationStopped:
            self.epoch_end_pending = True
            leave(self)
        finally:
            self.in_epoch_end = False
        if not self.finished and asked(self):
            leave(self, save=False)
        self.progress.next_epoch()

    def end_resumed_epoch(self) -> None:
        """The end of an epoch whose steps were done before the interruption."""
        if self.progress.step_in_epoch == 0:  # a checkpoint counts an epoch with all of its steps as finished
            self.progress.epoch, self.progress.step_in_epoch = self.progress.epoch - 1, self.steps_per_epoch
        self.model.train()
        self.emit("on_epoch_begin")
        if self.resume_rng is not None:
            set_rng_state(self.resume_rng)
            self.resume_rng = None
        self.end_epoch()

    def setup(self, resume: str | Path | bool | None = None) -> None:
        """Everything before the first step."""
        path = self.last_checkpoint() if resume is True else resume or None
        self.convert(KnownClasses.of(read_without_tensors(path) or {}, str(path)) if path is not None else None)
        if self.sync_bn and distributed.get_world_size() > 1 and self.device.type == "cuda":
            self.model = self.network = nn.SyncBatchNorm.convert_sync_batchnorm(self.model)
        self.optimizer = build_optimizer(self.optimizer_factory, self.model, self._lr_scale())
        logger.info(describe_groups(self.optimizer.param_groups))
        if path is not None:
            self.resume(path)
            if self.finished and self.stop_reason is None and not self.epoch_end_pending:
                logger.info(
                    "nothing left to do: %s has %s of %s; a larger number continues it", path, *self._done_of_all()
                )
        elif resume is True:
            logger.info("nothing to resume: no checkpoint was written yet, starting from the beginning")

    def _done_of_all(self) -> tuple[str, str]:
        if self.total_steps == self.num_epochs * self.steps_per_epoch:
            return f"{self.progress.epoch} epochs", f"num_epochs={self.num_epochs}"
        return f"{self.progress.step} steps", f"num_steps={self.total_steps}"

    def last_checkpoint(self) -> Path | None:
        """The file to resume from; None where there is none.

        Raises:
            UserError: no callback writes checkpoints.
        """
        paths = [path for callback in self.callbacks if (path := getattr(callback, "last_path", None)) is not None]
        if not paths:
            raise UserError("resuming needs a Checkpoint callback in the trainer's callbacks; add one, and train anew")
        return next((path for path in paths if path.is_file()), None)

    def wrap(self, model: nn.Module) -> nn.Module:
        """What is called in a training step: the model itself."""
        return model

    def batches(self) -> Iterator[Any]:
        """The batches of this epoch that are still to come."""
        progress, rank = self.progress, distributed.get_rank()
        size = getattr(self.data_loader, "batch_size", None) or 1
        seed_everything(derive_seed(self.seed, progress.epoch, rank, "order"))  # a sampler may draw its order from it
        passed_over = set_position(self.data_loader, progress.epoch, progress.step_in_epoch * size) // size
        iterator = iter(self.data_loader)
        for _ in range(passed_over):
            next(iterator)
        first = next(iterator)  # torch's RandomSampler draws its seed here, not before
        if self.resume_rng is not None and progress.step_in_epoch:
            set_rng_state(self.resume_rng)
        else:
            seed_everything(derive_seed(self.seed, progress.epoch, rank, "steps"))
        self.resume_rng = None
        yield first
        yield from iterator

    def _lr_scale(self) -> float:
        size = getattr(self.data_loader, "batch_size", None) or 1
        accumulation = self.batch_processor.grad_accumulation_step
        return batch_size_scale(self.base_batch_size, size, distributed.get_world_size(), accumulation)


@register("distributed_data_parallel_trainer")
class DistributedDataParallelTrainer(Trainer):
    """Trains in as many processes as torchrun started; in a single process it is the plain `Trainer`.

    Each process takes its share of the data (the sampler reads its rank from the process group), gradients are
    averaged. Rank 0's buffers are the group's: they are sent to all before each forward.
    """

    def wrap(self, model: nn.Module) -> nn.Module:
        """The model in ``torch.nn.parallel.DistributedDataParallel``."""
        if distributed.get_world_size() == 1:
            return model
        devices = [self.device] if self.device.type == "cuda" else None
        return nn.parallel.DistributedDataParallel(
            model, device_ids=devices, find_unused_parameters=self.find_unused_parameters
        )
