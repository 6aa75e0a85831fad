"""What pools have in common."""

from __future__ import annotations

from typing import Any

from torch import nn

from hatdet.quantization.tracing.refusals import pair


def kernel_and_stride(module: nn.MaxPool2d | nn.AvgPool2d) -> dict[str, Any]:
    kernel = pair(module.kernel_size)
    return {"kernel": kernel, "stride": pair(module.stride) if module.stride is not None else kernel}
