"""Writing checkpoints."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hatdet.engine.callbacks.base import Callback
from hatdet.engine.callbacks.monitor import Monitor
from hatdet.registry import register
from hatdet.utils import distributed
from hatdet.utils.checkpoints.checkpoint import save_checkpoint
from hatdet.utils.errors import UserError
from hatdet.utils.finite import NotFinite, refuse_not_finite

if TYPE_CHECKING:
    from hatdet.engine.loop import Loop

logger = logging.getLogger("hatdet")


@register
class Checkpoint(Callback):
    """Writes ``{name_prefix}-checkpoint-{best,last,epoch-NNNN}.pth.tar`` into ``save_dir``.

    ``last`` is written at the end of each epoch, ``best`` where the monitored value of a new validation is the best
    so far (where none measured it, as without an object in the validation data: at the end of training),
    ``epoch-NNNN`` every ``save_interval`` epochs and after the last one. All are the same complete file under several
    names. It is called after all other callbacks, wherever it stands in the list.

    Args:
        save_dir: a directory; made if it is not there.
        name_prefix: the stage: ``float``, ``calibration``, ``qat`` (a final "-" is dropped).
        save_interval: epochs between numbered files.
        mode: ``max`` (more is better) or ``min``.
        monitor_metric_key: which of the validation's values decides about ``best``; None: the last epoch is the best.
        keep: so many numbered files are kept, the newest; None: all; 0: none is written.
        save_last_every_steps: write ``last`` within epochs too, every so many steps.
    """

    runs_last = True

    def __init__(
        self,
        *,
        save_dir: str | Path,
        name_prefix: str = "float",
        save_interval: int = 1,
        mode: str = "max",
        monitor_metric_key: str | None = "AP",
        keep: int | None = 3,
        save_last_every_steps: int | None = None,
    ) -> None:
        for name, value in (("save_interval", save_interval), ("save_last_every_steps", save_last_every_steps)):
            if value is not None and value < 1:
                raise UserError(f"{name} is {value}; it must be at least 1")
        if keep is not None and keep < 0:
            raise UserError(f"keep is {keep}; it is a number of files, or None for all")
        self.save_dir, self.prefix = Path(save_dir), name_prefix.rstrip("-")
        self.save_interval, self.keep, self.save_last_every_steps = save_interval, keep, save_last_every_steps
        self.monitor = None if monitor_metric_key is None else Monitor(monitor_metric_key, mode)
        self.numbered: list[str] = []

    @property
    def last_path(self) -> Path:
        """The file that ``--resume`` continues from."""
        return self.path("last")

    @property
    def best_path(self) -> Path:
        """The file that the next stage reads."""
        return self.path("best")

    def path(self, what: str) -> Path:
        """The file ``what``: best, last or epoch-NNNN."""
        return self.save_dir / f"{self.prefix}-checkpoint-{what}.pth.tar"

    def on_loop_begin(self, loop: Loop) -> None:
        if distributed.is_main_process():
            self.save_dir.mkdir(parents=True, exist_ok=True)
            for leftover in self.save_dir.glob(f".{self.prefix}-checkpoint-*.tmp"):  # of a run that was killed
                leftover.unlink(missing_ok=True)
            if loop.progress.step == 0 and self.last_path.exists():
                logger.info("%s is of an earlier run and will be replaced", self.last_path)
        if loop.progress.step > 0 and self.monitor is not None and self.monitor.best is not None:
            self._forget_a_missing_best()
        if loop.progress.step == 0 and self._improved(loop):  # a validation before the first step
            self.save(loop, [self.best_path])

    def _forget_a_missing_best(self) -> None:
        """In a resumed run whose best file is gone: otherwise there would be none where nothing gets better than it."""
        assert self.monitor is not None
        if not distributed.broadcast(self.best_path.is_file()):
            text = "%s (%s %.4f) is missing: the best from here on takes its place; for what is there now: `cp %s %s`"
            key, names = self.monitor.key, (self.last_path, self.best_path)
            logger.warning(text, self.best_path, key, self.monitor.best, *names)
            self.monitor.best = None

    def on_step_end(self, loop: Loop) -> None:
        # In an accumulation the gradients so far are not part of a checkpoint; the end of an epoch saves anyway.
        if loop.batch_processor.between_updates(loop) or loop.progress.step_in_epoch >= loop.steps_in_this_epoch:
            return
        best = self._improved(loop)
        every = self.save_last_every_steps
        due = every is not None and loop.progress.step % every == 0
        if best or due:
            self.save(loop, [self.best_path] if best else [])

    def on_epoch_end(self, loop: Loop) -> None:
        number = loop.progress.epoch + 1
        names = []
        unmonitored = self.monitor is None or self.monitor.best is None
        if self._improved(loop) or (loop.finished and unmonitored):
            names.append(self.best_path)
        dropped = []
        if self.keep != 0 and (number % self.save_interval == 0 or loop.finished):
            names.append(self.path(f"epoch-{number:04d}"))
            self.numbered = [name for name in self.numbered if name != names[-1].name] + [names[-1].name]
            if self.keep is not None:
                dropped, self.numbered = self.numbered[: -self.keep], self.numbered[-self.keep :]
        self.save(loop, names)
        if distributed.is_main_process():
            for name in dropped:
                (self.save_dir / name).unlink(missing_ok=True)

    def save(self, loop: Loop, also: list[Path]) -> None:
        """Write ``last`` and, before it becomes visible, the other names.

        Raises:
            NotFinite: weights or statistics are NaN or infinite; the files stay as they were.
        """
        state = loop.state_dict()
        self._refuse_not_finite(loop, state)
        if distributed.is_main_process():
            save_checkpoint(self.last_path, state, also)
            if self.best_path in also:
                logger.info("best so far%s: %s", self._shown(loop), self.best_path)

    def _shown(self, loop: Loop) -> str:
        if self.monitor is None or self.monitor.key not in loop.values:
            return ""
        value = loop.values[self.monitor.key]
        if not self.monitor.measured(value):
            return f" is the last, since {self.monitor.key} was not measured"
        return f", {self.monitor.key} {value:.4f}"

    def _refuse_not_finite(self, loop: Loop, state: Mapping[str, Any]) -> None:
        """All processes refuse together what the main one would write."""
        found = ""
        if distributed.is_main_process():
            kept = f"{self.last_path} stays as it was" if self.last_path.exists() else "nothing was written"
            advice = f"{kept}; train again with a lower learning rate, a longer warm-up or GradClip"
            at = f"after step {loop.progress.step} of {self.prefix}"
            try:
                refuse_not_finite(state.get("raw_state_dict", {}), f"the weights or statistics {at}", advice)
                refuse_not_finite(state["state_dict"], f"the weights or statistics to be saved {at}", advice)
            except NotFinite as error:
                found = str(error)
        found = distributed.broadcast(found) or ""
        if found:
            raise NotFinite(found)

    def _improved(self, loop: Loop) -> bool:
        if loop.validated_at != loop.progress.step:  # those weights are gone
            return False
        value = self.monitor.new_value(loop) if self.monitor else None
        return value is not None and self.monitor is not None and self.monitor.improves(value)

    def on_steps_renumbered(self, loop: Loop) -> None:
        if self.monitor:
            self.monitor.seen_at = -1

    def state_dict(self) -> dict[str, Any]:
        return {"monitor": self.monitor.state_dict() if self.monitor else {}, "numbered": list(self.numbered)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.numbered = list(state["numbered"])
        if self.monitor and state["monitor"]:
            self.monitor.load_state_dict(state["monitor"])
