"""What a recorded forward passes on as it is, and what it must not draw."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn

from hatdet.quantization.memory import Memory
from hatdet.quantization.tracing.recorded import Unrecordable, tensors_of
from hatdet.quantization.tracing.recorded_names import COMMUTATIVE, NEUTRAL, PASSING


def same_value(memory: Memory, op: str, given: tuple[Any, Any], result: Any) -> fx.Node | None:
    """The value that a call with ``given`` (args, kwargs) passes on as it is: copies, dropout at rest."""
    tensors = tensors_of(given)
    if op == "setitem" and len(tensors) == 2 and is_whole(given[0][1]):
        op, result = "copy", given[0][0]
    if not isinstance(result, Tensor) or not tensors:
        return None
    if op == "copy" and len(tensors) == 2:
        into, source = tensors
        return memory.get(source) if into.shape == source.shape and into.dtype == source.dtype else None
    if op in PASSING:
        source = tensors[0]
        same = source.shape == result.shape and source.dtype == result.dtype and torch.equal(source, result)
        return memory.get(source) if same else None
    return None


def is_whole(index: Any) -> bool:
    """Whether ``x[index]`` is all of x: ``x[:]``, ``x[...]``, ``x[:, :]``."""
    parts = index if isinstance(index, tuple) else (index,)
    return all(part is Ellipsis or (isinstance(part, slice) and part == slice(None)) for part in parts)


def reaches_beyond(op: str, args: tuple[Any, ...]) -> bool:
    """Whether ``x[index]`` takes rows or columns up to a number that x has not: of larger maps that is another part."""
    if op != "getitem" or not isinstance(args[0], Tensor):
        return False
    parts: list[Any] = list(args[1]) if isinstance(args[1], (tuple, list)) else [args[1]]
    taken = [part for part in parts if part is not None and part is not Ellipsis]
    if len(taken) < len(parts) and any(part is Ellipsis for part in parts):
        where = next(i for i, part in enumerate(parts) if part is Ellipsis)
        parts[where : where + 1] = [slice(None)] * (args[0].dim() - len(taken))
    ends = [(part.start, part.stop) if isinstance(part, slice) else () for part in parts]
    pairs = zip(ends[2:], args[0].shape[2:], strict=False)
    return any(isinstance(end, int) and abs(end) > size for both, size in pairs for end in both)


def passed_by_neutral(memory: Memory, op: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> fx.Node | None:
    """The value that ``0 + x``, ``x * 1`` and the like pass on; to be asked before the call, which may change its
    arguments (``total += x`` where total is 0)."""
    if op not in NEUTRAL or len(args) != 2 or set(kwargs) - {"out"}:
        return None
    x, other = args
    if op in COMMUTATIVE and not (isinstance(x, Tensor) and x in memory):
        x, other = other, x
    if not isinstance(x, Tensor) or not _is_neutral(memory, op, other):
        return None
    same = not isinstance(other, Tensor) or torch.broadcast_shapes(x.shape, other.shape) == x.shape
    return memory.get(x) if same else None


def _is_neutral(memory: Memory, op: str, value: Any) -> bool:
    if isinstance(value, Tensor):
        if value in memory or memory.learned(value):  # that happens to be 0 or 1 will not stay so
            return False
        return bool((value == NEUTRAL[op]).all())
    return isinstance(value, (int, float)) and value == NEUTRAL[op]


@contextmanager
def no_numbers_drawn(network: nn.Module) -> Iterator[None]:
    """Around a forward at inference: refuse random numbers of Python and NumPy; torch's generator stays as it was.

    Raises:
        Unrecordable: it drew some.
    """
    before, numpy_before = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        yield
    drew = random.getstate() != before or str(np.random.get_state()) != str(numpy_before)
    random.setstate(before)
    np.random.set_state(numpy_before)
    if drew:
        raise Unrecordable(
            type(network).__name__,
            "its forward draws random numbers at inference: no fixed network computes that",
            "draw them under `if self.training:` only",
        )
