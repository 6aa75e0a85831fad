"""Decoded images that are kept."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from hatdet.data.transforms.sample import Image


class ImageCache:
    """The images decoded last, up to a number of bytes. A pure cache: pixels never depend on it."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._images: OrderedDict[int, Image] = OrderedDict()
        self._bytes = 0

    def get(self, position: int, load: Callable[[int], Image]) -> Image:
        """The image at ``position``, read-only."""
        image = self._images.get(position)
        if image is not None:
            self._images.move_to_end(position)
            return image
        image = load(position)
        image.flags.writeable = False
        if image.nbytes <= self.max_bytes:
            self._images[position] = image
            self._bytes += image.nbytes
            while self._bytes > self.max_bytes:
                self._bytes -= self._images.popitem(last=False)[1].nbytes
        return image

    def __getstate__(self) -> dict[str, Any]:
        return {"max_bytes": self.max_bytes, "_images": OrderedDict(), "_bytes": 0}
