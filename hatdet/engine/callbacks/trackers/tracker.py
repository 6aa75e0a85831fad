"""What the callbacks of all experiment trackers have in common."""

from __future__ import annotations

import importlib.util
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from hatdet.engine.callbacks.base import Callback
from hatdet.utils import distributed
from hatdet.utils.errors import UserError

if TYPE_CHECKING:
    from hatdet.engine.loop import Loop

logger = logging.getLogger("hatdet")
TRACKERS = {"mlflow": "MLflow", "wandb": "WandB", "clearml": "ClearML"}
"""Names of ``--log``, and the callbacks."""


class Tracker(Callback, ABC):
    """Writes the settings of a run, all published scalars, and at the end how it ended, to a tracker.

    Only the first process writes. A resumed training goes on in the run that it has begun. Where the tracker fails
    (a server that does not answer) training goes on without it, and says so once.
    """

    module: ClassVar[str]
    extra: ClassVar[str]

    def __init__(self) -> None:
        if importlib.util.find_spec(self.module) is None:
            raise UserError(
                f"{type(self).__name__} needs the package {self.module}, which is not installed: "
                f"pip install 'hatdet[{self.extra}]', or leave it out"
            )
        self.run_id: str | None = None
        self._open = False

    @abstractmethod
    def begin(self, name: str, settings: dict[str, Any]) -> str:
        """Open a run, or go on with ``run_id``; gives its id."""

    @abstractmethod
    def write(self, scalars: Mapping[str, float], step: int) -> None:
        """Write numbers of a step."""

    @abstractmethod
    def end(self, finished: bool) -> None:
        """Close the run; not ``finished``: it was interrupted, or has failed."""

    def on_loop_begin(self, loop: Loop) -> None:
        self._finished = False
        if not distributed.is_main_process():
            return
        self._open = True
        name = "/".join(loop.work_dir.parts[-2:]) if loop.work_dir is not None else type(loop).__name__
        self.run_id = self._attempt(lambda: self.begin(name, settings(loop))) or self.run_id

    def on_scalars(self, loop: Loop, scalars: Mapping[str, float]) -> None:
        if self._open:
            self._attempt(lambda: self.write({key: float(value) for key, value in scalars.items()}, loop.progress.step))

    def on_loop_end(self, loop: Loop) -> None:
        self._finished = True

    def close(self, loop: Loop) -> None:
        if self._open:
            self._attempt(lambda: self.end(self._finished))
        self._open = False

    def _attempt(self, action: Callable[[], Any]) -> Any:
        try:
            return action()
        except Exception as error:  # of whatever kind: hours of training are worth more than their log
            self._open = False
            reason = str(error).splitlines()[0] if str(error) else ""
            text = "%s writes nothing from here on: %s: %s"
            logger.warning(text, type(self).__name__, type(error).__name__, reason)
            return None

    def state_dict(self) -> dict[str, Any]:
        return {"run_id": self.run_id}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.run_id = state.get("run_id")


def settings(loop: Loop) -> dict[str, Any]:
    """Names of the config with plain values, and what the run is."""
    record = loop.record
    plain = {str(key): value for key, value in (record.get("constants") or {}).items()}
    return plain | {
        "config": record.get("config", ""),
        "stage": record.get("stage", ""),
        "run": record.get("id", ""),
        "steps": loop.total_steps,
        "images_a_step": getattr(loop.data_loader, "batch_size", None),
    }
