"""Orders of training that look at the pictures: of one orientation in a batch, or class by class.

Both are functions of (seed, epoch, position), as :class:`~hatdet.data.samplers.SeededSampler` is.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hatdet.data.samplers import SeededSampler
from hatdet.registry import register
from hatdet.utils.errors import UserError


@register(scope="mmdet")
class AspectRatioSampler(SeededSampler):
    """Batches of pictures that are all higher than wide, or none of them, so that padding is small.

    MMDetection's AspectRatioBatchSampler as a sampler: what comes when is put off until a batch of its kind is full;
    what is left at the end of the epoch comes last, mixed. Each process does so with its own part.

    Args:
        dataset: has ``picture_sizes()``.
        batch_size: that of the loader.
        shuffle, seed, window, num_replicas, rank: as in SeededSampler.
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int,
        shuffle: bool = True,
        seed: int = 0,
        window: int | None = None,
        num_replicas: int | None = None,
        rank: int | None = None,
    ) -> None:
        super().__init__(dataset, shuffle, seed, window, num_replicas, rank)
        if batch_size < 1:
            raise UserError(f"AspectRatioSampler: batch_size must be at least 1, got {batch_size}")
        if not hasattr(dataset, "picture_sizes"):
            raise UserError(
                f"AspectRatioSampler: a {type(dataset).__name__} does not say how large its pictures are "
                "(picture_sizes); use SeededSampler"
            )
        self.batch_size = batch_size
        sizes = np.asarray(dataset.picture_sizes())
        self._high: NDArray[np.bool_] = sizes[:, 1] < sizes[:, 0]

    def _arranged(self, positions: NDArray[np.int64], indices: NDArray[np.int64]) -> NDArray[np.int64]:
        waiting: tuple[list[int], list[int]] = ([], [])
        grouped: list[int] = []
        for position, high in zip(positions.tolist(), self._high[indices].tolist(), strict=True):
            bucket = waiting[not high]
            bucket.append(position)
            if len(bucket) == self.batch_size:
                grouped += bucket
                bucket.clear()
        return np.array(grouped + waiting[0] + waiting[1], np.int64)


@register(scope="mmdet")
class ClassAwareSampler(SeededSampler):
    """Classes in turn, in random order, and pictures of each of them in turn (arXiv 1512.05830).

    Args:
        dataset: has ``image_labels()``.
        num_sample_class: pictures of a class before the next class comes.
        seed, window, num_replicas, rank: as in SeededSampler.
    """

    def __init__(
        self,
        dataset: Any,
        num_sample_class: int = 1,
        seed: int = 0,
        window: int | None = None,
        num_replicas: int | None = None,
        rank: int | None = None,
    ) -> None:
        super().__init__(dataset, True, seed, window, num_replicas, rank)
        if num_sample_class < 1:
            raise UserError(f"ClassAwareSampler: num_sample_class must be at least 1, got {num_sample_class}")
        labels = [np.unique(row) for row in dataset.image_labels()]
        present = np.unique(np.concatenate([*labels, np.zeros(0, np.int64)]))
        if not len(present):
            raise UserError("ClassAwareSampler: no picture has a box; use SeededSampler")
        self._pictures = [np.array([i for i, row in enumerate(labels) if label in row]) for label in present]
        self.num_sample_class = num_sample_class

    def _order(self, epoch: int) -> NDArray[np.int64]:
        generator = self._generator(epoch, 0)
        classes = _cycle(generator, len(self._pictures))
        pictures = [_cycle(generator, len(own)) for own in self._pictures]
        order: list[int] = []
        while len(order) < self.size:
            chosen = next(classes)
            order += [int(self._pictures[chosen][next(pictures[chosen])]) for _ in range(self.num_sample_class)]
        return np.array(order[: self.size], np.int64)


def _cycle(generator: np.random.Generator, count: int) -> Iterator[int]:
    """Numbers below ``count`` without end, in a new random order each time round."""
    while True:
        yield from generator.permutation(count).tolist()
