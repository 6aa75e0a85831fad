"""One operator's form in training, alone."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from hatdet.integer.tensors import QuantParams
from hatdet.quantization.operators.base import Run, Step
from hatdet.quantization.operators.table import FORMS


def run_form(
    kind: str,
    inputs: list[Tensor],
    x: list[QuantParams],
    y: QuantParams,
    ranges: list[Any] | None = None,
    module: nn.Module | None = None,
    **settings: Any,
) -> Tensor:
    """int8 codes (B, C, H, W) -> int8 codes as the integer forward of QAT gives them, as float32 with gradients.

    Args:
        inputs: codes as float32; gradients reach those that want one.
        module: of the step, of operators with weights.
        ranges: collects the real ranges that are observed; None: nothing is observed.
    """
    names = tuple(f"x{i}" for i in range(len(inputs)))
    step = Step(kind, "op", names, "y", module, settings)
    centred = [codes - q.zero_point for codes, q in zip(inputs, x, strict=True)]
    observer = SimpleNamespace(add_range=lambda low, high: ranges is not None and ranges.append((low, high)))
    quantizer: Any = SimpleNamespace(activation_post_process=observer)
    run = Run(step, centred, tuple(x), y, quantizer, ranges is not None, {})
    return FORMS[kind].run(run) + y.zero_point


def gradient_of(kind: str, inputs: list[Tensor], x: list[QuantParams], y: QuantParams, **settings: Any) -> list[Tensor]:
    """Of the sum of the output's codes, with respect to the codes of every input."""
    leaves = [codes.clone().requires_grad_() for codes in inputs]
    run_form(kind, leaves, x, y, **settings).sum().backward()
    return [leaf.grad if leaf.grad is not None else torch.zeros_like(leaf) for leaf in leaves]
