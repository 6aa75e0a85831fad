"""Random networks of torch modules, as a user could have written them: the same seed gives the same network.

A network is a list of steps over maps that are known by number; each step makes one or more maps of those before it.
Weights and biases get adversarial ranges: channels of all sizes, dead ones, biases that saturate what is behind them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

Maps = list[Tensor]
Shape = tuple[int, int, int]
SIZE = (24, 40)
LIMIT = 48
"""Channels at most."""


@dataclass
class Step:
    """``call(modules, maps read) -> maps made``; ``reads`` are their numbers."""

    name: str
    reads: list[int]
    call: Callable[[nn.ModuleDict, Maps], Sequence[Tensor]]


class Network(nn.Module):
    """Runs its steps; the outputs are the maps that nothing reads."""

    def __init__(self, modules: dict[str, nn.Module], steps: list[Step], outputs: list[int]) -> None:
        super().__init__()
        self.parts, self.steps, self.outputs = nn.ModuleDict(modules), steps, outputs

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        maps = [x]
        for step in self.steps:
            maps += step.call(self.parts, [maps[number] for number in step.reads])
        return tuple(maps[number] for number in self.outputs)


@dataclass
class Builder:
    """A network that is being made: the shapes of its maps by number."""

    rng: np.random.Generator
    shapes: list[Shape] = field(default_factory=list)
    modules: dict[str, nn.Module] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)

    def pick(self, values: Sequence[Any]) -> Any:
        return values[int(self.rng.integers(len(values)))]

    def part(self, module: nn.Module) -> str:
        name = f"m{len(self.modules)}"
        self.modules[name] = module
        return name

    def step(self, name: str, reads: list[int], shapes: Sequence[Shape], call: Callable[..., Sequence[Tensor]]) -> None:
        self.steps.append(Step(name, reads, call))
        self.shapes += shapes

    def module(self, name: str, source: int, shape: Shape, module: nn.Module) -> None:
        """A module of one map."""
        key = self.part(module)
        self.step(name, [source], [shape], lambda parts, maps: [parts[key](maps[0])])

    def function(self, name: str, reads: list[int], shape: Shape, function: Callable[..., Tensor]) -> None:
        """A function of maps."""
        self.step(name, reads, [shape], lambda parts, maps: [function(*maps)])

    def alike(self, source: int) -> list[int]:
        """The maps of the same shape."""
        return [number for number, shape in enumerate(self.shapes) if shape == self.shapes[source] and number]


def random_module(seed: int, steps: int = 12) -> Network:
    """A network for images (3, 24, 40) and multiples of that."""
    builder = Builder(np.random.default_rng(seed), [(3, *SIZE)])
    torch.manual_seed(seed)
    conv(builder, 0)
    names = list(MAKERS)
    while len(builder.steps) < steps:
        source = int(builder.rng.integers(max(1, len(builder.shapes) - 5), len(builder.shapes)))
        MAKERS[builder.pick(names)](builder, source)
    if seed % 7 == 0:
        maximum(builder, len(builder.shapes) - 1)
    read = {number for step in builder.steps for number in step.reads}
    outputs = [number for number in range(1, len(builder.shapes)) if number not in read]
    network = Network(builder.modules, builder.steps, outputs)
    _adversarial(network, builder.rng)
    return network.eval()


def _adversarial(network: nn.Module, rng: np.random.Generator) -> None:
    """Ranges as they should not be: six decades between channels, dead and saturated ones, statistics of all sizes."""
    rows = [list(module) for module in network.modules() if isinstance(module, nn.Sequential)]
    normalized = {row[0] for row in rows if len(row) > 1 and isinstance(row[1], nn.BatchNorm2d)}
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
            channels = module.weight.shape[0]
            with torch.no_grad():
                spread = float(rng.choice([0.0, 0.0, 0.5, 1.5])) * (module not in normalized)
                factor = 10.0 ** torch.from_numpy(rng.normal(0.0, spread, channels)).float()
                if rng.random() < 0.2:
                    factor[int(rng.integers(channels))] = 0.0
                module.weight.mul_(factor.view(-1, *[1] * (module.weight.ndim - 1)))
                if module.bias is not None and rng.random() < 0.3:
                    module.bias.add_(torch.from_numpy(rng.normal(0.0, 3.0, len(module.bias))).float())
        elif isinstance(module, nn.BatchNorm2d):
            n = module.num_features
            with torch.no_grad():
                module.running_mean.copy_(torch.from_numpy(rng.normal(0.0, 0.5, n)))  # type: ignore[union-attr]
                module.running_var.copy_(torch.from_numpy(10.0 ** rng.normal(0.0, 0.5, n)))  # type: ignore[union-attr]
                module.weight.copy_(torch.from_numpy(rng.normal(1.0, 0.5, n)))


def conv(b: Builder, source: int) -> None:
    """Dense, grouped, depthwise; strides, dilations, uneven kernels; with or without normalization and activation."""
    c, h, w = b.shapes[source]
    groups = int(b.pick([g for g in (1, 1, 2, c) if c % g == 0]))
    out = groups * int(b.rng.integers(1, max(2, LIMIT // 3 // groups + 1)))
    kernel = (int(b.pick([1, 3, 3, 5])), int(b.pick([1, 3, 3])))
    dilation = int(b.pick([1, 1, 1, 2]))
    stride = int(b.pick([1, 1, 2])) if min(h, w) >= 6 and h % 2 == w % 2 == 0 else 1
    padding = tuple(dilation * (k // 2) for k in kernel)
    norm = b.rng.random() < 0.5
    layers: list[nn.Module] = [
        nn.Conv2d(c, out, kernel, stride, padding, dilation, groups, bias=not norm or b.rng.random() < 0.5)
    ]
    layers += [nn.BatchNorm2d(out)] if norm else []
    if (act := b.pick(ACTIVATIONS)) is not None:
        layers.append(act())
    b.module("conv", source, (out, -(-h // stride), -(-w // stride)), nn.Sequential(*layers))


def shared_conv(b: Builder, source: int) -> None:
    """One module called on two maps of other sizes, as heads do it."""
    c, h, w = b.shapes[source]
    if min(h, w) < 4 or h % 2 or w % 2:
        return
    key = b.part(nn.Sequential(nn.Conv2d(c, c, 3, 1, 1), nn.ReLU(inplace=True)))
    pool = b.part(nn.MaxPool2d(2))
    b.step("shared", [source], [(c, h, w), (c, h // 2, w // 2)],
           lambda parts, maps: [parts[key](maps[0]), parts[key](parts[pool](maps[0]))])  # fmt: skip


def rep_block(b: Builder, source: int) -> None:
    """A re-parameterised block: 3x3, 1x1 and identity with normalization each."""
    c, h, w = b.shapes[source]
    three = b.part(nn.Sequential(nn.Conv2d(c, c, 3, 1, 1, bias=False), nn.BatchNorm2d(c)))
    one = b.part(nn.Sequential(nn.Conv2d(c, c, 1, bias=False), nn.BatchNorm2d(c)))
    same = b.part(nn.BatchNorm2d(c))

    def branches(parts: nn.ModuleDict, maps: Maps) -> Maps:
        return [F.relu(parts[three](maps[0]) + parts[one](maps[0]) + parts[same](maps[0]))]

    b.step("rep", [source], [(c, h, w)], branches)


def transposed(b: Builder, source: int) -> None:
    c, h, w = b.shapes[source]
    if h * w > 1000:
        return
    kernel, padding, extra = b.pick([(2, 0, 0), (4, 1, 0), (3, 1, 1)])
    out = int(b.rng.integers(1, 12))
    b.module("transposed", source, (out, 2 * h, 2 * w), nn.ConvTranspose2d(c, out, kernel, 2, padding, extra))


def activation(b: Builder, source: int) -> None:
    act = b.pick([a for a in ACTIVATIONS if a is not None])
    b.module("activation", source, b.shapes[source], act())


def pair(b: Builder, source: int) -> None:
    """Two maps of one shape, or one map twice."""
    other = b.pick(b.alike(source))
    name, function = b.pick(PAIRS)
    b.function(name, [source, other], b.shapes[source], function)


def constant(b: Builder, source: int) -> None:
    value = float(np.float32(b.rng.normal(0.0, 2.0)))
    name, function = b.pick([
        ("times", lambda x: x * value), ("plus", lambda x: x + value), ("from", lambda x: value - x),
        ("by", lambda x: x / 6), ("negative", lambda x: -x),
    ])  # fmt: skip
    b.function(f"constant {name}", [source], b.shapes[source], function)


def gate(b: Builder, source: int) -> None:
    """Channel attention, or one map for all channels."""
    c, h, w = b.shapes[source]
    act = b.part(b.pick([nn.Sigmoid, nn.Hardsigmoid])())
    if b.rng.random() < 0.5:
        fc = b.part(nn.Conv2d(c, c, 1))
        b.step("gate", [source], [(c, h, w)],
               lambda parts, maps: [maps[0] * parts[act](parts[fc](F.adaptive_avg_pool2d(maps[0], 1)))])  # fmt: skip
    else:
        fc = b.part(nn.Conv2d(c, 1, 3, 1, 1))
        b.step("spatial gate", [source], [(c, h, w)], lambda parts, maps: [maps[0] * parts[act](parts[fc](maps[0]))])


def maximum(b: Builder, source: int) -> None:
    """A gate from the largest value of each channel."""
    c, h, w = b.shapes[source]
    fc = b.part(nn.Conv2d(c, c, 1))
    b.step("maximum", [source], [(c, h, w)],
           lambda parts, maps: [maps[0] * torch.sigmoid(parts[fc](F.adaptive_max_pool2d(maps[0], 1)))])  # fmt: skip


def concat(b: Builder, source: int) -> None:
    c, h, w = b.shapes[source]
    fitting = [n for n, shape in enumerate(b.shapes) if n and shape[1:] == (h, w) and shape[0] + c <= LIMIT]
    if fitting:
        other = b.pick(fitting)
        b.function("concat", [source, other], (c + b.shapes[other][0], h, w), lambda x, y: torch.cat([x, y], 1))


def split(b: Builder, source: int) -> None:
    c, h, w = b.shapes[source]
    if c < 4:
        return
    at = c // 2
    ways = [lambda x: x.split([at, c - at], 1), lambda x: (x[:, :at], x[:, at:])]
    ways += [lambda x: x.chunk(2, dim=1)] if c % 2 == 0 else []
    way = b.pick(ways)
    b.step("split", [source], [(at, h, w), (c - at, h, w)], lambda parts, maps: list(way(maps[0])))


def focus(b: Builder, source: int) -> None:
    c, h, w = b.shapes[source]
    if h % 2 or w % 2 or 4 * c > LIMIT:
        return
    shape = (4 * c, h // 2, w // 2)
    if b.rng.random() < 0.5:
        b.module("unshuffle", source, shape, nn.PixelUnshuffle(2))
    else:
        b.function("focus", [source], shape, lambda x: torch.cat(
            [x[..., ::2, ::2], x[..., 1::2, ::2], x[..., ::2, 1::2], x[..., 1::2, 1::2]], 1))  # fmt: skip


def shuffle(b: Builder, source: int) -> None:
    c, h, w = b.shapes[source]
    if c % 4 == 0 and h * w <= 500 and b.rng.random() < 0.5:
        b.module("pixel shuffle", source, (c // 4, 2 * h, 2 * w), nn.PixelShuffle(2))
    elif c % 2 == 0:
        b.module("channel shuffle", source, (c, h, w), nn.ChannelShuffle(2))


def pool(b: Builder, source: int) -> None:
    c, h, w = b.shapes[source]
    if h % 2 or w % 2 or min(h, w) < 4:
        return
    kind = b.pick([nn.MaxPool2d(2), nn.AvgPool2d(2), nn.MaxPool2d(3, 2, 1), nn.AvgPool2d(3, 2, 1)])
    b.module("pool", source, (c, h // 2, w // 2), kind)


def pyramid(b: Builder, source: int) -> None:
    c, h, w = b.shapes[source]
    k = int(b.pick([3, 5]))
    b.module("same pool", source, (c, h, w), b.pick([nn.MaxPool2d, nn.AvgPool2d])(k, 1, k // 2))


def enlarge(b: Builder, source: int) -> None:
    c, h, w = b.shapes[source]
    if h * w > 500:
        return
    mode = b.pick(["nearest", "bilinear"])
    b.function(mode, [source], (c, 2 * h, 2 * w), lambda x: F.interpolate(x, scale_factor=2, mode=mode))


def pad(b: Builder, source: int) -> None:
    """Uneven zeros, and a convolution that takes them away again."""
    c, h, w = b.shapes[source]
    conv_ = nn.Sequential(nn.ZeroPad2d((1, 0, 2, 1)), nn.Conv2d(c, c, (4, 2)))
    b.module("padded conv", source, (c, h, w), conv_)


def residual(b: Builder, source: int) -> None:
    c, h, w = b.shapes[source]
    key = b.part(nn.Sequential(nn.Conv2d(c, c, 3, 1, 1), nn.BatchNorm2d(c)))
    b.step("residual", [source], [(c, h, w)], lambda parts, maps: [F.relu(maps[0] + parts[key](maps[0]))])


ACTIVATIONS: list[Callable[[], nn.Module] | None] = [
    None, nn.ReLU, nn.ReLU6, nn.Hardswish, nn.SiLU, nn.Sigmoid, nn.Hardsigmoid, lambda: nn.LeakyReLU(0.1), nn.GELU,
    nn.Mish, nn.ELU, nn.Tanh, nn.PReLU, lambda: nn.Hardtanh(-1.0, 1.0), nn.Softplus,
]  # fmt: skip
PAIRS: list[tuple[str, Callable[[Tensor, Tensor], Tensor]]] = [
    ("add", lambda x, y: x + y), ("mul", lambda x, y: x * y), ("sub", lambda x, y: x - y),
    ("maximum", torch.maximum), ("minimum", torch.minimum), ("add relu", lambda x, y: F.relu(x + y)),
]  # fmt: skip
MAKERS: dict[str, Callable[[Builder, int], None]] = {
    "conv": conv, "conv again": conv, "and again": conv, "shared": shared_conv, "rep": rep_block,
    "transposed": transposed, "activation": activation, "pair": pair, "constant": constant, "gate": gate,
    "concat": concat, "split": split, "focus": focus, "shuffle": shuffle, "pool": pool, "pyramid": pyramid,
    "enlarge": enlarge, "pad": pad, "residual": residual,
}  # fmt: skip
