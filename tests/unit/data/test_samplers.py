"""The sampler: orders, partners, epochs, ranks and continuing in the middle."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hatdet.data.samplers import RefSampler, SampleRef, SeededSampler, class_weights, sample_generator
from hatdet.utils.errors import UserError


class Ten:
    window = 4

    def __len__(self) -> int:
        return 10


def refs(epoch: int = 0, start: int = 0, **options: object) -> list[SampleRef]:
    sampler = SeededSampler(**{"dataset": Ten(), "num_replicas": 1, "rank": 0, **options})  # type: ignore[arg-type]
    sampler.set_epoch(epoch)
    sampler.start = start
    return list(sampler)


def test_in_order() -> None:
    found = refs(shuffle=False)
    assert [ref.index for ref in found] == list(range(10))
    assert found[6].recent == (5, 4, 3, 2)
    assert found[1].recent == (0, 9, 8, 7)  # the epoch before ended with 7, 8, 9


def test_every_epoch_is_another_permutation_and_repeats_exactly() -> None:
    orders = [tuple(ref.index for ref in refs(epoch)) for epoch in range(5)]
    assert all(sorted(order) == list(range(10)) for order in orders)
    assert len(set(orders)) == 5
    assert refs(3) == refs(3)
    assert refs(3) != refs(3, seed=1)
    assert len({ref.seed for epoch in range(5) for ref in refs(epoch)}) == 50


def test_recent_is_what_came_before_also_across_epochs() -> None:
    history = [ref.index for epoch in range(3) for ref in refs(epoch)]
    for position, ref in enumerate(refs(2), start=20):
        assert ref.recent == tuple(history[position - 4 : position][::-1])
    assert all(len(ref.recent) == 4 for ref in refs(0))  # as if there had been an epoch before the first


def test_a_window_longer_than_the_data_set() -> None:
    found = refs(1, window=25)
    assert all(len(ref.recent) == 25 for ref in found)
    before = [ref.index for ref in refs(0)]
    assert found[0].recent[:10] == tuple(before[::-1])
    long_ago = [stream(0, 2 * (2**32 - back)).permutation(10).tolist()[::-1] for back in (1, 2)]
    assert found[0].recent[10:] == (*long_ago[0], *long_ago[1][:5])


def stream(seed: int, number: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=np.array([seed, number], np.uint64)))


def test_order_and_seeds_are_two_streams_of_their_own() -> None:
    """Epoch e of seed s: Philox with the key (s, 2 e) shuffles, (s, 2 e + 1) gives the samples' seeds."""
    for seed, epoch in ((0, 0), (0, 3), (7, 1)):
        found = refs(epoch, seed=seed)
        assert [ref.index for ref in found] == stream(seed, 2 * epoch).permutation(10).tolist()
        assert [ref.seed for ref in found] == stream(seed, 2 * epoch + 1).integers(0, 2**63, 10).tolist()
    assert refs(0)[0].recent[0] == stream(0, 2 * (2**32 - 1)).permutation(10)[-1]  # the epoch before the first
    by_default = SeededSampler(Ten(), num_replicas=1, rank=0)
    assert by_default.seed == 0 and by_default.shuffle and by_default.pipeline == by_default.start == 0
    assert SampleRef(3, 4) == (3, 4, (), 0)
    assert sample_generator(5).random() == stream(5, 0).random()
    assert sample_generator(5, 2).random() == stream(5, 2).random()


@pytest.mark.parametrize("window", [0, 1, 9, 10, 11])
def test_a_window_is_as_long_as_it_says(window: int) -> None:
    history = [ref.index for epoch in range(2) for ref in refs(epoch)]
    for position, ref in enumerate(refs(1, window=window), start=10):
        behind = history[max(0, position - window) : position][::-1]
        assert ref.index == history[position] and len(ref.recent) == window
        assert ref.recent[: len(behind)] == tuple(behind)
    assert SeededSampler(Ten(), num_replicas=1, rank=0).window == 4  # what the data set wants
    assert SeededSampler(range(10), num_replicas=1, rank=0).window == 0  # it wants none


def test_number_and_rank_of_the_process_are_taken_where_they_are_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hatdet.data.samplers.process_position", lambda: (4, 2))
    for given, expected in (({}, (4, 2)), ({"rank": 0}, (4, 0)), ({"num_replicas": 3}, (3, 2))):
        sampler = SeededSampler(Ten(), **given)  # type: ignore[arg-type]
        assert (sampler.num_replicas, sampler.rank) == expected
    sampler = SeededSampler(Ten(), num_replicas=1, rank=0)
    assert (sampler.num_replicas, sampler.rank) == (1, 0)


def test_start_continues_the_same_epoch_and_another_epoch_resets_it() -> None:
    assert refs(2, start=7) == refs(2)[7:]
    sampler = SeededSampler(dataset=Ten(), num_replicas=1, rank=0)
    sampler.set_epoch(1)
    sampler.start = 6
    sampler.set_epoch(1)
    assert len(list(sampler)) == 4 and len(sampler) == 10
    sampler.set_epoch(2)
    assert sampler.start == 0


@pytest.mark.parametrize("replicas", [2, 3, 4])
def test_ranks_share_the_global_order(replicas: int) -> None:
    alone = refs(5)
    parts = [refs(5, num_replicas=replicas, rank=rank) for rank in range(replicas)]
    assert len({len(part) for part in parts}) == 1
    dealt = [ref for row in zip(*parts, strict=True) for ref in row]
    assert [(r.index, r.recent) for r in dealt[:10]] == [(r.index, r.recent) for r in alone]
    assert [ref.index for ref in dealt[10:]] == [ref.index for ref in alone[: len(dealt) - 10]]
    assert refs(5, start=2, num_replicas=replicas, rank=1) == parts[1][2:]


def test_validation_sees_every_image_once_over_all_ranks() -> None:
    parts = [refs(shuffle=False, num_replicas=3, rank=rank) for rank in range(3)]
    assert [len(part) for part in parts] == [4, 3, 3]
    assert sorted(ref.index for part in parts for ref in part) == list(range(10))


def test_pipeline_is_passed_on() -> None:
    sampler = SeededSampler(dataset=Ten(), num_replicas=1, rank=0)
    sampler.pipeline = 1
    assert {ref.pipeline for ref in sampler} == {1}


def test_wrong_arguments() -> None:
    with pytest.raises(UserError, match="rank 2 does not exist among 2"):
        refs(num_replicas=2, rank=2)
    with pytest.raises(UserError, match="rank -1 does not exist among 2"):
        refs(num_replicas=2, rank=-1)
    with pytest.raises(UserError, match="empty"):
        SeededSampler(dataset=[], num_replicas=1, rank=0)
    assert len(list(SeededSampler(dataset=[5], num_replicas=1, rank=0))) == 1
    with pytest.raises(UserError, match="window must be at least 0, got -1"):
        refs(window=-1)
    for seed in (-1, 2**63):
        with pytest.raises(UserError, match=f"seed must be in 0..2\\^63-1, got {seed}"):
            refs(seed=seed)
    assert len(refs(seed=2**63 - 1)) == 10


def test_other_samplers_get_references() -> None:
    sampler = RefSampler(torch.utils.data.SequentialSampler(range(10)), Ten())
    found = list(sampler)
    assert [ref.index for ref in found] == list(range(10))
    assert found[0].recent == (9, 8, 7, 6) and found[5].recent == (4, 3, 2, 1)
    sampler.set_epoch(1)
    assert [ref.seed for ref in sampler] != [ref.seed for ref in found]
    sampler.start = 8
    assert [ref.index for ref in sampler] == [8, 9]
    sampler.set_epoch(1)
    assert sampler.start == 8
    sampler.set_epoch(2)
    assert sampler.start == 0 and len(sampler) == 10


def test_other_samplers_get_seeds_from_the_same_stream() -> None:
    sampler = RefSampler([4, 2, 7], Ten())
    assert list(sampler) == [
        SampleRef(index, seed, recent, 0)
        for index, seed, recent in zip(
            (4, 2, 7), stream(0, 1).integers(0, 2**63, 3).tolist(), ((7, 2, 4), (4, 7, 2), (2, 4, 7)), strict=True
        )
    ]
    sampler = RefSampler(range(10), Ten(), seed=3)
    sampler.set_epoch(2)
    sampler.pipeline = 1
    found = list(sampler)
    assert [ref.seed for ref in found] == stream(3, 5).integers(0, 2**63, 10).tolist()
    assert {ref.pipeline for ref in found} == {1} and {len(ref.recent) for ref in found} == {4}
    assert [ref.recent for ref in RefSampler([1, 2], range(3))] == [(), ()]


def test_an_epoch_is_passed_on_to_a_sampler_that_takes_it() -> None:
    inner = SeededSampler(Ten(), num_replicas=1, rank=0)
    RefSampler(inner, Ten()).set_epoch(5)
    assert inner.epoch == 5


class Imbalanced:
    """100 images: class 0 in all with boxes, class 1 in ten, class 2 in one; the last image has no box."""

    window = 0

    def __len__(self) -> int:
        return 100

    def image_labels(self) -> list[np.ndarray]:
        return [np.array([0, 0] + [1] * (i < 10) + [2] * (i == 0), np.int64) for i in range(99)] + [
            np.zeros(0, np.int64)
        ]


def drawn(power: float, epochs: int) -> np.ndarray:
    sampler = SeededSampler(Imbalanced(), num_replicas=1, rank=0, class_balance=power)
    counts = np.zeros(100)
    for epoch in range(epochs):
        sampler.set_epoch(epoch)
        order = [ref.index for ref in sampler]
        assert len(order) == len(sampler) == 100
        counts += np.bincount(order, minlength=100)
    return counts / epochs


@pytest.mark.parametrize(("power", "rare", "very_rare"), [(0.5, 99**0.5 / 10**0.5, 99**0.5), (1.0, 9.9, 99.0)])
def test_rare_classes_come_more_often_and_epochs_keep_their_length(power: float, rare: float, very_rare: float) -> None:
    counts = drawn(power, 400)
    frequent = counts[10:99].mean()
    assert counts[1:10].mean() / frequent == pytest.approx(rare, rel=0.02)
    assert counts[0] / frequent == pytest.approx(very_rare, rel=0.02)
    assert counts[99] / frequent == pytest.approx(0.99**power, rel=0.1)


def test_counts_of_one_epoch_are_the_nearest_to_the_weights() -> None:
    weights = class_weights(Imbalanced(), 0.5)
    assert weights.sum() == pytest.approx(100)
    sampler = SeededSampler(Imbalanced(), num_replicas=1, rank=0, class_balance=0.5)
    counts = np.bincount([ref.index for ref in sampler], minlength=100)
    assert (np.abs(counts - weights) < 1).all()
    assert sorted({ref.index for ref in sampler}) != list(range(100))


def test_weights_by_hand() -> None:
    """Four images with the classes {0}, {0, 1}, {0}, none: rarest classes are in 3, 1, 3 and (all) 4 images."""

    class Four:
        def image_labels(self) -> list[np.ndarray]:
            return [np.array(labels, np.int64) for labels in ([0, 0], [0, 1], [0], [])]

    by_rarity = np.array([4 / 3, 4, 4 / 3, 1])
    assert class_weights(Four(), 1.0) == pytest.approx(by_rarity * 4 / by_rarity.sum())
    assert class_weights(Four(), 0.5) == pytest.approx(np.sqrt(by_rarity) * 4 / np.sqrt(by_rarity).sum())
    assert class_weights(Four(), 0.0).tolist() == [1, 1, 1, 1]


def test_balanced_epochs_repeat_exactly_and_continue_in_the_middle() -> None:
    def order(start: int) -> list[SampleRef]:
        sampler = SeededSampler(Imbalanced(), num_replicas=1, rank=0, class_balance=0.5, window=3)
        sampler.set_epoch(2)
        sampler.start = start
        return list(sampler)

    assert order(0)[60:] == order(60)
    assert len(order(0)) == 100


def test_class_balance_refusals() -> None:
    with pytest.raises(UserError, match="image_labels"):
        refs(class_balance=0.5)
    with pytest.raises(UserError, match="class_balance is -1"):
        SeededSampler(Imbalanced(), num_replicas=1, rank=0, class_balance=-1)
    for value in (1.5, 1e9, float("nan"), float("inf")):
        with pytest.raises(UserError, match="it is from 0 to 1"):
            SeededSampler(Imbalanced(), num_replicas=1, rank=0, class_balance=value)
    with pytest.raises(UserError, match="shuffle=True"):
        SeededSampler(Imbalanced(), shuffle=False, num_replicas=1, rank=0, class_balance=0.5)
