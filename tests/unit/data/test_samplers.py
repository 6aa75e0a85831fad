"""The sampler: orders, partners, epochs, ranks and continuing in the middle."""

from __future__ import annotations

import pytest
import torch

from hatdet.data.samplers import RefSampler, SampleRef, SeededSampler
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
    with pytest.raises(UserError, match="empty"):
        SeededSampler(dataset=[], num_replicas=1, rank=0)


def test_other_samplers_get_references() -> None:
    sampler = RefSampler(torch.utils.data.SequentialSampler(range(10)), Ten())
    found = list(sampler)
    assert [ref.index for ref in found] == list(range(10))
    assert found[0].recent == (9, 8, 7, 6) and found[5].recent == (4, 3, 2, 1)
    sampler.set_epoch(1)
    assert [ref.seed for ref in sampler] != [ref.seed for ref in found]
    sampler.start = 8
    assert [ref.index for ref in sampler] == [8, 9]
