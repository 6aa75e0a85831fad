"""Processes that check images, and end with their parent."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import Connection
from typing import TypeVar

from hatdet.data.packers.store.publish import UnfinishedError
from hatdet.utils.locks import release_inherited

_T = TypeVar("_T")
_R = TypeVar("_R")
CHUNK = 8


FEW = 256
"""Fewer images are checked sooner than processes are started."""


def processes_for(count: int, asked: int | None) -> int:
    """How many processes to start for ``count`` images: as many as ``asked`` for, by default one a core, at most 8."""
    return 0 if count < FEW else min(8, os.cpu_count() or 1) if asked is None else asked


def in_processes(work: Callable[[_T], _R], items: Sequence[_T], num_workers: int) -> Iterator[_R]:
    """``map(work, items)`` in worker processes; only a few results wait in memory at a time.

    Raises:
        UnfinishedError: a process was killed.
    """
    if num_workers < 1 or not items:
        yield from map(work, items)
        return
    pending: list[Future[list[_R]]] = []
    chunks = [items[i : i + CHUNK] for i in range(0, len(items), CHUNK)]
    reading, writing = multiprocessing.Pipe(duplex=False)  # the parent's end is open as long as the parent lives
    settings = (reading, writing if multiprocessing.get_start_method() == "fork" else None)
    try:
        with ProcessPoolExecutor(min(num_workers, len(chunks)), initializer=_start, initargs=settings) as pool:
            try:
                for chunk in chunks:
                    pending.append(pool.submit(_map_chunk, work, chunk))
                    if len(pending) > 2 * num_workers:
                        yield from pending.pop(0).result()
                while pending:
                    yield from pending.pop(0).result()
            except BrokenProcessPool as error:
                raise UnfinishedError(
                    "a packing process was killed (out of memory?); pack with fewer (a packer's --num-workers 1): it "
                    "goes on there"
                ) from error
            finally:
                for future in pending:
                    future.cancel()
    finally:
        reading.close()
        writing.close()


def _map_chunk(work: Callable[[_T], _R], chunk: Sequence[_T]) -> list[_R]:
    return [work(item) for item in chunk]


def _start(reading: Connection, writing: Connection | None) -> None:
    """Settings of a worker: one thread, Ctrl-C is the parent's affair, and nothing outlives the parent.

    A forked worker has the parent's lock and waits for tasks for ever: after the parent was killed it would keep the
    lock of the data set from everybody.
    """
    import signal

    import cv2

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    cv2.setNumThreads(0)
    release_inherited()
    threading.Thread(target=_end_with_parent, args=(reading, writing), daemon=True).start()


def _end_with_parent(reading: Connection, writing: Connection | None) -> None:
    """Wait for the end of the pipe, whose other end the parent alone holds; a forked worker has a copy to close."""
    if writing is not None:
        writing.close()
    with contextlib.suppress(EOFError, OSError):
        reading.recv_bytes()
    os._exit(1)
