"""Samples, contexts and partners for tests of transforms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np

from hatdet.data.transforms.sample import Context, Image, Sample, Source, Tile


def noise(height: int, width: int, seed: int = 0, channels: int = 3) -> Image:
    """Random levels."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels)).astype(np.uint8)


def smooth(height: int, width: int, seed: int = 0) -> Image:
    """A picture whose neighbouring pixels differ little, BGR."""
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 4, 3)).astype(np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)  # type: ignore[return-value]


def random_boxes(height: int, width: int, count: int, seed: int = 0) -> list[list[float]]:
    """Boxes (x1, y1, x2, y2) of at least two pixels inside a picture."""
    rng = np.random.default_rng(seed)
    x, y = (np.sort(rng.uniform(0, side, (count, 2)), axis=1) for side in (width, height))
    x[:, 1] = np.minimum(x[:, 1] + 2, width)
    y[:, 1] = np.minimum(y[:, 1] + 2, height)
    return np.stack([x[:, 0], y[:, 0], x[:, 1], y[:, 1]], axis=1).astype(np.float32).tolist()  # type: ignore[no-any-return]


def sample_of(image: Image, boxes: Sequence[Sequence[float]] = (), labels: Sequence[int] | None = None) -> Sample:
    """A sample as a data set gives it."""
    height, width = image.shape[:2]
    image = image.copy()
    image.flags.writeable = False
    array = np.array(boxes, np.float32).reshape(-1, 4)
    array.flags.writeable = False
    tile = Tile(Source((height, width), lambda: image), 1, 1, 0, 0, (0, 0, width, height))
    numbers = np.array(range(len(array)) if labels is None else labels, np.int64)
    return Sample(
        0, 0, "picture", (height, width), [tile], (height, width), array, numbers, (height, width),
        channels=image.shape[2],
    )  # fmt: skip


class Others:
    """Partners: pictures 1, 2, ... with their boxes."""

    def __init__(self, *pictures: tuple[Image, Sequence[Sequence[float]]]) -> None:
        self.pictures = pictures
        self.indices = tuple(range(1, len(pictures) + 1))
        self.loaded: list[int] = []

    def load(self, index: int) -> Sample:
        """Picture ``index``; its labels are 10 times its number."""
        self.loaded.append(index)
        image, boxes = self.pictures[index - 1]
        return sample_of(image, boxes, [10 * index] * len(boxes))


def context(seed: int = 0, partners: Any = None, must_keep: bool = False) -> Context:
    """All that a transform may depend on."""
    return Context(np.random.default_rng(seed), partners or Others(), must_keep)
