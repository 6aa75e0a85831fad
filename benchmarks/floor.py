"""The floor of a training step: the convolutions of the network, alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@torch.no_grad()
def convolutions_alone(
    network: nn.Module, images: Tensor, dtype: Callable[[nn.Conv2d], torch.dtype]
) -> Callable[[], None]:
    """A call that runs every convolution of a network forward and backward, as often as a step does, and nothing else.

    Inputs and gradients of the right shapes are there before it begins, in channels_last and the convolution's own
    dtype: no casts, norms, activations or sums of gradients. The first convolution's input needs no gradient.

    Args:
        network: in train mode.
        images: its input (B, C, H, W).
        dtype: of a convolution.
    """
    calls: list[tuple[nn.Conv2d, tuple[int, ...], tuple[int, ...]]] = []

    def record(conv: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        calls.append((conv, tuple(inputs[0].shape), tuple(output.shape)))

    hooks = [m.register_forward_hook(record) for m in network.modules() if isinstance(m, nn.Conv2d)]
    network(images)
    for hook in hooks:
        hook.remove()
    tensors: dict[tuple[Any, ...], Tensor] = {}

    def tensor(shape: tuple[int, ...], kind: torch.dtype, what: str) -> Tensor:
        key = shape, kind, what
        if key not in tensors:
            tensors[key] = torch.randn(shape).to(kind).contiguous(memory_format=torch.channels_last)
        return tensors[key]

    prepared = []
    for number, (conv, before, after) in enumerate(calls):
        kind = dtype(conv)
        weight = conv.weight.detach().to(kind).contiguous(memory_format=torch.channels_last)
        prepared.append((conv, weight, tensor(before, kind, "input"), tensor(after, kind, "gradient"), number > 0))

    @torch.no_grad()
    def step() -> None:
        for conv, weight, x, _, _ in prepared:
            F.conv2d(x, weight, None, conv.stride, conv.padding, conv.dilation, conv.groups)
        for conv, weight, x, gradient, inner in reversed(prepared):
            torch.ops.aten.convolution_backward(
                gradient, x, weight, None, conv.stride, conv.padding, conv.dilation, False, [0, 0], conv.groups,
                [inner, True, False],
            )  # fmt: skip

    return step
