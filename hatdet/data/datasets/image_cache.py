"""Decoded images that are kept: all that fit, for all processes that load, and the last ones of each."""

from __future__ import annotations

import mmap
import multiprocessing
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hatdet.data.transforms.sample import Image
from hatdet.utils.environment import free_memory

LAST_BYTES = 256 << 20
"""Most that a process keeps of images that have no place in the shared memory: Mosaic asks for the last ones again."""
SHARE = 0.5
"""Of what was free at the start: as much is left alone."""
LOOK_AFTER = 32 << 20
"""Bytes that a process adds before it looks again at what is free."""
PATIENCE = 5.0
"""Seconds for a flag to be read or set. A process that was killed meanwhile would keep all others waiting."""


class SharedImages:
    """Images in memory that this process shares with those forked from it.

    Each has a place of its own, in the order of their numbers, as far as they fit. What is written there is a function
    of the number alone, so two processes that decode the same image do each other no harm; a flag says that it is all
    there. The memory is taken as it is written to. It has no name: the system frees it with the last of the processes,
    however they end.

    Args:
        shapes: int (n, 3) of the images by number. One that comes in another shape is not kept.
        max_bytes: of all of them; None: half of what is free now, and no more once only half of it is left.

    Raises:
        OSError, ValueError, ImportError: the system has no such memory.
    """

    def __init__(self, shapes: NDArray[np.int64], max_bytes: int | None) -> None:
        self._leave = free_memory() * SHARE if max_bytes is None else 0.0
        ends = np.cumsum(shapes.prod(axis=1))
        count = int(np.searchsorted(ends, self._leave if max_bytes is None else max_bytes, side="right"))
        self._shapes, self._ends = shapes[:count].astype(np.int32), ends[:count]
        self._lock = multiprocessing.get_context("fork").Lock()
        self._flags = mmap.mmap(-1, max(1, count))
        self._pixels = mmap.mmap(-1, int(ends[count - 1]) if count else 1)
        self._added = 0
        self._usable = self._room = True

    def __len__(self) -> int:
        """Images that have a place."""
        return len(self._ends)

    def get(self, number: int) -> Image | None:
        """The image, read-only; None: it is not there."""
        return self._view(number, frozen=True) if 0 <= number < len(self) and self._flag(number) else None

    def put(self, number: int, image: Image) -> Image | None:
        """Keep the image and return the copy that is kept, read-only; None: there is no room."""
        if not 0 <= number < len(self) or image.shape != tuple(self._shapes[number]):
            return None
        if not self._has_room(image.nbytes):
            return None
        self._view(number)[...] = image
        return self._view(number, frozen=True) if self._flag(number, done=True) else None

    def _view(self, number: int, frozen: bool = False) -> Image:
        shape = self._shapes[number].tolist()
        size = shape[0] * shape[1] * shape[2]
        view = np.frombuffer(self._pixels, np.uint8, size, int(self._ends[number]) - size).reshape(shape)
        view.flags.writeable = not frozen
        return view

    def _flag(self, number: int, done: bool = False) -> bool:
        """Whether the image is there, or ``done``: say so. Under a lock: on some processors the flag of another process
        could be seen before its pixels."""
        if not self._usable or not self._lock.acquire(timeout=PATIENCE):
            self._usable = False
            return False
        try:
            if done:
                self._flags[number] = 1
            return self._flags[number] == 1
        finally:
            self._lock.release()

    def _has_room(self, size: int) -> bool:
        if self._leave and self._added // LOOK_AFTER != (self._added + size) // LOOK_AFTER:
            self._room = self._room and free_memory() > self._leave
        self._added += size
        return self._room


class ImageCache:
    """Decoded images by number. A pure cache: pixels never depend on it.

    Args:
        max_bytes: None: as many as half of the free memory holds; 0: none.
        shapes: of the images, for sharing them with other processes; None: this process alone keeps the last ones.

    Pickled, it is one that shares nothing: a process that is not forked has its own.
    """

    def __init__(self, max_bytes: int | None, shapes: NDArray[np.int64] | None = None) -> None:
        self.max_bytes = LAST_BYTES if max_bytes is None else min(max_bytes, LAST_BYTES)
        self._images: OrderedDict[int, Image] = OrderedDict()
        self._bytes = 0
        self._shared = _shared(shapes, max_bytes) if shapes is not None and max_bytes != 0 else None

    def get(self, number: int, load: Callable[[], Image]) -> Image:
        """The image, read-only: kept, or as ``load`` gives it."""
        image = None if self._shared is None else self._shared.get(number)
        if image is not None:
            return image
        image = self._images.get(number)
        if image is not None:
            self._images.move_to_end(number)
            return image
        image = load()
        kept = None if self._shared is None else self._shared.put(number, image)
        if kept is not None:
            return kept
        image.flags.writeable = False
        if image.nbytes <= self.max_bytes:
            self._images[number] = image
            self._bytes += image.nbytes
            while self._bytes > self.max_bytes:
                self._bytes -= self._images.popitem(last=False)[1].nbytes
        return image

    def __getstate__(self) -> dict[str, Any]:
        return {"max_bytes": self.max_bytes, "_images": OrderedDict(), "_bytes": 0, "_shared": None}


def _shared(shapes: NDArray[np.int64], max_bytes: int | None) -> SharedImages | None:
    """None where the system has no memory that processes share (not all can fork)."""
    try:
        return SharedImages(shapes, max_bytes)
    except (OSError, ValueError, ImportError):
        return None
