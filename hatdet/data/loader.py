"""What a config's ``type=torch.utils.data.DataLoader`` builds."""

from __future__ import annotations

import functools
import logging
import sys
from collections.abc import Callable
from typing import Annotated, Any, Literal

import torch
from torch.utils.data import DataLoader, DistributedSampler

from hatdet.building import Factory
from hatdet.data.collate import Collate2D
from hatdet.data.samplers import RefSampler, SeededSampler
from hatdet.data.workers import Loader, init_worker
from hatdet.registry import register
from hatdet.utils.environment import usable_processors
from hatdet.utils.errors import UserError

logger = logging.getLogger("hatdet")
UNSETTLED = 8
"""What ``batch_size="auto"`` is where nothing is trained."""


@register(builds="torch.utils.data.dataloader.DataLoader")
def build_data_loader(
    dataset: torch.utils.data.Dataset[Any],
    batch_size: int | Literal["auto"] = 1,
    shuffle: bool = False,
    sampler: Annotated[Factory, "dataset"] | None = None,
    num_workers: int = 0,
    collate_fn: Callable[[list[Any]], Any] | None = None,
    pin_memory: bool = False,
    drop_last: bool = False,
    timeout: float = 0,
    prefetch_factor: int | None = None,
    persistent_workers: bool | None = None,
    multiprocessing_context: str | None = None,
    seed: int = 0,
) -> DataLoader[Any]:
    """A ``DataLoader`` whose batches do not depend on the number of workers.

    Args:
        batch_size: "auto": a training has put a number there (hatdet/engine/processes/batch_size.py); elsewhere 8.
        sampler: built with the data set; without one a :class:`SeededSampler` takes ``shuffle`` and ``seed``.
            torch's DistributedSampler becomes a SeededSampler with the same order of duties (it needs no process
            group then); any other gets its references from a :class:`RefSampler`.
        shuffle: only without a sampler.
        num_workers: at most as many as this process may use processors; batches do not depend on it.
        collate_fn: default: :class:`Collate2D`.
        pin_memory: ignored where there is no GPU.
        persistent_workers: default: on where there are workers.
        multiprocessing_context: "fork", "spawn" or "forkserver"; default: fork on Linux.
        seed: of the sampler that is made here.
        drop_last: leave out the last batch where it is smaller than the others; an only batch stays.

    The other arguments are those of torch's class.
    """
    batch_size = UNSETTLED if batch_size == "auto" else batch_size
    if batch_size < 1:
        raise UserError(f"batch_size must be at least 1, got {batch_size!r}")
    if num_workers < 0:
        raise UserError(f"num_workers must be at least 0, got {num_workers!r}")
    if num_workers == 0 and prefetch_factor is not None:
        raise UserError("prefetch_factor needs num_workers of at least 1; set it, or leave prefetch_factor out")
    num_workers = _workers(num_workers)
    own_sampler = _sampler(dataset, sampler, shuffle, seed)
    if drop_last and len(own_sampler) < batch_size:
        drop_last = False
        logger.warning(
            "fewer images (%d) than batch_size (%d): every epoch is one smaller batch",
            len(own_sampler),
            batch_size,
        )
    if multiprocessing_context is None and sys.platform == "linux":
        multiprocessing_context = "fork"
    return Loader(
        dataset,
        batch_size=batch_size,
        sampler=own_sampler,
        num_workers=num_workers,
        collate_fn=collate_fn or Collate2D(),
        pin_memory=pin_memory and torch.cuda.is_available(),
        drop_last=drop_last,
        timeout=timeout,
        worker_init_fn=init_worker,
        prefetch_factor=prefetch_factor,
        persistent_workers=num_workers > 0 if persistent_workers is None else persistent_workers,
        multiprocessing_context=multiprocessing_context if num_workers else None,
        # The loader draws its workers' base seed: not from the global generator, which training uses.
        generator=torch.Generator().manual_seed(seed),
    )


def _workers(wanted: int) -> int:
    """``wanted``, as far as there are processors: more of them take memory and turns from each other."""
    processors = usable_processors()
    if wanted > processors:
        _say_fewer(wanted, processors)
    return min(wanted, processors)


@functools.cache
def _say_fewer(wanted: int, processors: int) -> None:
    """Once, however many loaders there are."""
    logger.info("num_workers=%d: %d work here, one a processor; the batches are the same", wanted, processors)


def _sampler(dataset: Any, sampler: Factory | None, shuffle: bool, seed: int) -> Any:
    if sampler is None:
        return SeededSampler(dataset=dataset, shuffle=shuffle, seed=seed)
    if isinstance(sampler, Factory) and sampler.type is DistributedSampler:
        options = dict(sampler.kwargs)
        unknown = set(options) - {"num_replicas", "rank", "shuffle", "seed", "drop_last"}
        if unknown:
            raise UserError(
                f"DistributedSampler: unknown arguments {sorted(unknown)}; "
                "allowed are num_replicas, rank, shuffle, seed and drop_last"
            )
        options.pop("drop_last", None)
        return SeededSampler(**{"dataset": dataset, "shuffle": True, "seed": seed, **options})
    if shuffle:
        raise UserError("give either shuffle=True or a sampler, not both (SeededSampler has its own shuffle)")
    built = sampler(dataset=dataset) if isinstance(sampler, Factory) else sampler
    return built if isinstance(built, (SeededSampler, RefSampler)) else RefSampler(built, dataset, seed)
