"""Transposed convolutions on the whole road: folded, traced, trained in integers, lowered, written."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from quantization_toy import ToyDetector
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from hatdet.export.float_graph import trace_float
from hatdet.export.runtimes.floating import FloatTFLite
from hatdet.export.runtimes.parity import check_parity
from hatdet.export.targets.check import check_model
from hatdet.export.targets.table import get_target
from hatdet.export.tflite.file_operators import read_file
from hatdet.export.tflite.floating import write_float
from hatdet.export.tflite.int8 import write
from hatdet.export.vela.compile import compile_file
from hatdet.integer.executor import IntExecutor
from hatdet.integer.graph import IntGraph
from hatdet.integer.islands import executor_for
from hatdet.integer.operators.windows.conv_transpose import ConvTransposeOp
from hatdet.quantization.converters import Float2Calibration, Float2QAT, ModelConvertPipeline
from hatdet.quantization.detector import QuantizedDetector, quantize_detector
from hatdet.quantization.fuse import fuse_bn
from hatdet.quantization.qat.fx_adapter import resting, unsupported_operators
from hatdet.quantization.tracing.comparison import run
from hatdet.utils.errors import UserError

SIZE = (32, 24)


class UNet(nn.Module):
    """One level down, up again by a transposed convolution with norm and activation, joined, and two heads."""

    def __init__(self, act: Callable[[], nn.Module] = nn.ReLU, bias: bool = False) -> None:
        super().__init__()
        self.stem, self.down = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 8, 3, 2, 1)
        self.up, self.bn, self.act = nn.ConvTranspose2d(8, 5, 3, 2, 1, 1, bias=bias), nn.BatchNorm2d(5), act()
        self.twice = nn.ConvTranspose2d(11, 11, 1)
        self.a, self.b = nn.Conv2d(11, 3, 1), nn.ConvTranspose2d(11, 2, (4, 2), 2, (1, 0))
        nn.init.uniform_(self.bn.running_var, 0.5, 2.0)
        nn.init.normal_(self.bn.running_mean)
        nn.init.uniform_(self.bn.weight, 0.5, 1.5)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = F.relu6(self.stem(x))
        y = torch.cat([self.act(self.bn(self.up(F.relu(self.down(x))))), x], 1)
        y = F.relu(self.twice(F.relu(self.twice(y))))
        return self.a(y), self.b(y)


def detector(network: nn.Module) -> ToyDetector:
    torch.manual_seed(0)
    model = ToyDetector()
    count = len(run(network.eval(), images()).outputs)
    model.net, model.output_names = network, tuple(f"out_{i}" for i in range(count))  # type: ignore[assignment]
    return model.eval()


def images(seed: int = 0) -> Tensor:
    return torch.rand(2, 3, *SIZE, generator=torch.Generator().manual_seed(seed))


def calibrated(network: nn.Module, keep_float: tuple[str, ...] = ()) -> QuantizedDetector:
    model = detector(network)
    fuse_bn(model)
    q = quantize_detector(
        model, observer="min_max", averaging_constant=0.01, qat_forward="integer", keep_float=keep_float
    ).eval()
    q.set_observing(True)
    q.set_quantizing(False)
    q.run_network(images())
    q.set_observing(False)
    q.set_quantizing(True)
    return q


def codes_of(graph: IntGraph, x: Tensor) -> Tensor:
    p = graph.qparams(graph.inputs[0])
    return (torch.round(x / p.scale) + p.zero_point).clamp(-128, 127).to(torch.int8)


@pytest.mark.parametrize("act", [nn.ReLU, nn.ReLU6, nn.Hardsigmoid, nn.Hardswish, nn.Identity])
def test_the_whole_road(act: Callable[[], nn.Module]) -> None:
    torch.manual_seed(1)
    network = UNet(act).eval()
    expected = [value.clone() for value in run(network, images()).outputs]
    q = calibrated(network)
    with resting(q.quantized.trunk):
        found = run(q.quantized.trunk, images()).outputs
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(expected, found, strict=True))
    graph = q.int_graph(SIZE)
    ups = [op for op in graph.ops if isinstance(op, ConvTransposeOp)]
    assert [op.name for op in ups] == ["up", "twice", "twice@1", "b"]
    assert ups[1].weight is ups[2].weight and ups[0].weight.shape == (5, 8, 3, 3)
    assert graph.tensors[graph.outputs[1]].shape == (2, 64, 48)
    shipped = IntExecutor(graph).run_real(images())
    assert all(torch.equal(a, b) for a, b in zip(q.run_network(images()), shipped, strict=True))
    for real, quantized in zip(expected, shipped, strict=True):
        assert float((real - quantized).abs().max()) < 0.05 * float(real.abs().max())
    pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed")
    assert (report := check_parity(graph, write(graph), codes_of(graph, images(1)))).ok, report.text()


@pytest.mark.parametrize("qat_mode", ["fuse_bn", "with_bn"])
def test_training(qat_mode: str) -> None:
    """Weights change, and what ships is what training simulates."""
    torch.manual_seed(1)
    q = ModelConvertPipeline(converters=[Float2QAT()], qat_mode=qat_mode)(detector(UNet()))
    assert isinstance(q, QuantizedDetector)
    q.train()
    before = {name: value.clone() for name, value in q.named_parameters()}
    optimizer = torch.optim.SGD(q.parameters(), 0.05)
    for step in range(3):
        optimizer.zero_grad()
        torch.stack([(value**2).mean() for value in q.run_network(images(step))]).sum().backward()
        optimizer.step()
    weights = [name for name in before if name.endswith(("up.weight", "twice.weight"))]
    after = dict(q.named_parameters())
    assert len(weights) == 2 and not any(torch.equal(before[name], after[name]) for name in weights)
    graph = q.eval().int_graph(SIZE)
    shipped = IntExecutor(graph).run_real(images())
    assert all(torch.equal(a, b) for a, b in zip(q.folded().run_network(images()), shipped, strict=True))


class Matrix(nn.Module):
    """A matrix and a transposed convolution without norms, behind a convolution with one."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.bn = nn.Conv2d(3, 6, 3, 2, 1), nn.BatchNorm2d(6)
        self.fc, self.up = nn.Linear(6, 6), nn.ConvTranspose2d(6, 4, 2, 2)

    def forward(self, x: Tensor) -> tuple[Tensor]:
        y = self.bn(self.stem(x))
        return (self.up(y * torch.sigmoid(self.fc(y.mean((2, 3))))[:, :, None, None]),)


@pytest.mark.parametrize("change", [
    lambda q: q.to(device="cpu", memory_format=torch.channels_last), lambda q: q.double().float(), copy.deepcopy,
])  # fmt: skip
def test_what_is_evaluated_has_the_trained_weights_wherever_the_model_was_moved_to(
    change: Callable[[nn.Module], nn.Module],
) -> None:
    """As a training does before its first step; a copy or a move parts what lay in one memory."""
    torch.manual_seed(1)
    q = ModelConvertPipeline(converters=[Float2QAT()], qat_mode="with_bn")(detector(Matrix()))
    q = change(q)
    assert isinstance(q, QuantizedDetector)
    q.train().run_network(images())
    trained = [step.module.weight for step in q.quantized.plan.steps if step.name in ("fc", "up")]
    with torch.no_grad():
        for weight in trained:
            weight.add_(torch.linspace(0.1, 0.2, weight.numel()).view(weight.shape))
    folded = q.eval().folded()
    found = [step.module.weight for step in folded.quantized.plan.steps if step.name in ("fc", "up")]
    assert all(torch.equal(a, b) for a, b in zip(trained, found, strict=True)) and len(found) == 2
    shipped = IntExecutor(q.int_graph(SIZE)).run_real(images())
    assert torch.equal(folded.run_network(images())[0], shipped[0])


def test_a_moved_network_is_compared_with_the_float_network_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(1)
    q = ModelConvertPipeline(converters=[Float2Calibration()])(detector(UNet()))
    assert isinstance(q, QuantizedDetector)
    compared: list[Any] = []
    monkeypatch.setattr("hatdet.quantization.detector.compare_networks", lambda *args: compared.append(args))
    q.to(device="cpu", memory_format=torch.channels_last)  # type: ignore[call-overload]
    q.eval().run_network(images())
    assert len(compared) == 1


def test_the_gradient_is_that_of_the_real_function() -> None:
    """Of input, weight and bias, within what rounding to 8 bits changes."""
    torch.manual_seed(2)
    network = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ConvTranspose2d(4, 3, 4, 2, 1))
    q = calibrated(Tuple(network)).train()
    found = dict(q.quantized.trunk.named_parameters())
    q.run_network(images())[0].square().sum().backward()
    real = {name: value.detach().clone().requires_grad_() for name, value in network.named_parameters()}
    y = F.conv2d(images(), real["0.weight"], real["0.bias"], padding=1)
    F.conv_transpose2d(y, real["1.weight"], real["1.bias"], 2, 1).square().sum().backward()
    for name, value in real.items():
        grad = found[f"net.{name}"].grad
        assert grad is not None and value.grad is not None
        grad = grad.transpose(0, 1) if name == "1.weight" else grad
        assert float((grad - value.grad).norm() / value.grad.norm()) < 0.02, name


class Tuple(nn.Module):
    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> tuple[Tensor]:
        return (self.net(x),)


class Sized(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down, self.up = nn.Conv2d(3, 4, 3, 2, 1), nn.ConvTranspose2d(4, 3, 3, 2, 1)

    def forward(self, x: Tensor) -> tuple[Tensor]:
        return (self.up(self.down(x), output_size=x.shape[2:]),)


class Called(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Conv2d(3, 4, 3, 2, 1)

    def forward(self, x: Tensor) -> tuple[Tensor]:
        return (F.conv_transpose2d(self.down(x), self.down.weight, stride=2),)


def after_a_convolution(*args: Any, **options: Any) -> nn.Module:
    return Tuple(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ConvTranspose2d(4, 4, *args, **options)))


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (after_a_convolution(2, 2, groups=4), r"^net.1: .*groups=4, which no runtime has; use groups=1, or Upsample"),
        (after_a_convolution(2, 2, dilation=2), r"^net.1: .*dilation=\(2, 2\), which .*; use dilation=1 and a larger"),
        (Sized(), "^up: ConvTranspose2d called with more than a map; give the rest to the constructor"),
        (Called(), "^conv_transpose2d: .*; call an nn.ConvTranspose2d module"),
        (
            Tuple(nn.Sequential(nn.Conv2d(3, 4, 3), parametrizations.weight_norm(nn.ConvTranspose2d(4, 4, 2, 2)))),
            "^net.1: ParametrizedConvTranspose2d has no integer form",
        ),
    ],
)
def test_what_no_runtime_has_is_named(network: nn.Module, message: str) -> None:
    problem = str(unsupported_operators(network.eval())[0])
    with pytest.raises(UserError, match=message):
        raise UserError(problem)


def test_a_norm_behind_groups_does_not_hide_what_is_wrong() -> None:
    conv = nn.ConvTranspose2d(4, 8, 2, 2, groups=2)
    network = Tuple(nn.Sequential(nn.Conv2d(3, 4, 3), conv, nn.BatchNorm2d(8))).eval()
    with pytest.raises(UserError, match="net.1: ConvTranspose2d with groups=2, which no runtime has"):
        calibrated(network)


def test_a_layer_that_is_shared_by_norms_of_two_levels() -> None:
    """Each level gets a folded kernel of its own."""

    class Levels(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.down = nn.Conv2d(3, 4, 3, 2, 1), nn.Conv2d(4, 4, 3, 2, 1)
            up = nn.ConvTranspose2d(4, 4, 2, 2)
            self.ups, self.bns = nn.ModuleList([up, up]), nn.ModuleList([nn.BatchNorm2d(4), nn.BatchNorm2d(4)])
            nn.init.uniform_(self.bns[1].weight, 2.0, 3.0)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            x = self.stem(x)
            y = self.down(x)
            return self.bns[0](self.ups[0](x)), self.bns[1](self.ups[1](y))

    torch.manual_seed(4)
    network = Levels().eval()
    expected = [value.clone() for value in run(network, images()).outputs]
    q = calibrated(network)
    shipped = IntExecutor(q.int_graph(SIZE)).run_real(images())
    for real, ours, made in zip(expected, q.run_network(images()), shipped, strict=True):
        assert torch.equal(ours, made) and float((real - made).abs().max()) < 0.05 * float(real.abs().max())


def test_kept_in_float_it_computes_the_real_function() -> None:
    torch.manual_seed(1)
    q = calibrated(UNet().eval(), keep_float=("up", "b"))
    graph = q.int_graph(SIZE)
    assert set(graph.islands) == {"up", "b"}
    assert all(torch.equal(a, b) for a, b in zip(q.run_network(images()), executor_for(graph).run_real(images()),
                                                 strict=True))  # fmt: skip


@pytest.mark.parametrize("half", [False, True])
def test_the_float_file(half: bool) -> None:
    pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed")
    torch.manual_seed(1)
    network = UNet(nn.ReLU6).eval()
    expected = run(network, images()).outputs
    found = FloatTFLite(write_float(trace_float(detector(network), SIZE), "{}", half)).run(images())
    for a, b in zip(expected, found, strict=True):
        assert torch.allclose(a, b, atol=3e-2 if half else 1e-4)


def test_the_npu_runs_all_of_it() -> None:
    pytest.importorskip("ethosu.vela", reason="Vela is not installed")
    torch.manual_seed(1)
    model = detector(UNet().eval())
    report = check_model(model, get_target("ethos-u55-128"), SIZE)
    assert report.ok, report.text()
    result = compile_file(write(calibrated(UNet().eval()).int_graph(SIZE)), get_target("ethos-u55-128"))
    assert result.cpu_operators == ()


def test_stride_3_runs_on_the_cpu_and_is_said_to() -> None:
    pytest.importorskip("ethosu.vela", reason="Vela is not installed")
    network = after_a_convolution(3, 3).eval()
    graph = calibrated(network).int_graph(SIZE)
    (found,) = get_target("ethos-u55-128").violations(read_file(write(graph)))
    assert found.message.startswith("TRANSPOSE_CONV with stride 3x3: The stride of a transposed convolution is 1 or 2")
    assert len(compile_file(write(graph), get_target("ethos-u55-128")).cpu_operators) == 1
