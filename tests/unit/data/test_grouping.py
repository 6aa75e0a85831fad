"""Batches of one orientation, and orders by class."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

from hatdet.data.grouping import AspectRatioSampler, ClassAwareSampler
from hatdet.data.samplers import SeededSampler
from hatdet.utils.errors import UserError


class Pictures:
    """Every third picture is higher than wide; picture i has the labels of ``labels[i]``."""

    window = 2

    def __init__(self, count: int = 20, labels: Any = None) -> None:
        self.count, self.labels = count, labels

    def __len__(self) -> int:
        return self.count

    def picture_sizes(self) -> np.ndarray:
        return np.array([(3, 2) if i % 3 == 0 else (2, 3) for i in range(self.count)])

    def image_labels(self) -> list[np.ndarray]:
        return [np.array(row, np.int64) for row in self.labels]


def test_each_batch_has_one_orientation() -> None:
    sampler = AspectRatioSampler(Pictures(), batch_size=4, seed=3, num_replicas=1, rank=0)
    order = [ref.index for ref in sampler]
    assert sorted(order) == list(range(20)) and len(sampler) == 20
    kinds = [{i % 3 == 0 for i in order[b : b + 4]} for b in range(0, 20, 4)]
    assert all(len(kind) == 1 for kind in kinds[:4]) and len(kinds[4]) == 2  # 7 and 13: the last batch is the rest
    plain = {ref.index: ref for ref in SeededSampler(Pictures(), seed=3, num_replicas=1, rank=0)}
    assert all(plain[ref.index] == ref for ref in sampler)  # seeds and partners stay
    sampler.set_epoch(1)
    assert [ref.index for ref in sampler] != order


def test_an_interrupted_epoch_goes_on() -> None:
    whole = list(AspectRatioSampler(Pictures(), batch_size=4, num_replicas=1, rank=0))
    sampler = AspectRatioSampler(Pictures(), batch_size=4, num_replicas=1, rank=0)
    sampler.start = 8
    assert list(sampler) == whole[8:] and sampler.start == 8


def test_processes_share_the_pictures() -> None:
    samplers = [AspectRatioSampler(Pictures(), batch_size=2, num_replicas=2, rank=rank) for rank in (0, 1)]
    parts = [[ref.index for ref in sampler] for sampler in samplers]
    assert sorted(parts[0] + parts[1]) == list(range(20))


def test_what_does_not_know_its_sizes() -> None:
    class Nothing:
        def __len__(self) -> int:
            return 3

    with pytest.raises(UserError, match="use SeededSampler"):
        AspectRatioSampler(Nothing(), batch_size=2)


def test_classes_come_equally_often() -> None:
    labels = [[0]] * 17 + [[1], [1, 2], []]
    sampler = ClassAwareSampler(Pictures(20, labels), seed=1, num_replicas=1, rank=0)
    counts: Counter[int] = Counter()
    for epoch in range(30):
        sampler.set_epoch(epoch)
        refs = [ref.index for ref in sampler]
        assert len(refs) == 20 and 19 not in refs
        counts.update(refs)
    common = sum(counts[i] for i in range(17))
    assert abs(common - 200) <= 15 and counts[18] > 250  # a third each; picture 18 stands for two classes
    assert max(counts[i] for i in range(17)) <= 2 * min(counts[i] for i in range(17))
    with pytest.raises(UserError, match="no picture has a box"):
        ClassAwareSampler(Pictures(2, [[], []]))
