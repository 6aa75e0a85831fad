"""A training loop that stops before each step, so that two loops can take turns."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

from hatdet.building import Builder


class Stopped(Exception):
    """Raised inside a loader to end the loop that reads it."""


class Turns:
    """A loader that gives the same batch whenever a step was asked for, and makes its reader wait until then."""

    batch_size: int

    def __init__(self, batch: dict[str, Any]) -> None:
        self.batch, self.batch_size = batch, len(batch["img"])
        self.go, self.waiting = threading.Semaphore(0), threading.Semaphore(0)
        self.stop = False

    def __len__(self) -> int:
        return 1000

    def __iter__(self) -> Iterator[dict[str, Any]]:
        while True:
            self.waiting.release()
            self.go.acquire()
            if self.stop:
                raise Stopped
            yield dict(self.batch)


class Stepper:
    """Runs a trainer one step at a time.

    The trainer runs in a thread of its own that waits in its data loader until a step is asked for: one thread is
    ever at work, and what is measured is the loop itself with its callbacks, not a copy of its body.

    Args:
        settings: config dict of the trainer; its ``data_loader`` is replaced.
        batch: what each step gets.
    """

    def __init__(self, settings: dict[str, Any], batch: dict[str, Any]) -> None:
        self.begin(Builder().build({**settings, "data_loader": Turns(batch)}))

    @classmethod
    def of(cls, trainer: Any, batch: dict[str, Any]) -> Stepper:
        """Of a trainer that is built."""
        trainer.data_loader = Turns(batch)
        made = cls.__new__(cls)
        made.begin(trainer)
        return made

    def begin(self, trainer: Any) -> None:
        """Start the thread; the trainer's loader is a :class:`Turns`."""
        self.trainer, self._turns = trainer, trainer.data_loader
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        self._wait()

    def step(self) -> None:
        """One step of training, begun and ended in this call."""
        self._turns.go.release()
        self._wait()

    def close(self) -> None:
        """End the loop."""
        self._turns.stop = True
        self._turns.go.release()
        self._thread.join()

    def _wait(self) -> None:
        self._turns.waiting.acquire()
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            self.trainer.fit()
        except Stopped:
            pass
        except BaseException as error:
            self._error = error
        self._turns.waiting.release()
