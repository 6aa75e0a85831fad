"""What every loop over batches has: parts, progress, events, and its state in a checkpoint."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hatdet.engine.batch_processors import BasicBatchProcessor
from hatdet.engine.callbacks.base import Callback
from hatdet.engine.checkpoints import resume
from hatdet.engine.checkpoints.bits import settle_bits
from hatdet.engine.checkpoints.classes import (
    check_classes,
    class_table,
    compare_start,
    pipeline_classes,
    starting_classes,
)
from hatdet.engine.checkpoints.following import followed
from hatdet.engine.checkpoints.resume import Pace, describe, parameter_names, position, restore_optimizer, restore_rates
from hatdet.engine.checks.config import check_input
from hatdet.engine.processes.device import choose_device
from hatdet.engine.progress import Progress, set_position
from hatdet.utils import distributed
from hatdet.utils.checkpoints.checkpoint import load_checkpoint, load_state, snapshot
from hatdet.utils.class_names import KnownClasses
from hatdet.utils.environment import versions
from hatdet.utils.errors import UserError
from hatdet.utils.finite import NotFinite
from hatdet.utils.interruption import Interruption
from hatdet.utils.seed import get_rng_state

logger = logging.getLogger("hatdet")


class Loop:
    """Common part of `Trainer` and `Calibrator`.

    Attributes that callbacks read:
        model: the model itself, converted; ``network`` is what is called (wrapped where training is distributed).
        progress: :class:`Progress`.
        losses, loss: the last batch's loss terms and their sum, detached, on the device.
        outputs: what the network returned for the last batch.
        updated: the last batch ended in an optimizer step.
        values: what the last validation gave, and ``validated_at``, the step at which it was.
        work_dir: where logs go; None: nowhere.
        epoch_end_pending: the last epoch's steps are done, its ``on_epoch_end`` is not.
    """

    num_epochs: int
    total_steps: int
    resumable = in_epoch_end = data_checked = False

    def __init__(
        self,
        *,
        model: nn.Module,
        data_loader: Any,
        batch_processor: BasicBatchProcessor | None,
        model_convert_pipeline: Callable[[nn.Module], nn.Module] | None,
        device: torch.device | str | int | None,
        callbacks: Sequence[Callback],
        val_data_loader: Any,
        val_metrics: Any,
        seed: int,
    ) -> None:
        self.model, self.network = model, model
        self.data_loader, self.val_data_loader = data_loader, val_data_loader
        self.batch_processor = batch_processor or BasicBatchProcessor()
        self.model_convert_pipeline = model_convert_pipeline
        self.device = choose_device(device)
        self.callbacks = sorted(callbacks, key=lambda callback: callback.runs_last)
        self.val_metrics, self.seed = val_metrics, seed
        self.optimizer: torch.optim.Optimizer | None = None
        self.progress = Progress()
        self.losses: dict[str, Tensor] = {}
        self.loss: Tensor | None = None
        self.outputs: Any = None
        self.updated = self.update_skipped = False
        self.values: dict[str, float] = {}
        self.validated_at = -1
        self.stop_reason: str | None = None
        self.work_dir: Path | None = None
        self.config_text = ""
        self.record: dict[str, Any] = {}  # the checkpoints' ``run`` (engine/checkpoints/provenance.py)
        self.resume_rng: dict[str, Any] | None = None
        self.interruption, self.epoch_end_pending = Interruption(), False
        self.steps_per_epoch = self._steps_per_epoch()

    def _steps_per_epoch(self) -> int:
        set_position(self.data_loader, epoch=0, start=0)
        steps = len(self.data_loader)
        if steps == 0:
            raise UserError(
                "the data loader has no batch: fewer images than batch_size and drop_last=True? "
                "give it more images, or set drop_last=False"
            )
        return steps

    @property
    def pace(self) -> Pace:
        """What a step and an epoch are in this run."""
        return Pace.of(self.data_loader, self.steps_per_epoch, self.batch_processor.grad_accumulation_step)

    @property
    def steps_in_this_epoch(self) -> int:
        """Steps of the present epoch; fewer than ``steps_per_epoch`` where ``num_steps`` ends in it."""
        before = self.progress.step - self.progress.step_in_epoch
        return min(self.steps_per_epoch, self.total_steps - before)

    @property
    def finished(self) -> bool:
        """Whether there is nothing left to do."""
        return self.stop_reason is not None or self.progress.step >= self.total_steps

    # -- what callbacks do ------------------------------------------------------------------------------------

    def add_callback(self, callback: Callback, first: bool = False) -> None:
        """Add one to the end of the list (those that run last stay last), or to its beginning."""
        callbacks = [callback, *self.callbacks] if first else [*self.callbacks, callback]
        self.callbacks = sorted(callbacks, key=lambda c: c.runs_last)

    def emit(self, event: str, *arguments: Any) -> None:
        """Call a method of every callback."""
        for callback in self.callbacks:
            getattr(callback, event)(self, *arguments)

    def publish(self, scalars: Mapping[str, float]) -> None:
        """Give numbers, named like ``train/loss`` or ``val/AP``, to whoever writes them (TensorBoard, results.csv)."""
        self.emit("on_scalars", scalars)

    def begin_update(self) -> None:
        """Forget an earlier :meth:`skip_update`."""
        self.update_skipped = False

    def skip_update(self) -> None:
        """From ``on_optimizer_step_begin``: leave the weights as they are in this step."""
        self.update_skipped = True

    def stop(self, reason: str) -> None:
        """End training after this step; ``reason`` is shown."""
        if self.stop_reason is None:
            self.stop_reason = reason
            logger.info("stopping: %s", reason)

    def no_sync(self) -> AbstractContextManager[Any]:
        """Inside, gradients are not exchanged between processes."""
        method = getattr(self.network, "no_sync", None)
        return contextlib.nullcontext() if method is None else method()

    @contextlib.contextmanager
    def evaluation_weights(self) -> Iterator[bool]:
        """Inside, the model has the weights that are validated and saved; gives whether they differ from its own."""
        with contextlib.ExitStack() as stack:
            changed = [stack.enter_context(callback.evaluation_weights(self)) for callback in self.callbacks]
            yield any(changed)

    @property
    def validation_loader(self) -> Any:
        """The loader that is validated on: the trainer's own or the `Validation` callback's; None: there is none."""
        return next(iter(self.validation_loaders), None)

    @property
    def validation_loaders(self) -> list[Any]:
        """All of them."""
        loaders = [self.val_data_loader, *(getattr(callback, "data_loader", None) for callback in self.callbacks)]
        return list({id(loader): loader for loader in loaders if loader is not None}.values())

    # -- preparation and checkpoints --------------------------------------------------------------------------

    def check_data(self, resumed: KnownClasses | None = None) -> None:
        """Bring the data's classes into one order, the checkpoint's; compare them and the pixels with the model's.

        Args:
            resumed: classes of the checkpoint that training goes on from.
        """
        loaders = self.validation_loaders
        known = resumed or pipeline_classes(self.model_convert_pipeline)
        check_classes(self.model, self.data_loader, loaders, known)
        settle_bits(self.model, [self.data_loader, *loaders], known)
        if resumed is None:
            compare_start(starting_classes(self.model_convert_pipeline), [self.data_loader, *loaders], self.model)
        check_input(self.model, training=self.data_loader, validation=self.validation_loader)
        self.emit("check")
        self.data_checked = True

    def convert(self, resumed: KnownClasses | None = None) -> None:
        """Check classes and pixels, convert the model, move it to the device."""
        if not self.data_checked:  # a command does it before anything is written
            self.check_data(resumed)
        if self.model_convert_pipeline is not None:
            self.model = self.model_convert_pipeline(self.model)
        self.model = self.network = self.batch_processor.prepare_model(self.model, self.device)

    def state_dict(self) -> dict[str, Any]:
        """Everything a checkpoint holds (docs/contracts.md, section 5). All processes must call it together."""
        rng = {str(rank): state for rank, state in enumerate(distributed.all_gather(get_rng_state()))}
        with self.evaluation_weights() as averaged:
            evaluated = snapshot(self.model) if averaged else self.model.state_dict()
            metadata = model_metadata(self.model, self.data_loader)
        state: dict[str, Any] = {"state_dict": evaluated}
        if averaged:
            state["raw_state_dict"] = self.model.state_dict()
        if self.optimizer is not None:
            state["optimizer"] = self.optimizer.state_dict()
            state["optimizer_names"] = parameter_names(self.model, self.optimizer)
            state["optimizer_type"] = type(self.optimizer).__name__
            state["scheduler"] = {"lr": [float(group["lr"]) for group in self.optimizer.param_groups]}
        return state | {
            "rng": rng,
            "progress": self.progress.state_dict(self.steps_per_epoch),
            "pace": self.pace.state_dict(),
            "epoch_end_pending": self.epoch_end_pending,
            "callbacks": {key: callback.state_dict() for key, callback in self.keyed_callbacks()},
            "batch_processor": self.batch_processor.state_dict(),
            "config": self.config_text,
            "versions": versions(),
            "metrics": dict(self.values),
            "metadata": metadata,
            "run": dict(self.record),
        }

    def load_state_dict(self, state: Mapping[str, Any], source: str = "the checkpoint") -> None:
        """Continue where ``state`` was taken.

        Raises:
            UserError: it is of another model or another kind of run.
        """
        resume.check_resumable(state, source, optimized=self.optimizer is not None)
        try:
            weights = followed(self.model, state, state.get("raw_state_dict", state["state_dict"]), source)
            load_state(self.model, weights, source=source)
            if self.optimizer is not None:
                if new := restore_optimizer(self.optimizer, state, self.model):
                    logger.info("from here on %s (%s has the former)", ", ".join(new), source)
        except NotFinite:
            raise
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            reason = f"it has no {error}" if isinstance(error, KeyError) else error
            raise UserError(f"{source} does not belong to this config: {reason}") from error
        self.values = dict(state["metrics"])
        if self.record and state.get("run"):  # the same run goes on
            self.record["id"] = state["run"]["id"]
        self.batch_processor.load_state_dict(state["batch_processor"], self.device)
        self.resume_rng = state["rng"].get(str(distributed.get_rank()))
        for key, callback in self.keyed_callbacks():
            if key in state["callbacks"]:
                callback.load_state_dict(state["callbacks"][key])
        self._take_position(state)
        if self.epoch_end_pending and self.optimizer is not None:
            restore_rates(self.optimizer, state)
        self.emit("on_resume", state)

    def _take_position(self, state: Mapping[str, Any]) -> None:
        """The place in this run that the checkpoint's epochs and images are."""
        saved, old = Progress(), Pace.saved(state)
        saved.load_state_dict(state["progress"])
        self.progress = position(saved, old, self.pace)
        moved = self.progress.step_in_epoch != saved.step_in_epoch
        self.epoch_end_pending = bool(state.get("epoch_end_pending")) and not moved
        if self.progress != saved:
            self.emit("on_steps_renumbered")
        if text := describe(saved, self.progress, old, self.pace):
            logger.info("%s", text)

    def resume(self, path: str | Path) -> None:
        """Load a checkpoint file and continue there."""
        self.load_state_dict(load_checkpoint(path, map_location="cpu"), str(path))
        where = self.progress
        inside = f", step {where.step_in_epoch} of {self.steps_per_epoch}" if where.step_in_epoch else ""
        logger.info("resumed from %s: epoch %d%s", path, where.epoch + 1, inside)

    def keyed_callbacks(self) -> Iterator[tuple[str, Callback]]:
        """Callbacks with a unique key each: the class name, with a number from the second of its kind on."""
        counts: dict[str, int] = {}
        for callback in self.callbacks:
            counts[callback.key] = counts.get(callback.key, 0) + 1
            number = counts[callback.key]
            yield (callback.key if number == 1 else f"{callback.key}.{number}"), callback


def model_metadata(model: nn.Module, loader: Any) -> dict[str, Any]:
    """The model's own metadata, and the class table of the data it was trained on."""
    method = getattr(model, "metadata", None)
    metadata = dict(method()) if callable(method) else {}
    table = class_table(loader)
    if table is not None:
        metadata["classes"] = table.names
        metadata["category_ids"] = table.ids
    return metadata
