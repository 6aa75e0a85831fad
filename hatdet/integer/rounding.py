"""float32 values to bytes: rounded half to even, the zero point added, saturated at 0 and 255.

torch has one pass for it, the making of a quantized tensor. It is announced to go away, and its order of operations is
not promised: it is used only where it proves equal to the plain form in this process, on ties and extreme values.
"""

from __future__ import annotations

import functools
import logging
import warnings

import torch
from torch import Tensor

logger = logging.getLogger("hatdet")


def rounded_bytes(values: Tensor, zero: int) -> Tensor:
    """min(max(rne(values) + zero, 0), 255) of dense float32 ``values``, which are overwritten (CPU)."""
    if not one_pass():
        return plain(values, zero)
    if zero:
        values.round_()  # the pass adds the zero point before it rounds: to a sum that float32 rounded itself
    return _quantized(values, zero)


def plain(values: Tensor, zero: int) -> Tensor:
    """The referee of :func:`rounded_bytes`, pass by pass; by way of int32, which is faster than directly."""
    return values.round_().add_(zero).clamp_(0, 255).to(torch.int32).to(torch.uint8)


def to_uint8(values: Tensor) -> Tensor:
    """float32 integers in [0, 255] as uint8; ``values`` stay (CPU)."""
    return _quantized(values, 0) if one_pass() else values.to(torch.int32).to(torch.uint8)


def _quantized(values: Tensor, zero: int) -> Tensor:
    made = torch.quantize_per_tensor(values, 1.0, zero, torch.quint8)
    codes = torch.empty(0, dtype=torch.uint8)
    return codes.set_(made.untyped_storage(), 0, made.size(), made.stride())  # type: ignore[call-overload, no-any-return]


@functools.cache
def one_pass() -> bool:
    """Whether torch's own pass exists here and gives what :func:`plain` does."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it is announced to go away, once in a process: then there is `plain`
            proved = _prove()
    except (RuntimeError, AttributeError, TypeError) as error:
        logger.debug("torch makes no quantized tensors here: %s", error)
        return False
    if not proved:
        logger.debug("torch's quantized tensors are rounded otherwise here; codes are made pass by pass")
    return proved


def _prove() -> bool:
    """Ties and their neighbours, values beyond int32, random ones, and lengths that fill no vector."""
    ties = torch.arange(-300, 600) + 0.5
    tenths = torch.arange(-4096, 8192) / 16
    huge = torch.tensor([2.0**p for p in range(7, 40)])
    near = [torch.nextafter(ties, torch.full_like(ties, side * torch.inf)) for side in (-1, 1)]
    noise = torch.randn(4096, generator=torch.Generator().manual_seed(0)) * 200
    values = torch.cat([ties, *near, tenths, huge, -huge, noise])
    for count in (1, 7, 16, 31, 33, 63, 65, len(values) - 1, len(values)):
        if not torch.equal(_quantized(values[:count].clone(), 0), plain(values[:count].clone(), 0)):
            return False
        for zero in (1, 77, 255):  # of whole values, as it is used
            if not torch.equal(_quantized(values[-count:].round(), zero), plain(values[-count:].clone(), zero)):
                return False
    return True
