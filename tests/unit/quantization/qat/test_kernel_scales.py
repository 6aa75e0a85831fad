"""Scales that the kernels cannot compute with are raised where ranges are observed and where the model is lowered."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from quantization_toy import ToyDetector, batch, detector
from torch import Tensor, nn

from hatdet.export.runtimes.integer import LiteRTRuntime
from hatdet.export.runtimes.parity import check_parity
from hatdet.export.tflite import int8 as tflite
from hatdet.integer.arithmetic import MULTIPLIER_LIMIT, conv_multiplier
from hatdet.integer.graph import IntGraph
from hatdet.integer.operators.pairs.add import AddOp
from hatdet.integer.operators.pairs.mul import MulOp
from hatdet.integer.operators.pointwise.activation import ActivationOp
from hatdet.integer.operators.pointwise.activation_codes import GATE_INPUT, gate_input
from hatdet.integer.operators.windows.conv import ConvOp
from hatdet.quantization.detector import QuantizedDetector, quantize_detector
from hatdet.quantization.fuse import fuse_bn

pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed")
pytest.importorskip("tflite_micro", reason="TFLite Micro is not installed")


class Net(nn.Module):
    """Two convolutions around whatever is tried."""

    def __init__(self, middle: nn.Module, gain: float = 1.0, bias: float = 0.0) -> None:
        super().__init__()
        self.first, self.middle, self.last = nn.Conv2d(3, 8, 3, padding=1), middle, nn.Conv2d(8, 4, 1)
        with torch.no_grad():
            self.first.weight.mul_(gain)
            assert self.first.bias is not None
            self.first.bias.add_(bias)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return (self.last(self.middle(self.first(x))),)


class Detector(ToyDetector):
    output_names = ("y",)

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net  # type: ignore[assignment]


def quantized(net: nn.Module) -> QuantizedDetector:
    torch.manual_seed(0)
    q = quantize_detector(Detector(net), observer="min_max", averaging_constant=0.05, qat_forward="integer")
    q.set_observing(True)
    q.set_quantizing(False)
    q.eval()
    q(batch(0))
    q.set_observing(False)
    q.set_quantizing(True)
    return q


def assert_runs_everywhere(graph: IntGraph) -> None:
    codes = np.random.default_rng(0).integers(-128, 128, (2, *graph.tensors["images"].shape)).astype(np.int8)
    model = tflite.write(graph)
    report = check_parity(graph, model, codes, intermediates=True)
    assert report.ok and not [text for text in report.warnings if "default" in text], report.text()
    LiteRTRuntime(model, kernels="default")


def multipliers(graph: IntGraph) -> list[float]:
    found = []
    for op in graph.ops:
        if isinstance(op, ConvOp):
            x, y = graph.qparams(op.input), graph.qparams(op.output)
            found.append(float(conv_multiplier(x.scale, op.weight_scale, y.scale).max()))
    return found


def test_dead_relu_gets_a_scale_that_the_kernels_take() -> None:
    """Weights of some thousands and a bias far below: the ReLU is 0 on all images, its own scale would be 2**-16."""
    torch.manual_seed(0)
    net = Net(nn.ReLU(), gain=3e3, bias=-1e6)
    with torch.no_grad():
        net.last.weight.mul_(1e3)
    q = quantized(net)
    graph = q.int_graph((16, 16))
    dead = next(op for op in graph.ops if op.name.startswith("first"))
    assert isinstance(dead, ConvOp) and graph.qparams(dead.output).scale > 2.0**-16
    assert max(multipliers(graph)) < 256
    assert_runs_everywhere(graph)
    images = q.preprocess(batch(3)["img"])  # the simulation is the graph
    with torch.no_grad():
        assert torch.equal(q.quantized(images)[0], q.evaluation_model().run_network(images)[0])


class Cancel(nn.Module):
    def __init__(self, relu: bool) -> None:
        super().__init__()
        self.conv, self.relu = nn.Conv2d(8, 8, 1, bias=False), relu

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x) + x
        return torch.relu(y) if self.relu else y


@pytest.mark.parametrize("relu", [False, True])
def test_sum_that_cancels(relu: bool) -> None:
    """-x + x is about 0 where x has 255 codes: XNNPACK computes sums whose inputs are 256 times coarser far off."""
    torch.manual_seed(0)
    middle = Cancel(relu)
    with torch.no_grad():
        middle.conv.weight.copy_(-torch.eye(8).view(8, 8, 1, 1))
    graph = quantized(Net(middle, gain=10.0)).int_graph((16, 16))
    (add,) = [op for op in graph.ops if isinstance(op, AddOp)]
    ratio = max(graph.qparams(n).scale for n in add.inputs) / graph.qparams(add.output).scale
    assert 255 < ratio < MULTIPLIER_LIMIT
    assert_runs_everywhere(graph)


class Product(nn.Module):
    """x times a factor that is next to nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = nn.Conv2d(8, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.relu(self.factor(x))


def test_product_with_nothing() -> None:
    torch.manual_seed(0)
    middle = Product()
    with torch.no_grad():
        middle.factor.weight.mul_(300.0)
        middle.factor.bias.fill_(-1e9)  # type: ignore[union-attr]
    graph = quantized(Net(middle, gain=1e4)).int_graph((16, 16))
    (mul,) = [op for op in graph.ops if isinstance(op, MulOp)]
    a, b, y = (graph.qparams(n).scale for n in (mul.input1, mul.input2, mul.output))
    assert a * b / y < MULTIPLIER_LIMIT
    assert_runs_everywhere(graph)


@pytest.mark.parametrize("function", [nn.Sigmoid, nn.SiLU, nn.Hardswish, nn.Hardsigmoid, nn.Tanh])
@pytest.mark.parametrize("gain", [1.0, 3e2, 3e3, 1e5])
def test_gates_of_coarse_inputs(function: Any, gain: float) -> None:
    """The float network's output is met within the codes that it has."""
    torch.manual_seed(0)
    q = quantized(Net(nn.Sequential(nn.Identity(), function()), gain))
    graph = q.int_graph((16, 16))
    assert_runs_everywhere(graph)
    gates = [op for op in graph.ops if isinstance(op, ActivationOp) and op.function in ("sigmoid", "silu")]
    if gates and gain >= 1e4:
        assert gate_input(graph.qparams(gates[0].input)) == GATE_INPUT
    images = q.preprocess(batch(0)["img"])
    with torch.no_grad():
        (expected,), (got,) = q.task.network()(images), q.evaluation_model().run_network(images)
    error = (got - expected).abs().mean() / expected.abs().mean()
    assert float(error) < 0.12


def test_lowering_raises_what_training_left() -> None:
    """A checkpoint whose scale is too small is lowered to a graph that loads, and the simulation follows."""
    q = quantized(Net(nn.ReLU(), gain=1e4))
    plan = q.quantized.plan
    quantizer = plan.quantizers[plan.steps[0].output]
    before = float(quantizer.scale)
    quantizer.scale.mul_(1e-7)
    graph = q.int_graph((16, 16))
    (top, _) = multipliers(graph)
    assert 255 < top < 256 and float(quantizer.scale) == graph.qparams(plan.steps[0].output).scale < before
    assert_runs_everywhere(graph)


def test_accumulators_fit_int32_after_the_shift() -> None:
    """A bias of 2**29 in accumulator units leaves the shift 2: the multiplier stays below 4."""
    net = Net(nn.ReLU())
    with torch.no_grad():
        net.first.weight.fill_(1e-9)
        assert net.first.bias is not None
        net.first.bias.fill_(-1e4)
    graph = quantized(net).int_graph((16, 16))
    (conv, *_) = [op for op in graph.ops if isinstance(op, ConvOp)]
    bound = int(np.abs(conv.bias).max())
    assert bound * 2 ** np.ceil(np.log2(max(multipliers(graph)[0], 1.0))) < 2**31
    assert_runs_everywhere(graph)


def test_ordinary_scales_stay_as_they_are() -> None:
    model = detector()
    fuse_bn(model)
    q = quantize_detector(model, observer="min_max", averaging_constant=0.05, qat_forward="integer")
    q.set_observing(True)
    q.set_quantizing(False)
    q.eval()
    q(batch(0))
    for quantizer in q.quantized.quantizers():
        if not quantizer.fixed:
            scale, zero_point = quantizer.activation_post_process.calculate_qparams()
            assert float(quantizer.scale) == float(scale) and int(quantizer.zero_point) == int(zero_point)


def test_integers_do_not_depend_on_mixed_precision() -> None:
    """bfloat16 holds integers up to 256; sums under autocast would be others."""
    q = quantized(Net(nn.ReLU()))
    images, model = q.preprocess(batch(3)["img"]), q.evaluation_model()
    with torch.no_grad():
        expected = q.quantized(images)[0], model.run_network(images)[0]
        with torch.autocast("cpu", dtype=torch.bfloat16):
            got = q.quantized(images)[0], model.run_network(images)[0]
            model.executor = type(model.executor)(model.graph, backend="float32")
            plain = model.run_network(images)[0]
    assert torch.equal(expected[0], expected[1])
    assert all(torch.equal(value, expected[0]) for value in (*got, plain))
