"""The order of training: which image comes when, its random seed, and which images came just before.

A sample is a pure function of its :class:`SampleRef`. So a batch is the same for any number of workers, and
after an interruption, and the partners of Mosaic and MixUp need no cache that could be lost.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from hatdet.registry import register
from hatdet.utils.errors import UserError

_ORDER, _SEEDS = 0, 1  # independent random streams of one epoch


class SampleRef(NamedTuple):
    """Everything that a sample depends on.

    ``index``: position in the data set; ``seed``: of the sample's own generator; ``recent``: positions just
    before it in the global order, nearest first; ``pipeline``: 0 for ``transforms``, 1 for ``late_transforms``.
    """

    index: int  # type: ignore[assignment]
    seed: int
    recent: tuple[int, ...] = ()
    pipeline: int = 0


def sample_generator(seed: int, attempt: int = 0) -> np.random.Generator:
    """The random numbers of one sample; every attempt has a stream of its own."""
    return np.random.Generator(np.random.Philox(key=[seed, attempt]))


def process_position() -> tuple[int, int]:
    """(number of processes that train together, rank of this one)."""
    from hatdet.utils.distributed import get_rank, get_world_size

    return get_world_size(), get_rank()


@register
class SeededSampler(torch.utils.data.Sampler[SampleRef]):
    """Yields a :class:`SampleRef` a sample, from (seed, epoch, position) alone.

    With several processes the global order is dealt out in turn (rank, rank + n, ...). When shuffling it is
    filled up from its own beginning, so that every process has the same number of steps; otherwise each image
    appears exactly once and processes may differ by one.

    Args:
        dataset: needs ``len()``; its ``window`` says how many earlier images its transforms want.
        shuffle: a new order every epoch; False: 0, 1, 2, ...
        seed: decides order and augmentation.
        window: length of ``recent``; None: what the data set wants.
        num_replicas, rank: processes and own number; None: those of the running job.
        class_balance: 0: every image once an epoch. Above, images with rare classes come more often and the others
            less: in proportion to ``(1 / f) ** class_balance``, f being the share of images that have the image's
            rarest class (LVIS, arXiv 1908.03195, takes the power 0.5; 1 is the most). An
            epoch keeps its length. Needs ``shuffle`` and a data set with ``image_labels()``.

    Attributes:
        start: samples of this epoch that this process has had already; iteration begins there. ``set_epoch`` to
            another epoch sets it to 0.
        pipeline: copied into every reference.
    """

    def __init__(
        self,
        dataset: Any,
        shuffle: bool = True,
        seed: int = 0,
        window: int | None = None,
        num_replicas: int | None = None,
        rank: int | None = None,
        class_balance: float = 0.0,
    ) -> None:
        if num_replicas is None or rank is None:
            world, own = process_position()
            num_replicas, rank = num_replicas or world, own if rank is None else rank
        if not 0 <= rank < num_replicas:
            raise UserError(
                f"SeededSampler: rank {rank} does not exist among {num_replicas} processes; "
                "give a rank from 0 to num_replicas - 1"
            )
        if not 0 <= seed < 2**63:
            raise UserError(f"SeededSampler: seed must be in 0..2^63-1, got {seed!r}")
        if window is not None and window < 0:
            raise UserError(f"SeededSampler: window must be at least 0, got {window!r}")
        if len(dataset) < 1:
            raise UserError("SeededSampler: the data set is empty; give it images")
        self.size = len(dataset)
        self.shuffle, self.seed = shuffle, seed
        self.window = int(getattr(dataset, "window", 0)) if window is None else window
        self.num_replicas, self.rank = num_replicas, rank
        if not 0 <= class_balance <= 1 or (class_balance > 0 and not shuffle):
            raise UserError(
                f"SeededSampler: class_balance is {class_balance}; it is from 0 to 1, and 0 without shuffle=True; "
                "set shuffle=True, or class_balance=0"
            )
        self._ends = np.cumsum(class_weights(dataset, class_balance)) if class_balance else None
        self.epoch = 0
        self.start = 0
        self.pipeline = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration goes through; another one begins at its start."""
        if epoch != self.epoch:
            self.start = 0
        self.epoch = epoch

    def __len__(self) -> int:
        """Samples of this process in a whole epoch, whatever ``start`` is."""
        if self.shuffle:
            return -(-self.size // self.num_replicas)
        return len(range(self.rank, self.size, self.num_replicas))

    def __iter__(self) -> Iterator[SampleRef]:
        epoch, pipeline, begin = self.epoch, self.pipeline, self.start
        order = self._order(epoch)
        total = len(self) * self.num_replicas if self.shuffle else self.size
        order = np.resize(order, total)  # repeats from the beginning
        own = np.arange(self.rank, total, self.num_replicas)
        own = self._arranged(own, order[own])[begin:]
        seeds = self._generator(epoch, _SEEDS).integers(0, 2**63, total, dtype=np.int64)
        # What came before the epoch, so that its first images have partners too.
        history, earlier = order, epoch - 1
        while len(history) < total + self.window:
            history = np.concatenate([self._order(earlier), history])
            earlier -= 1
        history = history[len(history) - total - self.window :]
        for position in map(int, own):  # arrays, not lists of numbers: an epoch may have millions
            recent = tuple(history[position : position + self.window][::-1].tolist())
            yield SampleRef(int(history[position + self.window]), int(seeds[position]), recent, pipeline)

    def _arranged(self, positions: NDArray[np.int64], indices: NDArray[np.int64]) -> NDArray[np.int64]:
        """The order in which this process takes its ``positions`` of the epoch, where the images ``indices`` are."""
        return positions

    def _generator(self, epoch: int, stream: int) -> np.random.Generator:
        # Epochs before 0 exist as history; Philox keys are unsigned.
        key = np.array([self.seed, (epoch % 2**32) * 2 + stream], np.uint64)
        return np.random.Generator(np.random.Philox(key=key))

    def _order(self, epoch: int) -> NDArray[np.int64]:
        if not self.shuffle:
            return np.arange(self.size)
        generator = self._generator(epoch, _ORDER)
        if self._ends is None:
            return generator.permutation(self.size)
        # Systematic sampling: an image with weight 1.7 comes once or twice, one with 0.4 now and then, in random order.
        marks = np.floor(self._ends + generator.random()).astype(np.int64)
        marks[-1] = self.size
        return generator.permutation(np.repeat(np.arange(self.size), np.diff(marks, prepend=0)))


def class_weights(dataset: Any, power: float) -> NDArray[np.float64]:
    """How often each image comes in an epoch, on average; their sum is the number of images.

    Args:
        dataset: ``image_labels()`` gives the labels of each image.
        power: of the rarity of an image's rarest class; an image without boxes counts as a frequent one.
    """
    if not hasattr(dataset, "image_labels"):
        raise UserError(
            f"SeededSampler: class_balance needs a data set with image_labels(); got {type(dataset).__name__}"
        )
    labels = [np.unique(row) for row in dataset.image_labels()]
    images_with = np.bincount(np.concatenate([*labels, np.zeros(0, np.int64)]).astype(np.int64))
    rarest = np.array([images_with[row].min() if len(row) else len(labels) for row in labels], np.float64)
    weights = (len(labels) / rarest) ** power
    return np.asarray(weights * (len(labels) / weights.sum()), np.float64)


class RefSampler(torch.utils.data.Sampler[SampleRef]):
    """Gives the indices of any other sampler seeds and partners, so that items stay a function of the order.

    The partners are the indices just before in *this process's* order of this epoch.
    """

    def __init__(self, sampler: Any, dataset: Any, seed: int = 0) -> None:
        self.sampler, self.seed = sampler, seed
        self.window = int(getattr(dataset, "window", 0))
        self.epoch = self.start = self.pipeline = 0

    def set_epoch(self, epoch: int) -> None:
        """Pass the epoch on to a sampler that takes it; another epoch begins at its start."""
        if epoch != self.epoch:
            self.start = 0
        self.epoch = epoch
        if hasattr(self.sampler, "set_epoch"):
            self.sampler.set_epoch(epoch)

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[SampleRef]:
        indices = [int(index) for index in self.sampler]
        key = np.array([self.seed, (self.epoch % 2**32) * 2 + _SEEDS], np.uint64)
        generator = np.random.Generator(np.random.Philox(key=key))
        seeds = generator.integers(0, 2**63, len(indices), dtype=np.int64).tolist()
        tail = indices[max(0, len(indices) - self.window) :]
        history = tail + indices
        for position in range(self.start, len(indices)):
            end = position + len(tail)
            recent = tuple(history[end - len(tail) : end][::-1])
            yield SampleRef(indices[position], seeds[position], recent, self.pipeline)
