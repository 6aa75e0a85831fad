"""Functions of one code, by table, with straight-through gradients.

Tensors carry centred codes (``code - zero_point``) as float32; a gradient with respect to a code is ``scale`` times the
gradient with respect to the real value. Rounding passes the gradient unchanged, a clamp stops it (Bengio et al.,
"Estimating or Propagating Gradients Through Stochastic Neurons", 2013; Jacob et al., CVPR 2018).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hatdet.integer.kernels import lookup
from hatdet.quantization.operators.base import Run, on_device


class IntegerLookup(torch.autograd.Function):
    """A function of one code, by table; the gradient is that of the real function at the quantized input.

    ``slopes`` has 256 derivatives of the output code by the input code; 0 where the output is clamped.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, table: Tensor, slopes: Tensor, zero: int) -> Tensor:
        ctx.save_for_backward(x, slopes)
        ctx.zero = zero
        return lookup(x, table, zero)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        x, slopes = ctx.saved_tensors
        return grad * lookup(x, slopes, ctx.zero), None, None, None


def real_inputs(run: Run) -> NDArray[np.float64]:
    """The 256 real values that the input's codes stand for."""
    return run.x[0].scale * (np.arange(-128.0, 128.0) - run.x[0].zero_point)


def run_lookup(
    run: Run, codes: NDArray[np.int8], values: NDArray[np.float64], slopes: NDArray[np.float64]
) -> Tensor:
    """Look up ``codes``; ``values`` and ``slopes`` are the real function and its derivative at :func:`real_inputs`."""
    x, px, py = run.inputs[0], run.x[0], run.y
    if run.observing:
        low, high = (int(v) + px.zero_point + 128 for v in torch.aminmax(x.detach()))
        seen = values[low : high + 1]
        run.observe(float(seen.min()), float(seen.max()))
    real = values / py.scale + py.zero_point
    slopes = np.where((real > -128.5) & (real < 127.5), slopes * (px.scale / py.scale), 0.0)
    table = codes.astype(np.float32) - py.zero_point
    return IntegerLookup.apply(x, on_device(table, x), on_device(slopes, x), px.zero_point)
