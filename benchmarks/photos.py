"""Rows about photographs that are much larger than the network's input."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks import dataset
from benchmarks.parts import BATCH_SIZE, IMAGE_SIZE, Parts, type_name
from benchmarks.pipeline import endless
from benchmarks.timing import Row, interleave
from hatdet.building import Builder

PHOTOS = (((960, 1280), 40), ((3000, 4000), 8))
"""Size (h, w) and number: of a camera, of a phone."""


class PlainMosaic:
    """The baseline, in OpenCV calls alone: pictures are kept at the network's size (what is lost comes not back), four
    of them are pasted on a canvas of twice that size, from which one warp cuts the input; HSV and mirroring follow.

    Args:
        files: encoded pictures.
        kept: False: each image decodes one picture, as its partners are the last ones.
    """

    def __init__(self, files: list[np.ndarray], kept: bool) -> None:
        self.files, self.kept, self.position = files, kept, 0
        self.rng = np.random.default_rng(0)
        self.pictures = [self._load(file) for file in files]

    def _load(self, file: np.ndarray) -> np.ndarray:
        import cv2

        picture = cv2.imdecode(file, cv2.IMREAD_COLOR)
        scale = IMAGE_SIZE[0] / max(picture.shape[:2])
        return cv2.resize(picture, None, fx=scale, fy=scale)

    def batch(self) -> np.ndarray:
        """uint8 (B, h, w, 3)."""
        return np.stack([self._image() for _ in range(BATCH_SIZE)])

    def _image(self) -> np.ndarray:
        import cv2

        self.position = (self.position + 1) % len(self.files)
        if not self.kept:
            self.pictures[self.position] = self._load(self.files[self.position])
        height, width = IMAGE_SIZE
        canvas = np.full((2 * height, 2 * width, 3), 114, np.uint8)
        cy, cx = (int(side * self.rng.uniform(0.5, 1.5)) for side in IMAGE_SIZE)
        for place in range(4):
            picture = self.pictures[self.position if place == 0 else int(self.rng.integers(len(self.pictures)))]
            h, w = picture.shape[:2]
            y, x = cy - h * (place < 2), cx - w * (place % 2 == 0)
            top, left = max(0, -y), max(0, -x)
            part = picture[top : 2 * height - y, left : 2 * width - x]
            canvas[y + top : y + top + part.shape[0], x + left : x + left + part.shape[1]] = part
        scale = self.rng.uniform(0.5, 1.5)
        shift = [side * (self.rng.uniform(0.4, 0.6) - scale) for side in (width, height)]
        matrix = np.array([[scale, 0, shift[0]], [0, scale, shift[1]]])
        image = cv2.warpAffine(canvas, matrix, (width, height), borderValue=(114, 114, 114))
        hsv = cv2.cvtColor(image, cv2.COLOR_BGR2HSV)
        tables = np.clip(np.arange(256)[:, None] * self.rng.uniform(0.6, 1.4, 3), 0, 255).astype(np.uint8)
        hsv = cv2.LUT(hsv, tables.reshape(256, 1, 3))
        image = cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR)
        return cv2.flip(image, 1) if self.rng.random() < 0.5 else image


def photos(parts: Parts, repeat: int) -> list[Row]:
    """A training image of a Mosaic of photos, without MixUp, against the plain one; per image."""
    import cv2

    cv2.setNumThreads(0)
    rows = []
    for size, count in PHOTOS:
        data = dataset.generate(parts.folder / f"photos{size[1]}", count, size)
        own, files = Parts(parts.config_path, data, parts.folder), data.encoded_images(count)
        transforms = [t for t in own.config["train_transforms"] if type_name(t) != "MixUp"]
        for label, changes in (("", {}), (", no cache", {"cache_mb": 0})):
            settings = copy.deepcopy(own.config["data_loader"])
            settings["dataset"] |= {"transforms": copy.deepcopy(transforms), **changes}
            calls: dict[str, Callable[[], Any]] = {
                "hatdet": functools.partial(next, endless(Builder().build(settings))),
                "plain": PlainMosaic(files, kept=not changes).batch,
            }
            times = interleave(calls, repeat, 1 if changes else -(-count // BATCH_SIZE))
            ours, plain = ([t / BATCH_SIZE for t in times[name]] for name in ("hatdet", "plain"))
            name = f"photos {size[1]}x{size[0]}{label}"
            rows.append(Row(name, ours, plain, "plain Mosaic at network size", None))
    return rows
