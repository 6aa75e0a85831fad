"""Channel attention and the activations that are operators: training, executor and runtimes agree to the bit."""

from __future__ import annotations

import copy
from functools import partial

import pytest
import torch
from quantization_toy import Gate, GatedNetwork, ToyDetector, batch, detector, train
from torch import Tensor, nn

from hatdet.export.runtimes.parity import check_parity
from hatdet.export.tflite.int8 import write
from hatdet.integer.executor import IntExecutor
from hatdet.integer.graph import IntGraph
from hatdet.integer.operators.pointwise.activation_codes import UNIT_INTERVAL
from hatdet.integer.operators.windows.conv import ConvOp
from hatdet.quantization.detector import QuantizedDetector, quantize_detector
from hatdet.quantization.fuse import fuse_bn
from hatdet.quantization.lowering import assert_same_scales
from hatdet.quantization.qat.fx_adapter import QuantizedConv2d

ACTIVATIONS = ("ReLU", "ReLU6", "Hardswish", "SiLU", "Sigmoid", "Tanh")


def quantized(activation: str, qat_forward: str = "integer", observer: str = "moving_average") -> QuantizedDetector:
    model = detector(0, partial(GatedNetwork, activation))
    fuse_bn(model)
    q = quantize_detector(model, observer=observer, averaging_constant=0.01, qat_forward=qat_forward)
    q.set_observing(True)
    q.set_quantizing(True)
    return q


def input_codes(q: QuantizedDetector, graph: IntGraph, images: Tensor) -> Tensor:
    p = graph.qparams(graph.inputs[0])
    return (torch.round(q.preprocess(images) / p.scale) + p.zero_point).clamp(-128, 127).to(torch.int8)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_qat_forward_executor_and_runtimes_are_equal(activation: str) -> None:
    pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed")
    q = quantized(activation)
    start = copy.deepcopy(q.state_dict())
    losses = train(q, 24)
    assert sum(losses[-4:]) < sum(losses[:4])
    changed = [k for k in start if k.endswith("weight") and not torch.equal(start[k], q.state_dict()[k])]
    assert len(changed) == 10, changed  # every convolution learned, those of the gates too
    q.eval()
    other = batch(99, size=2)
    images = q.preprocess(other["img"])
    with torch.no_grad():
        simulated = q.run_network(images)
    graph = q.int_graph((36, 28))
    assert_same_scales(q.quantized, graph)
    codes = input_codes(q, graph, other["img"])
    for backend in ("auto", "float32"):
        shipped = IntExecutor(graph, backend=backend).run_real(images)
        assert all(torch.equal(a, b) for a, b in zip(simulated, shipped, strict=True))
    assert simulated[0].unique().numel() > 60
    gates = [op.output for op in graph.ops if isinstance(op, ConvOp) and graph.qparams(op.output) == UNIT_INTERVAL]
    values = IntExecutor(graph)(codes, keep=True)
    assert all(values[name].unique().numel() > 8 for name in gates) and len(gates) == 2
    report = check_parity(graph, write(graph), codes)
    assert report.ok and len(report.tensors) > 0, report


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_gradients_are_those_of_fake_quantization(activation: str) -> None:
    q = quantized(activation)
    train(q, 3)
    q.set_observing(False)
    grads: dict[str, dict[str, Tensor]] = {}
    for mode in ("integer", "fake_quant"):
        q.quantized.qat_forward = mode
        q.zero_grad()
        q(batch(1))["loss"].backward()
        grads[mode] = {n: p.grad.clone() for n, p in q.named_parameters() if p.grad is not None}
    assert grads["integer"].keys() == grads["fake_quant"].keys() and len(grads["integer"]) == 20
    for name, a in grads["integer"].items():
        b = grads["fake_quant"][name]
        assert float(torch.cosine_similarity(a.flatten(), b.flatten(), 0)) > 0.95, name
        assert 0.9 < float(a.norm() / b.norm()) < 1.1, name


class OneOperator(nn.Module):
    """An input of four channels through a 1x1 convolution and one operator."""

    def __init__(self, operator: str) -> None:
        super().__init__()
        self.conv, self.operator = nn.Conv2d(3, 4, 1), operator
        self.act = {"gate": Gate(4), "mean": nn.AdaptiveAvgPool2d(1)}.get(operator) or getattr(nn, operator)()

    def forward(self, x: Tensor) -> tuple[Tensor]:
        return (self.act(self.conv(x)),)


@pytest.mark.parametrize("operator", ["Hardswish", "SiLU", "Sigmoid", "Hardsigmoid", "mean", "gate"])
def test_gradients_through_one_operator(operator: str) -> None:
    """At one operator's distance the two forwards differ in single codes at most, so the gradients nearly coincide."""
    torch.manual_seed(0)
    network = OneOperator(operator)
    nn.init.normal_(network.conv.weight, std=4.0)
    model = ToyDetector().eval()
    model.net = network  # type: ignore[assignment]
    q = quantize_detector(model, observer="min_max", averaging_constant=0.01, qat_forward="integer")
    q.set_observing(True)
    q.set_quantizing(True)
    q.train()
    images = q.preprocess(batch(0)["img"])
    q.run_network(images)
    q.run_network(images)
    q.set_observing(False)
    grads: dict[str, list[Tensor]] = {}
    maps: dict[str, Tensor] = {}
    for mode in ("integer", "fake_quant"):
        q.quantized.qat_forward = mode
        q.zero_grad()
        (maps[mode],) = q.run_network(images)
        weights = torch.randn(maps[mode].shape, generator=torch.Generator().manual_seed(1)) + 0.5
        (maps[mode] * weights).sum().backward()
        grads[mode] = [p.grad.clone() for p in q.parameters() if p.grad is not None]
    step = float(q.quantized.plan.quantizers[q.quantized.plan.outputs[0]].scale)
    assert (
        float((maps["integer"] - maps["fake_quant"]).detach().abs().max()) < 6.1 * step
    )  # one input code is up to 5 output codes
    assert len(grads["integer"]) == len(grads["fake_quant"]) == (4 if operator == "gate" else 2)
    for a, b in zip(grads["integer"], grads["fake_quant"], strict=True):
        assert float((a - b).norm() / b.norm()) < 0.03


def test_observed_ranges_of_the_integer_forward_are_those_of_the_simulation() -> None:
    """Products and activations report the range of their real output before quantization."""
    ranges = {}
    for mode in ("integer", "fake_quant"):
        q = quantized("SiLU", mode, "min_max")
        train(q, 1)
        q.train()
        q(batch(1))
        plan = q.quantized.plan
        ranges[mode] = {
            s.name: plan.quantizers[s.output].activation_post_process
            for s in plan.steps
            if s.kind in ("mul", "activation")
        }
    assert len(ranges["integer"]) == 8
    for name, a in ranges["integer"].items():
        b = ranges["fake_quant"][name]
        width = float(b.max_val - b.min_val)
        assert abs(float(a.max_val - b.max_val)) < 0.03 * width, name
        assert abs(float(a.min_val - b.min_val)) < 0.03 * width, name


def test_hardsigmoid_is_folded_into_the_convolution() -> None:
    """No operator of its own: the gate's convolution has weight scales of a sixth and an output of 1/256, -128."""
    q = quantized("ReLU")
    train(q, 2)
    graph = q.int_graph((36, 28))
    kinds = [op.kind for op in graph.ops]
    assert kinds.count("conv") == 10 and kinds.count("mul") == 2 and kinds.count("global_average_pool") == 2
    assert "activation" not in kinds
    op = next(op for op in graph.ops if isinstance(op, ConvOp) and op.name.endswith("wide_gate.fc"))
    conv = next(s.module for s in q.quantized.plan.steps if s.name == op.name)
    assert isinstance(conv, QuantizedConv2d) and conv.bias is not None
    real = (conv.bias.detach().double() + 3) / 6
    stored = torch.from_numpy(op.bias * (graph.qparams(op.input).scale * op.weight_scale.astype("float64")))
    assert float((stored - real).abs().max()) < 1e-4
    assert graph.qparams(op.output) == UNIT_INTERVAL and (op.activation, op.lo, op.hi) == ("none", -128, 127)


def test_average_shares_its_quantization() -> None:
    q = quantized("ReLU")
    train(q, 2)
    graph = q.int_graph((36, 28))
    means = [op for op in graph.ops if op.kind == "global_average_pool"]
    assert all(graph.qparams(op.inputs[0]) == graph.qparams(op.output) for op in means)


class WithModule(ToyDetector):
    def __init__(self, **modules: nn.Module) -> None:
        super().__init__()
        for name, module in modules.items():
            setattr(self.net, name, module)


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (nn.AdaptiveAvgPool2d((None, None)), r"pool: AdaptiveAvgPool2d to \(None, None\); give rows and columns of"),
        (nn.Softmin(1), r"pool: Softmin has no integer form; use conv"),
    ],
)
def test_unsupported_operators_are_named(module: nn.Module, message: str) -> None:
    model = WithModule(pool=module).eval()
    fuse_bn(model)
    with pytest.raises(ValueError, match=message):
        quantize_detector(model, observer="min_max", averaging_constant=0.01, qat_forward="integer")


@pytest.mark.parametrize("activation", ["Hardswish", "SiLU"])
def test_a_tensor_that_is_constant_still_lowers(activation: str) -> None:
    """Inputs far below zero give outputs near 0: the output scale stays one that the kernels can compute with."""
    q = quantized(activation, observer="min_max")
    with torch.no_grad():
        stem = q.quantized.convolutions()[0]
        assert stem.bias is not None
        stem.bias.fill_(-60.0)
    train_images = batch(0)
    q.train()
    q(train_images)
    q.eval()
    graph = q.int_graph((36, 28))
    write(graph)
    with torch.no_grad():
        simulated = q.run_network(q.preprocess(train_images["img"]))
    shipped = IntExecutor(graph).run_real(q.preprocess(train_images["img"]))
    assert all(torch.equal(a, b) for a, b in zip(simulated, shipped, strict=True))
