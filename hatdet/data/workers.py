"""Faults of the processes that load data, told in the training process: one line with the cause, no traceback."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import Any

import torch
from torch._utils import ExceptionWrapper
from torch.utils.data import DataLoader

from hatdet.utils.errors import UserError
from hatdet.utils.faults import explain, explain_text
from hatdet.utils.interruption import leave_signals_to_parent

_FORWARDED = re.compile(r"Caught \w+ in (?:DataLoader worker process|pin memory thread)")
_USERS = "hatdet.utils.errors."


def init_worker(worker_id: int) -> None:
    """One thread a worker; OpenCV's thread pool does not survive a fork. Signals are the training process's affair."""
    import multiprocessing.queues

    import cv2

    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    leave_signals_to_parent()
    # Batches are put into shared memory in a thread of the queue, whose errors nobody would hear of: training waits.
    multiprocessing.queues.Queue._on_queue_feeder_error = _forward_error  # type: ignore[attr-defined]


def _forward_error(self: Any, error: BaseException, item: Any) -> None:
    info = torch.utils.data.get_worker_info()
    number = item[0] if isinstance(item, tuple) else None
    self.put((number, ExceptionWrapper(where=f"in DataLoader worker process {info.id if info is not None else 0}")))


class Loader(DataLoader[Any]):
    """A ``DataLoader`` that says in a :class:`UserError` what happened to a worker."""

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        with _explained():
            batches = super().__iter__()
        for worker in getattr(batches, "_workers", ()):  # SIGTERM would be ignored (leave_signals_to_parent)
            worker.terminate, worker._popen.terminate = worker.kill, worker._popen.kill
        return _watched(batches)


def _watched(batches: Iterator[Any]) -> Iterator[Any]:
    while True:
        with _explained():
            try:
                batch = next(batches)
            except StopIteration:
                return
        yield batch
        del batch


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        text = explain_forwarded(error) if _FORWARDED.match(str(error)) else explain(error)
        if text is None:
            raise
        raise UserError(text) from error


def explain_forwarded(error: BaseException) -> str | None:
    """One line for what was raised in a worker, as far as it is an error for users or a fault of the machine.

    torch raises it here as an exception of the same type whose text is the worker's traceback.
    """
    lines = str(error).rpartition("Traceback (most recent call last):\n")[2].splitlines()
    last = next((i for i, line in enumerate(lines) if line and not line.startswith(" ")), len(lines))
    name, _, message = "\n".join(lines[last:]).strip().partition(":")
    if name.startswith(_USERS):
        return message.strip()
    kind = name.rpartition(".")[2].removeprefix("_Array")  # numpy's own MemoryError
    return explain_text(kind, message.strip())
