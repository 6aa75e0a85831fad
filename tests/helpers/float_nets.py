"""A detector-like module with every operator that exported float files know, on odd sizes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from tests.helpers.rtmdet import build_rtmdet


class EveryOperator(nn.Module):
    """Convolutions (strided, grouped, depthwise, dilated, with each fused activation), pools, resizes, padding,
    additions, products, concatenations and activations of their own. Images (B, 3, H, W), H and W even."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 12, 3, 2, 1, bias=False), nn.BatchNorm2d(12), nn.ReLU6())
        self.depthwise = nn.Sequential(nn.Conv2d(12, 12, 5, 1, 2, groups=12), nn.Hardswish())
        self.grouped = nn.Sequential(nn.Conv2d(12, 12, 3, 1, 1, groups=3), nn.SiLU())
        self.dilated = nn.Sequential(nn.Conv2d(12, 12, 3, 1, 2, dilation=2), nn.ReLU())
        self.wide = nn.Sequential(nn.Conv2d(12, 24, 3, 1, 1, groups=12), nn.Hardsigmoid())
        self.squeeze, self.fc, self.gate = nn.AdaptiveAvgPool2d(1), nn.Conv2d(24, 24, 1), nn.Sigmoid()
        self.max_pool, self.average = nn.MaxPool2d(5, 1, 2), nn.AvgPool2d(3, 2)
        self.pad, self.lone_relu, self.sum_relu = nn.ZeroPad2d((0, 1, 1, 0)), nn.ReLU(), nn.ReLU6()
        self.nearest = nn.Upsample(scale_factor=3, mode="nearest")
        self.bilinear = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)
        self.soft = nn.Hardsigmoid()
        self.cls, self.reg = nn.Conv2d(48, 5, 3, 2, 1), nn.Conv2d(12, 4, (3, 1), padding=(1, 0))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        x = self.stem(x)
        y = self.sum_relu(self.depthwise(x) + self.grouped(x))
        wide = self.wide(y + self.dilated(y))
        gated = self.gate(self.fc(self.squeeze(wide))) * wide
        joined = self.lone_relu(torch.cat([gated, self.max_pool(y), self.soft(y)], dim=1))
        small = self.average(self.pad(y))
        return self.cls(joined), self.reg(self.bilinear(small)), self.nearest(small)


class EveryOperatorDetector(nn.Module):
    """What exports need of a detector."""

    output_names = ("cls_4", "reg_2", "up")

    def __init__(self) -> None:
        super().__init__()
        self.net = EveryOperator()

    def network(self) -> nn.Module:
        return self.net

    def preprocess(self, img: Tensor) -> Tensor:
        return img.float().div(255.0)

    def run_network(self, x: Tensor) -> tuple[Tensor, ...]:
        return self.net(x)  # type: ignore[no-any-return]

    def metadata(self) -> dict[str, Any]:
        return {"mean": [0.0], "std": [255.0], "output_names": list(self.output_names)}


def lively(model: nn.Module, seed: int = 0) -> nn.Module:
    """Parameters and statistics of batch normalization that are not the neutral ones; in eval mode."""
    torch.manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 2.0)
            nn.init.normal_(module.bias)
            nn.init.normal_(module.running_mean, std=0.1)  # type: ignore[arg-type]
            nn.init.uniform_(module.running_var, 0.05, 0.5)  # type: ignore[arg-type]
        elif isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1) and module.bias is not None:
            nn.init.normal_(module.weight, std=0.2)
            nn.init.normal_(module.bias)
    return model.eval()


def every_operator() -> EveryOperatorDetector:
    torch.manual_seed(0)
    model = lively(EveryOperatorDetector())
    assert isinstance(model, EveryOperatorDetector)
    return model


def small_rtmdet(**changes: Any) -> Any:
    """A narrow RTMDet with two classes."""
    torch.manual_seed(0)
    return lively(build_rtmdet(widen_factor=0.125, **changes))
