"""Bilinear resizing."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from hatdet.integer.operators.layout.resize_bilinear import FACTORS, ResizeBilinearOp
from hatdet.integer.operators.layout.resizing import factor_of
from hatdet.integer.profile import Profile
from hatdet.quantization.operators.base import Run
from hatdet.quantization.operators.layout.resizing import NEAREST, ResizeForm, shrinkage, upsample
from hatdet.quantization.tracing.refusals import NoModule


class IntegerBilinear(torch.autograd.Function):
    """Bilinear enlargement of centred codes by a factor, for a zero point."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: int, zero: int, profile: Profile) -> Tensor:
        ctx.shape, ctx.factor = x.shape, factor
        return profile.bilinear(x, factor, zero)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        scale, size = float(ctx.factor), list(grad.shape[2:])
        gx = torch.ops.aten.upsample_bilinear2d_backward(grad, size, list(ctx.shape), False, scale, scale)
        return gx, None, None, None


class ResizeBilinear(ResizeForm):
    op = ResizeBilinearOp
    makers = {"upsample_bilinear": upsample}

    def accepts(self, module: nn.Module) -> bool:
        return isinstance(module, nn.Upsample) and module.mode not in NEAREST

    def check(self, module: nn.Module) -> None:
        assert isinstance(module, nn.Upsample)
        if module.mode != "bilinear":
            raise NoModule(f"upsampling with mode {module.mode!r}", "use 'nearest' or 'bilinear'")
        super().check(module)
        if module.align_corners:
            raise NoModule("bilinear upsampling with align_corners=True", "set align_corners=False")
        if module.size is not None or shrinkage(module) > 1:
            return
        if (whole := self.settings(module)["factor"]) not in FACTORS:
            raise NoModule(f"bilinear upsampling by {whole}", "use a factor of 2, 4 or 8")

    def run(self, run: Run) -> Tensor:
        x = run.inputs[0]
        return IntegerBilinear.apply(x, factor_of(x.shape, **run.step.arguments), run.y.zero_point, run.profile)
