"""Products and sums of a map with constants: numbers, tensors, learned factors.

Such a call becomes a :class:`ChannelAffine`; :mod:`~.folding` puts it into the convolutions around it where that is the
same, and else it is a depthwise convolution.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from hatdet.quantization.qat.shared_conv import LeafConv2d
from hatdet.quantization.tracing.applied import Applied, fixed
from hatdet.quantization.tracing.recorded import kind_of
from hatdet.quantization.tracing.refusals import NoMap, NoModule


class ChannelAffine(LeafConv2d):
    """y_c = factor_c * x_c + offset_c; an input of one channel goes into all.

    Attributes:
        factor, offset: float64 (O,), on the CPU until they are settled; weight and bias are their float32.
    """

    factor: Tensor
    offset: Tensor

    def __init__(self, factor: Tensor, offset: Tensor, inputs: int) -> None:
        super().__init__(inputs, len(factor), 1, groups=inputs)
        self.register_buffer("factor", factor)
        self.register_buffer("offset", offset)
        self.requires_grad_(False)
        assert self.bias is not None
        self.weight.copy_(factor.view(-1, 1, 1, 1))
        self.bias.copy_(offset)


def affine(applied: Applied, factor: Tensor | float, offset: Tensor | float, word: str) -> ChannelAffine:
    """``factor * map + offset``, each one number or float64 (C,). ``word`` is what the call is called.

    Raises:
        NoModule: it is applied to something else than a map.
    """
    if any(len(shape) != 4 for shape in applied.shapes):
        raise NoMap(f"{word} of something that is no map", "apply it to (B, C, H, W) tensors")
    inputs = applied.shapes[0][1]
    a, b = (torch.as_tensor(value, dtype=torch.float64).reshape(-1) for value in (factor, offset))
    outputs = max(inputs, len(a), len(b))
    return ChannelAffine(a.expand(outputs).clone(), b.expand(outputs).clone(), inputs)


def number(applied: Applied, value: Any, word: str) -> Tensor:
    """A constant of a call, a number or a tensor, as float64 () or (C,) on the CPU.

    Raises:
        NoModule: it is neither one number nor one for each channel.
    """
    try:
        made = torch.as_tensor(fixed(value, word)).detach().cpu().double()
    except (TypeError, ValueError, RuntimeError) as error:
        raise NoModule(f"{word} with {kind_of(value)}", "use a number, or a tensor of numbers") from error
    if not bool(made.isfinite().all()):
        raise NoModule(f"{word} with a constant that is not finite", "use finite numbers")
    if made.numel() == 1 or _fills(applied, value, made):
        return made.flatten()[0]
    shape = tuple(made.shape)
    if len(shape) < 3 or shape[-2:] != (1, 1) or made.numel() != shape[-3]:
        raise NoModule(
            f"{word} with a constant of shape {shape}", "use one number, or one for each channel: shape (C, 1, 1)"
        )
    return made.flatten()


def _fills(applied: Applied, value: Tensor, made: Tensor) -> bool:
    """Whether a tensor has one number in all places of the map, and for ever: ``torch.ones_like(x)``."""
    map_shape = applied.shapes[0]
    within = made.dim() <= len(map_shape) and torch.broadcast_shapes(made.shape, map_shape) == map_shape
    return within and not value.requires_grad and bool((made == made.flatten()[0]).all())
