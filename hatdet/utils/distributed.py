"""What a process must know of the others. Every function also works, and costs nothing, in a single process."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from hatdet.utils.starting.torchrun import launched_by_torchrun as launched_by_torchrun

_T = TypeVar("_T")
_cpu_groups: list[Any] = []
"""The group that :func:`any_process` uses, once it is made; None is the default one."""


def is_distributed() -> bool:
    """Whether a process group has been initialised."""
    return dist.is_available() and dist.is_initialized()


def get_rank() -> int:
    """Number of this process, 0 in a single process."""
    return dist.get_rank() if is_distributed() else 0


def get_local_rank() -> int:
    """Number of this process on its machine (``LOCAL_RANK``), 0 in a single process."""
    return int(os.environ.get("LOCAL_RANK", "0")) if is_distributed() else 0


def get_world_size() -> int:
    """Count of processes, 1 in a single process."""
    return dist.get_world_size() if is_distributed() else 1


def is_main_process() -> bool:
    """Whether this process is the one that logs and writes."""
    return get_rank() == 0


def initialize(backend: str | None = None) -> None:
    """Join the process group that the environment describes (as torchrun sets it).

    Args:
        backend: ``nccl`` where CUDA is available and ``gloo`` elsewhere by default.
    """
    if is_distributed():
        return
    # Its functions have the default group as a default argument. Imported later (DistributedDataParallel does it), they
    # keep the group and its threads alive after shutdown, and the threads abort the process at its very end.
    import torch.distributed.nn.functional

    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
    dist.init_process_group(backend or ("nccl" if torch.cuda.is_available() else "gloo"))


def shutdown() -> None:
    """Leave the process group, if there is one."""
    _cpu_groups.clear()
    if is_distributed():
        dist.destroy_process_group()


def barrier() -> None:
    """Wait for all processes."""
    if get_world_size() > 1:
        dist.barrier()


def all_gather(value: _T) -> list[_T]:
    """The ``value`` of every process, in the order of ranks (any object that can be pickled)."""
    if get_world_size() == 1:
        return [value]
    values: list[Any] = [None] * get_world_size()
    dist.all_gather_object(values, value)
    return values


def broadcast(value: _T) -> _T:
    """The ``value`` of rank 0, in every process."""
    if get_world_size() == 1:
        return value
    values = [value]
    dist.broadcast_object_list(values, src=0)
    return values[0]


def any_process(value: bool) -> bool:
    """Whether ``value`` is true in any process; all get the same answer. Does not wait for a GPU."""
    if get_world_size() == 1:
        return value
    if not _cpu_groups:
        _cpu_groups.append(None if dist.get_backend() == "gloo" else dist.new_group(backend="gloo"))
    flag = torch.tensor([int(value)])
    dist.all_reduce(flag, op=dist.ReduceOp.MAX, group=_cpu_groups[0])
    return bool(flag.item())


def reduce_mean(value: Tensor) -> Tensor:
    """The mean of a tensor over the processes; the input is left alone."""
    if get_world_size() == 1:
        return value
    total = value.detach().clone()
    dist.all_reduce(total)
    return total / get_world_size()


@torch.no_grad()
def broadcast_module(module: nn.Module) -> None:
    """Give every process rank 0's parameters and buffers, in place."""
    if get_world_size() > 1:
        broadcast_tensors([*module.parameters(), *module.buffers()])


@torch.no_grad()
def broadcast_tensors(tensors: Iterable[Tensor]) -> None:
    """Overwrite tensors with rank 0's, in place."""
    for tensor in tensors:
        contiguous = tensor.detach().contiguous()  # channels_last weights do not travel as they are
        dist.broadcast(contiguous, src=0)
        if contiguous.data_ptr() != tensor.data_ptr():
            tensor.copy_(contiguous)
