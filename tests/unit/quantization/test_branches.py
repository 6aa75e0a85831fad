"""Blocks that are re-parameterised become one convolution before calibration; whatever else is added up stays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from quantization_toy import ToyDetector
from torch import Tensor, nn

from hatdet.export.float_graph import trace_float
from hatdet.integer.executor import IntExecutor
from hatdet.integer.operators.windows.conv import ConvOp
from hatdet.models.backbones.mobilenetv4 import MobileNetV4
from hatdet.models.backbones.resnet import ResNet
from hatdet.models.backbones.vargnetv2 import VargNetV2
from hatdet.quantization.branches import geometry, joined
from hatdet.quantization.converters import Float2QAT, ModelConvertPipeline
from hatdet.quantization.detector import QuantizedDetector
from hatdet.quantization.fuse import fuse_bn, merge_branches
from hatdet.quantization.qat.fx_adapter import unsupported_operators
from hatdet.quantization.tracing.comparison import run
from tests.helpers.rtmdet import build_rtmdet


def conv_bn(inputs: int, outputs: int, kernel: Any, **options: Any) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, kernel, bias=False, **options), nn.BatchNorm2d(outputs))


class RepVgg(nn.Module):
    """As the paper has it: kernel 3, kernel 1, and a norm alone where the shape stays."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        same = inputs == outputs and stride == 1
        self.identity = nn.BatchNorm2d(inputs) if same else None
        self.one = conv_bn(inputs, outputs, 1, stride=stride, groups=groups)
        self.three = conv_bn(inputs, outputs, 3, stride=stride, padding=1, groups=groups)
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        identity = 0 if self.identity is None else self.identity(x)
        return self.act(self.three(x) + self.one(x) + identity)  # type: ignore[no-any-return]


class MobileOne(nn.Module):
    """Several branches of kernel 3, one of kernel 1, a norm alone; added up in a loop."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.skip, self.scale = nn.BatchNorm2d(channels), conv_bn(channels, channels, 1, groups=groups)
        self.branches = nn.ModuleList(conv_bn(channels, channels, 3, padding=1, groups=groups) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        y = self.scale(x) + self.skip(x)
        for branch in self.branches:
            y += branch(x)
        return F.relu(y)


class Asymmetric(nn.Module):
    """Kernels 3x3, 3x1 and 1x3, one of them with a bias, and a norm behind their sum."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.square, self.tall = conv_bn(channels, 4, 3, padding=1), conv_bn(channels, 4, (3, 1), padding=(1, 0))
        self.wide, self.norm = nn.Conv2d(channels, 4, (1, 3), padding=(0, 1)), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(sum([self.square(x), self.tall(x), self.wide(x)]))  # type: ignore[no-any-return]


class With(nn.Module):
    """A stem, a function of its maps and of modules by name."""

    def __init__(self, function: Callable[[Any, Tensor], Any], **modules: nn.Module) -> None:
        super().__init__()
        self.stem, self.function = nn.Conv2d(3, 4, 3, 2, 1), function
        for name, module in modules.items():
            self.add_module(name, module)

    def forward(self, x: Tensor) -> Any:
        y = self.function(self, F.relu(self.stem(x)))
        return y if isinstance(y, tuple) else (y,)


def through(*blocks: nn.Module) -> nn.Module:
    return With(lambda net, y: net.blocks(y), blocks=nn.Sequential(*blocks))


def large() -> nn.Module:
    return With(
        lambda net, y: net.a(y) + net.b(y),
        a=conv_bn(4, 6, 5, padding=2, stride=2), b=conv_bn(4, 6, 3, padding=1, stride=2),
    )  # fmt: skip


def dilated() -> nn.Module:
    return With(
        lambda net, y: net.a(y) + (net.b(y) + net.c(y)),
        a=conv_bn(4, 4, 3, padding=2, dilation=2), b=nn.BatchNorm2d(4), c=conv_bn(4, 4, 5, padding=4, dilation=2),
    )  # fmt: skip


NETWORKS: dict[str, tuple[Callable[[], nn.Module], list[tuple[str, tuple[int, ...], int]]]] = {
    "RepVGG": (
        lambda: through(RepVgg(4, 8, 2), RepVgg(8, 8)),
        [("blocks.0.three.0", (8, 4, 3, 3), 1), ("blocks.1.three.0", (8, 8, 3, 3), 1)],
    ),
    "RepVGG in groups": (lambda: through(RepVgg(4, 4, 1, 2)), [("blocks.0.three.0", (4, 2, 3, 3), 2)]),
    "MobileOne depthwise": (lambda: through(MobileOne(4, 4)), [("blocks.0.branches.0.0", (4, 1, 3, 3), 4)]),
    "MobileOne pointwise": (lambda: through(MobileOne(4, 1)), [("blocks.0.branches.0.0", (4, 4, 3, 3), 1)]),
    "kernels that are not square": (lambda: through(Asymmetric(4)), [("blocks.0.square.0", (4, 4, 3, 3), 1)]),
    "5 and 3, stride 2": (large, [("a.0", (6, 4, 5, 5), 1)]),
    "dilated": (dilated, [("c.0", (4, 4, 5, 5), 1)]),
    "a norm and kernel 1": (
        lambda: With(lambda net, y: net.bn(y) + net.one(y), bn=nn.BatchNorm2d(4), one=conv_bn(4, 4, 1)),
        [("one.0", (4, 4, 1, 1), 1)],
    ),
}


def noise(seed: int = 0) -> Tensor:
    return torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(seed))


def trained(network: nn.Module) -> nn.Module:
    """Norms as training leaves them."""
    torch.manual_seed(3)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None and module.running_var is not None
            nn.init.normal_(module.running_mean, 0.0, 0.3)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0.0, 0.2)
    return network.eval()


def detector(network: nn.Module) -> ToyDetector:
    model = ToyDetector()
    count = len(run(network, noise()).outputs)
    model.net, model.output_names = network, tuple(f"out_{i}" for i in range(count))  # type: ignore[assignment]
    return model.eval()


@pytest.mark.parametrize("name", NETWORKS)
def test_branches_become_one_convolution(name: str) -> None:
    torch.manual_seed(0)
    make, expected = NETWORKS[name]
    network = trained(make())
    norms = sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())
    before = [value.clone() for value in run(network, noise()).outputs]
    assert unsupported_operators(network) == []
    model = detector(network)
    assert fuse_bn(model) == norms
    after = run(network, noise()).outputs
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(before, after, strict=True))
    graph = trace_float(model, (64, 96))
    assert {op.kind for op in graph.ops} == {"conv"} or {op.kind for op in graph.ops} == {"conv", "clamp"}
    convs = [(op.name, op.weight.shape, op.groups) for op in graph.ops if op.weight is not None]
    assert convs[1:] == expected
    assert fuse_bn(model) == 0


@pytest.mark.parametrize("qat_mode", ["fuse_bn", "with_bn"])
@pytest.mark.parametrize("name", ["RepVGG", "MobileOne depthwise", "kernels that are not square"])
def test_training(name: str, qat_mode: str) -> None:
    torch.manual_seed(0)
    make, expected = NETWORKS[name]
    q = ModelConvertPipeline(converters=[Float2QAT()], qat_mode=qat_mode)(detector(trained(make())))
    assert isinstance(q, QuantizedDetector)
    q.train()
    for step in range(2):
        q.run_network(noise(step))[0].square().mean().backward()
    graph = q.eval().int_graph((64, 96))
    assert [op.name for op in graph.ops if isinstance(op, ConvOp)] == ["stem", *(path for path, _, _ in expected)]
    shipped = IntExecutor(graph).run_real(noise())
    assert all(torch.equal(a, b) for a, b in zip(q.folded().run_network(noise()), shipped, strict=True))


KEPT: dict[str, Callable[[], nn.Module]] = {
    "residual": lambda: With(lambda net, y: net.a(y) + y, a=conv_bn(4, 4, 3, padding=1)),
    "branches of different values": lambda: With(
        lambda net, y: net.a(F.relu(y)) + net.b(y), a=conv_bn(4, 4, 3, padding=1), b=conv_bn(4, 4, 1)
    ),
    "a branch that is read again": lambda: With(
        lambda net, y: (lambda z: (net.a(y) + z, z))(net.b(y)), a=conv_bn(4, 4, 3, padding=1), b=conv_bn(4, 4, 1)
    ),
    "windows with another middle": lambda: With(
        lambda net, y: net.a(y) + net.b(y)[:, :, 1:-1, 1:-1], a=conv_bn(4, 4, 3), b=conv_bn(4, 4, 1)
    ),
    "an activation between": lambda: With(
        lambda net, y: F.relu(net.a(y)) + net.b(y), a=conv_bn(4, 4, 3, padding=1), b=conv_bn(4, 4, 1)
    ),
    "other groups": lambda: With(
        lambda net, y: net.a(y) + net.b(y), a=conv_bn(4, 4, 3, padding=1, groups=2), b=conv_bn(4, 4, 1)
    ),
    "one module twice": lambda: With(lambda net, y: net.a(y) + net.a(y), a=conv_bn(4, 4, 3, padding=1)),
    "without norms": lambda: With(
        lambda net, y: net.bn(net.c(net.a(y) + net.b(y))), a=nn.Conv2d(4, 4, 3, padding=1), b=nn.Conv2d(4, 4, 1),
        bn=nn.BatchNorm2d(4), c=nn.Conv2d(4, 4, 1),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", KEPT)
def test_what_is_no_such_block_stays(name: str) -> None:
    network = trained(KEPT[name]())
    assert merge_branches(network) == 0
    before = [value.clone() for value in run(network, noise()).outputs]
    model = detector(network)
    fuse_bn(model)
    assert "add" in {op.kind for op in trace_float(model, (64, 96)).ops}
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(before, run(network, noise()).outputs, strict=True))


@pytest.mark.parametrize(
    "network",
    [lambda: ResNet(depth=18, out_indices=(3,)), lambda: VargNetV2(bn_kwargs={}, num_classes=3),
     lambda: MobileNetV4(arch="conv_small"), lambda: build_rtmdet(widen_factor=0.125).network()],
)  # fmt: skip
def test_the_networks_of_the_toolbox_have_none(network: Callable[[], nn.Module]) -> None:
    assert merge_branches(network().eval()) == 0


ALONE: dict[str, tuple[Callable[[], nn.Module], list[str]]] = {
    "behind a concatenation": (
        lambda: With(lambda net, y: net.c(F.relu(net.bn(torch.cat([y, y], 1)))), bn=nn.BatchNorm2d(8),
                     c=nn.Conv2d(8, 4, 1)),
        ["conv", "concat", "conv", "conv"],
    ),
    "behind a pool": (
        lambda: With(lambda net, y: net.bn(F.max_pool2d(y, 2)), bn=nn.BatchNorm2d(4)), ["conv", "max_pool", "conv"]
    ),
    "behind a sum": (
        lambda: With(lambda net, y: net.bn(y + net.c(y)), bn=nn.BatchNorm2d(4), c=nn.Conv2d(4, 4, 1)),
        ["conv", "conv", "add", "conv"],
    ),
    "two of one map": (
        lambda: With(lambda net, y: (net.bn(net.c(y)), net.b(net.c(y))), bn=nn.BatchNorm2d(4), b=nn.BatchNorm2d(4),
                     c=nn.Conv2d(4, 4, 1)),
        ["conv", "conv", "conv", "conv", "conv"],
    ),
    "one of two maps": (
        lambda: With(lambda net, y: net.bn(net.c(y)) + net.bn(net.d(y)), bn=nn.BatchNorm2d(4), c=nn.Conv2d(4, 4, 1),
                     d=nn.Conv2d(4, 4, 1)),
        ["conv", "conv", "conv", "conv", "conv", "add"],
    ),
    "of the image": (lambda: Normed(), ["conv", "conv"]),
}  # fmt: skip


class Normed(nn.Module):
    """A norm of the image itself, as some networks have it in place of fixed numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.bn, self.conv = nn.BatchNorm2d(3), nn.Conv2d(3, 4, 3)

    def forward(self, x: Tensor) -> tuple[Tensor]:
        return (self.conv(self.bn(x)),)


@pytest.mark.parametrize("qat_mode", ["fuse_bn", "with_bn"])
@pytest.mark.parametrize("name", ALONE)
def test_a_norm_of_its_own_is_a_depthwise_convolution(name: str, qat_mode: str) -> None:
    torch.manual_seed(0)
    make, kinds = ALONE[name]
    network = trained(make())
    assert unsupported_operators(network) == []
    q = ModelConvertPipeline(converters=[Float2QAT()], qat_mode=qat_mode)(detector(network))
    assert isinstance(q, QuantizedDetector)
    q.train().run_network(noise())[0].square().mean().backward()
    graph = q.eval().int_graph((64, 96))
    assert [op.kind for op in graph.ops] == kinds
    shipped = IntExecutor(graph).run_real(noise())
    assert all(torch.equal(a, b) for a, b in zip(q.folded().run_network(noise()), shipped, strict=True))


def test_kernels_inside_one() -> None:
    """By hand: kernel 1 lies in the middle of kernel 3; a depthwise one on the diagonal of a dense one."""
    three, one, each = nn.Conv2d(2, 2, 3, padding=1), nn.Conv2d(2, 2, 1), nn.Conv2d(2, 2, 1, groups=2, bias=False)
    for conv, value in ((three, 1.0), (one, 10.0), (each, 100.0)):
        nn.init.constant_(conv.weight, value)
        if conv.bias is not None:
            nn.init.constant_(conv.bias, value / 10.0)
    made = joined([three, one, each])
    expected = torch.ones(2, 2, 3, 3)
    expected[:, :, 1, 1] = torch.tensor([[111.0, 11.0], [11.0, 111.0]])
    assert torch.equal(made.weight, expected) and torch.allclose(made.bias, torch.tensor([1.1, 1.1]))
    assert (made.padding, made.groups) == ((1, 1), 1)
    assert geometry([nn.Conv2d(2, 2, 3), nn.Conv2d(2, 2, 1)]) is None  # outputs of other sizes
    assert geometry([nn.Conv2d(2, 2, 3, padding=1), nn.Conv2d(2, 2, 1, 2)]) is None
    assert geometry([nn.Conv2d(2, 2, 3, padding=1), nn.Conv2d(2, 2, 3, padding=2, dilation=2)]) is None
    assert geometry([nn.Conv2d(2, 2, 3, padding=1), nn.Conv2d(2, 2, 3, padding=1, padding_mode="reflect")]) is None
