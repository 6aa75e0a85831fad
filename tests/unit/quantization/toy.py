"""A small detector with every operator of the nano, for tests of quantization: fast, and independent of
hatdet.models."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


class ConvBnAct(nn.Module):
    def __init__(self, inputs: int, outputs: int, k: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, k, stride, k // 2, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(outputs)
        self.activate = nn.ReLU6(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.activate(self.bn(self.conv(x)))


class ToyNetwork(nn.Module):
    """Stride-2 stem, depthwise block with residual, chained concatenations, max pool, upsampling, two outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = ConvBnAct(3, 16, 3, 2)
        self.a = ConvBnAct(16, 16, 3)
        self.depthwise = ConvBnAct(16, 16, 5, 1, 16)
        self.pointwise = ConvBnAct(16, 16, 1)
        self.down = ConvBnAct(32, 24, 3, 2)
        self.pool = nn.MaxPool2d(5, 1, 2)
        self.up = nn.Upsample(scale_factor=2, mode="nearest")
        self.shared = nn.Conv2d(24, 24, 3, padding=1, bias=False)
        self.bn1, self.bn2, self.act = nn.BatchNorm2d(24), nn.BatchNorm2d(24), nn.ReLU6()
        self.cls, self.reg = nn.Conv2d(56, 5, 1), nn.Conv2d(24, 4, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.stem(x)
        y = self.pointwise(self.depthwise(self.a(x))) + x
        both = torch.cat([y, x], dim=1)
        low = self.down(both)
        joined = torch.cat([self.up(self.pool(low)), both], dim=1)
        return self.cls(joined), self.reg(self.act(self.bn1(self.shared(low))))


class ToyDetector(nn.Module):
    output_names = ("cls_2", "reg_4")

    def __init__(self, std: Any = 255.0) -> None:
        super().__init__()
        self.net, self.std = ToyNetwork(), std

    def network(self) -> nn.Module:
        return self.net

    def preprocess(self, img: Tensor) -> Tensor:
        return img.float().div(255.0)

    def loss(self, maps: tuple[Tensor, ...], batch: dict[str, Any]) -> dict[str, Tensor]:
        terms = [((m - t) ** 2).mean() for m, t in zip(maps, batch["targets"], strict=True)]
        return {"loss": torch.stack(terms).sum()}

    def predict(self, maps: tuple[Tensor, ...], batch: dict[str, Any]) -> list[dict[str, Tensor]]:
        return [{f"map{i}": m[b] for i, m in enumerate(maps)} for b in range(len(batch["img"]))]

    def metadata(self) -> dict[str, Any]:
        return {"mean": 0.0, "std": self.std}

    def forward(self, batch: dict[str, Any]) -> Any:
        maps = self.net(self.preprocess(batch["img"]))
        return self.loss(maps, batch) if self.training else self.predict(maps, batch)


class Gate(nn.Module):
    """Channel attention: x * activation(conv(mean(x)))."""

    def __init__(self, channels: int, gate_first: bool = False) -> None:
        super().__init__()
        self.pool, self.fc, self.act = nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels, channels, 1), nn.Hardsigmoid()
        self.gate_first = gate_first

    def forward(self, x: Tensor) -> Tensor:
        gate = self.act(self.fc(self.pool(x)))
        return gate * x if self.gate_first else x * gate


class GatedNetwork(ToyNetwork):
    """The toy with channel attention on a concatenation and before a pooling, and another activation.

    A sigmoid stands in the last block only (its output cannot be concatenated with others); the rest is ReLU.
    """

    def __init__(self, activation: str) -> None:
        super().__init__()
        cls = getattr(nn, activation)
        for module in list(self.modules()):
            if isinstance(module, ConvBnAct):
                inplace = {} if activation == "Tanh" else {"inplace": True}
                module.activate = nn.ReLU(inplace=True) if activation == "Sigmoid" else cls(**inplace)
        self.act = cls()
        self.wide_gate, self.gate = Gate(32), Gate(24, gate_first=True)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.stem(x)
        y = self.pointwise(self.depthwise(self.a(x))) + x
        both = self.wide_gate(torch.cat([y, x], dim=1))
        low = self.down(both)
        joined = torch.cat([self.up(self.pool(self.gate(low))), both], dim=1)
        return self.cls(joined), self.reg(self.act(self.bn1(self.shared(low))))


def batch(seed: int = 0, size: int = 4, height: int = 36, width: int = 28) -> dict[str, Any]:
    g = torch.Generator().manual_seed(seed)
    img = torch.randint(0, 256, (size, 3, height, width), dtype=torch.uint8, generator=g)
    targets = (
        torch.randn(size, 5, height // 2, width // 2, generator=g),
        torch.randn(size, 4, height // 4, width // 4, generator=g),
    )
    return {"img": img.contiguous(memory_format=torch.channels_last), "targets": targets}


def detector(seed: int = 0, network: Callable[[], nn.Module] | None = None) -> ToyDetector:
    """With spread BN parameters and statistics, so that tensors use many levels."""
    torch.manual_seed(seed)
    model = ToyDetector()
    if network is not None:
        model.net = network()  # type: ignore[assignment]
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 2.0)
            nn.init.normal_(module.bias)
    model.train()
    with torch.no_grad():
        for i in range(30):
            model(batch(i))
    return model.eval()


def train(q: nn.Module, steps: int, lr: float = 1e-3) -> list[float]:
    """Losses of so many steps of SGD on four batches in turn."""
    optimizer = torch.optim.SGD(q.parameters(), lr, momentum=0.9)
    losses = []
    q.train()
    for i in range(steps):
        loss = q(batch(i % 4))["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses
