"""Faults of the processes that load data, told in the training process: one line with the cause, no traceback."""

from __future__ import annotations

import contextlib
import errno
import multiprocessing.connection
import re
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch._utils import ExceptionWrapper
from torch.utils.data import DataLoader

from hatdet.utils.errors import UserError
from hatdet.utils.faults import explain, explain_text, worker_killed
from hatdet.utils.interruption import held_back, leave_signals_to_parent

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
    """A ``DataLoader`` that says in a :class:`UserError` what happened to a worker, when its batch is due."""

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        # torch would raise in the middle of whatever the training process is doing when a worker dies.
        torch.utils.data._utils.signal_handling._SIGCHLD_handler_set = True
        # Persistent workers are told of the new pass here; new ones must not meet a signal before init_worker.
        with _explained(getattr(self._iterator, "_workers", ())), held_back():
            batches = super().__iter__()
        for worker in getattr(batches, "_workers", ()):  # SIGTERM would be ignored (leave_signals_to_parent)
            worker.terminate, worker._popen.terminate = worker.kill, worker._popen.kill
        return _watched(batches)


def _watched(batches: Iterator[Any]) -> Iterator[Any]:
    while True:
        with _explained(getattr(batches, "_workers", ())):
            try:
                batch = next(batches)
            except StopIteration:
                return
        yield batch
        del batch


@contextlib.contextmanager
def _explained(workers: Iterable[Any]) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        ended = _ended(workers) if _lost(error) else []
        if ended:
            raise UserError(worker_killed(*ended[0])) from error
        text = explain_forwarded(error) if _FORWARDED.match(str(error)) else explain(error)
        if text is None:
            raise
        raise UserError(text) from error


def _lost(error: Exception) -> bool:
    """Whether this is how the end of a worker looks here: noticed by torch, or while its batch was fetched."""
    cut = isinstance(error, (ConnectionError, EOFError)) or (isinstance(error, OSError) and error.errno == errno.ENOENT)
    return cut or str(error).startswith("DataLoader worker (pid")


def _ended(workers: Iterable[Any]) -> list[tuple[int, int]]:
    """(process id, signal) of the workers that have ended, by a signal or with a status that is not 0."""
    workers = list(workers)
    ready = multiprocessing.connection.wait([worker.sentinel for worker in workers], timeout=1)
    for worker in workers:
        worker.join(1 if worker.sentinel in ready else 0)
    return [(worker.pid, -worker.exitcode) for worker in workers if worker.exitcode]


def explain_forwarded(error: BaseException) -> str | None:
    """One line for what was raised in a worker, as far as it is an error for users or a fault of the machine.

    torch raises it here as an exception of the same type whose text is the worker's traceback.
    """
    lines = str(error).rpartition("Traceback (most recent call last):\n")[2].splitlines()
    last = next((i for i, line in enumerate(lines) if line and not line.startswith(" ")), len(lines))
    name, _, message = "\n".join(lines[last:]).strip().partition(":")
    if name.startswith(_USERS) or isinstance(error, UserError):
        return message.strip()
    kind = name.rpartition(".")[2].removeprefix("_Array")  # numpy's own MemoryError
    return explain_text(kind, message.strip())
