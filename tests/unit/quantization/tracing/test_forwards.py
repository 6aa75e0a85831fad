"""The network that is quantized is the network that was trained, however its forward is written."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from quantization_forwards import REFUSED, WORKING, Net
from quantization_toy import ToyDetector
from torch import Tensor, nn

from hatdet.export.float_graph import trace_float
from hatdet.export.runtimes.parity import check_parity
from hatdet.export.targets.check import check_model
from hatdet.export.targets.table import get_target
from hatdet.export.tflite.int8 import write
from hatdet.integer.executor import IntExecutor
from hatdet.integer.operators.windows.conv import ConvOp
from hatdet.quantization.converters import Float2QAT, ModelConvertPipeline
from hatdet.quantization.detector import QuantizedDetector, quantize_detector
from hatdet.quantization.fuse import fuse_bn
from hatdet.quantization.qat.fx_adapter import prepare, resting, unsupported_operators
from hatdet.quantization.tracing.comparison import difference, run
from hatdet.utils.errors import UserError


def detector(network: nn.Module, x: Tensor) -> ToyDetector:
    model = ToyDetector()
    count = len(run(network, x).outputs)
    model.net, model.output_names = network, tuple(f"out_{i}" for i in range(count))  # type: ignore[assignment]
    return model.eval()


def quantized(network: nn.Module, x: Tensor) -> QuantizedDetector:
    model = detector(network, x)
    fuse_bn(model)
    q = quantize_detector(model, observer="min_max", averaging_constant=0.01, qat_forward="integer").eval()
    q.set_observing(True)
    q.run_network(x)
    q.set_observing(False)
    q.set_quantizing(True)
    return q


@pytest.mark.parametrize("name", WORKING)
def test_forwards_that_are_ordinary_torch(name: str) -> None:
    """In float equal to eager; in integers a graph that computes what the simulation does."""
    torch.manual_seed(0)
    network = Net(WORKING[name]).eval()
    x = torch.rand(2, 3, 96, 32) * 2 - 0.5
    expected = [value.clone() for value in run(network, x).outputs]
    assert unsupported_operators(network) == []
    q = quantized(network, x)
    with resting(q.quantized.trunk):
        found = run(q.quantized.trunk, x).outputs
    assert [difference(a, b) <= 1e-5 for a, b in zip(expected, found, strict=True)] == [True] * len(expected)
    graph = q.int_graph((96, 32))
    shipped = IntExecutor(graph).run_real(x)
    assert all(torch.equal(a, b) for a, b in zip(q.run_network(x), shipped, strict=True))
    assert float(network.calls) == 0.0


@pytest.mark.parametrize("name", REFUSED)
def test_forwards_without_integer_form_are_named(name: str) -> None:
    function, message = REFUSED[name]
    problem = unsupported_operators(Net(function).eval())[0]
    assert re.search(message, str(problem)), str(problem)
    assert "\n" not in str(problem)
    with pytest.raises(UserError, match="has no integer form"):
        prepare(Net(function), "min_max", 0.01, torch.zeros(1, 3, 64, 64))


def image(seed: int = 0) -> Tensor:
    return torch.rand(2, 3, 96, 32, generator=torch.Generator().manual_seed(seed)) * 2 - 0.5


KINDS = {
    "dead code": ["conv", "conv"],
    "auxiliary head": ["conv", "conv"],
    "re-parameterised": ["conv", "conv", "conv"],
    "every dropout": ["conv"],
    "times one": ["conv"],
    "whole map by size": ["conv", "global_average_pool", "conv", "activation", "mul"],
    "whole map by kernel_size": ["conv", "global_average_pool", "mul"],
    "adaptive to another's size": ["conv", "conv", "average_pool", "add"],
    "U-Net": ["conv", "conv", "resize_nearest", "concat"],
    "sizes": ["conv", "conv", "conv", "conv", "resize_bilinear", "resize_nearest", "add", "add"],
    "valid": ["conv", "conv"],
    "the same output twice": ["conv", "conv", "max_pool"],
    "sigmoid of a sigmoid": ["conv", "activation", "requantize", "activation"],
    "two norms": ["conv", "conv", "conv", "conv", "add"],
    "one norm of two maps": ["conv", "conv", "conv", "conv", "conv", "conv", "add"],
    "even same": ["conv", "pad", "conv", "conv", "pad", "conv", "add"],
    "expanded": ["conv", "global_average_pool", "conv", "conv", "mul", "sub", "add", "maximum"],
    "constants behind a convolution": ["conv", "conv"],
    "constants on the left": ["conv", "conv", "conv", "conv", "conv"],
    "constants in tensors": ["conv"],
    "constants of channels": ["conv", "conv", "conv", "add"],
    "layer scale": ["conv", "conv", "add"],
    "constants as arguments": ["conv"],
    "constants of every place": ["conv", "activation", "conv"],
    "constants in front of convolutions": ["conv", "activation", "conv", "conv"],
    "constants in front of a padded convolution": ["conv", "activation", "conv", "conv"],
    "constants in front of groups": ["conv", "activation", "conv"],
    "a factor through ReLU and pooling": ["conv", "conv", "max_pool"],
    "a factor through PReLU": ["conv", "conv", "prelu"],
    "a factor that ReLU does not pass": ["conv", "conv", "conv"],
    "a constant and an output": ["conv", "conv"],
    "one channel to all": ["conv", "conv", "conv"],
    "the image's own normalization": ["conv", "conv"],
    "a limit by maximum": ["conv"],
    "Hardsigmoid in writing": ["conv"],
    "Hardswish in writing": ["conv", "activation"],
    "Hardswish in writing, the gate first": ["conv", "activation"],
    "Hardswish in writing, by methods": ["conv", "activation"],
    "Hardswish in writing, and its parts": ["conv", "conv", "mul", "conv"],
    "Hardswish in writing, another way": ["conv", "activation", "conv", "add"],
    "Hardsigmoid in writing, another way": ["conv", "activation"],
    "GELU in writing": ["conv", "function"],
    "GELU in writing, of a ReLU": ["conv", "function"],
    "Mish in writing": ["conv", "function"],
    "a scale for each level": ["conv", "conv", "conv", "conv", "conv", "conv"],
    "a scale for some levels": ["conv", "conv", "conv", "conv"],
    "a transposed convolution and constants": ["conv", "conv_transpose"],
    "a matrix and a constant": ["conv", "global_average_pool", "conv", "activation", "mul"],
    "what is nearly a GELU": ["conv", "conv", "activation", "mul"],
    "the square": ["conv", "mul", "mul", "add", "mul", "add"],
    "branches at rest": ["conv", "conv", "add", "conv", "mul", "conv", "add"],
}


@pytest.mark.parametrize("name", KINDS)
def test_operators_of_the_integer_graph(name: str) -> None:
    """Nothing that no output needs, and the operators that were meant."""
    q = quantized(Net(WORKING[name]).eval(), image())
    assert [op.kind for op in q.int_graph((96, 32)).ops] == KINDS[name]
    assert not any("aux.aux" in key or "three" in key or "gelu" in key for key in q.state_dict())


def test_valid_and_same_are_paddings_in_numbers() -> None:
    q = quantized(
        Net(lambda net, x: (net.valid(net.stem(x)), net.same(net.stem(x)), net.dilated(net.stem(x)))).eval(), image()
    )
    graph = q.int_graph((96, 32))
    padding = {op.name: op.padding for op in graph.ops if isinstance(op, ConvOp)}
    assert (padding["valid"], padding["same"], padding["dilated"]) == ((0, 0), (1, 1), (2, 2))


@pytest.mark.parametrize("name", ["the same output twice", "the image among the outputs", "SiLU of a sigmoid", "U-Net"])
def test_files_of_unusual_forwards(name: str) -> None:
    pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed")
    q = quantized(Net(WORKING[name]).eval(), image())
    graph = q.int_graph((96, 32))
    p = graph.qparams(graph.inputs[0])
    codes = (torch.round(image(1) / p.scale) + p.zero_point).clamp(-128, 127).to(torch.int8)
    report = check_parity(graph, write(graph), codes, default_kernels=False)
    assert report.ok, report.text()


ALIVE = ["Dropout between convolution and norm", "Identity and DropPath before a norm", "norm without weights"]


@pytest.mark.parametrize("qat_mode", ["fuse_bn", "with_bn"])
@pytest.mark.parametrize("name", [*ALIVE, "re-parameterised", "auxiliary head", "clone, then change"])
def test_training_in_quantized_arithmetic(name: str, qat_mode: str) -> None:
    """QAT trains what was traced in eval mode, and ships what it simulates."""
    torch.manual_seed(0)
    x = image()
    model = detector(Net(WORKING[name]), x)
    expected = run(model.net, x).outputs
    q = ModelConvertPipeline(converters=[Float2QAT()], qat_mode=qat_mode)(model)
    assert isinstance(q, QuantizedDetector)
    with resting(q.quantized.trunk):
        found = run(q.quantized.trunk, x).outputs
    assert all(difference(a, b) <= 1e-5 for a, b in zip(expected, found, strict=True))
    q.train()
    for _ in range(2):
        sum((value**2).mean() for value in q.run_network(x)).backward()  # type: ignore[union-attr]
    assert all(conv.weight.grad is not None for conv in q.quantized.convolutions())
    shipped = IntExecutor(q.eval().int_graph((96, 32))).run_real(x)
    assert all(torch.equal(a, b) for a, b in zip(q.folded().run_network(x), shipped, strict=True))


@pytest.mark.parametrize("name", [*ALIVE, "in place on a copy of the image", "U-Net", "the same output twice"])
def test_float_files_take_the_same_forwards(name: str) -> None:
    graph = trace_float(detector(Net(WORKING[name]), image()), (96, 32))
    assert graph.shapes[graph.outputs[0]][1:] in ((96, 32), (48, 16))


class WithoutParameters(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor]:
        return (F.max_pool2d(F.relu(x), 2),)


def test_a_detector_without_parameters() -> None:
    model = detector(WithoutParameters(), image())
    model.preprocess = lambda img: img.float().div(255.0)  # type: ignore[method-assign]
    q = quantized(model.net, image())
    assert [op.kind for op in q.int_graph((96, 32)).ops] == ["clamp", "max_pool"]
    assert check_model(model, get_target("tflite"), (64, 64)).ok


@pytest.mark.parametrize(
    ("function", "form"),
    [
        (lambda net, x: {"a": net.stem(x)}, "dict"),
        (lambda net, x: ([net.stem(x)], [net.conv(net.stem(x))]), "nested tuple"),
        (lambda net, x: (), "empty tuple"),
    ],
)
def test_outputs_that_are_no_flat_tuple_are_refused(function: Callable[..., Any], form: str) -> None:
    with pytest.raises(UserError, match=f"outputs come as '(nested )?{form}'; a detector's network returns one flat"):
        quantized(Net(function).eval(), image())


def test_tracing_leaves_everything_as_it_was() -> None:
    network = Net(WORKING["memory of a size"]).train()
    network.bn.eval()
    state = {name: value.clone() for name, value in network.state_dict().items()}
    generator = torch.random.get_rng_state()
    assert unsupported_operators(network) == []
    assert network.training and network.conv.training and not network.bn.training
    changed = [name for name, value in network.state_dict().items() if not torch.equal(value, state[name])]
    assert all(name.startswith("rep.fused.") for name in changed)  # its own eval() makes that
    assert torch.equal(generator, torch.random.get_rng_state())
    assert nn.Module.__call__.__name__ == "_wrapped_call_impl"


def test_a_forward_that_an_object_got_is_the_one_that_is_recorded() -> None:
    network = Net(lambda net, x: net.conv(net.relu(net.stem(x)))).eval()
    network.relu.forward = F.relu6  # type: ignore[method-assign, assignment]
    graph = quantized(network, image()).int_graph((96, 32))
    assert [op.kind for op in graph.ops] == ["conv", "conv"]
    assert isinstance(graph.ops[0], ConvOp) and graph.ops[0].activation == "relu6"
    network.conv.forward = lambda x: F.relu(x)  # type: ignore[method-assign, assignment]
    assert unsupported_operators(network) == []


@pytest.mark.parametrize("module", ["conv", "relu", "bn"])
def test_hooks_that_change_values_are_named(module: str) -> None:
    """The integer operator has no hooks: what they do would be lost in silence."""
    network = Net(lambda net, x: net.relu(net.bn(net.conv(net.stem(x))))).eval()
    seen: list[Tensor] = []
    network.get_submodule(module).register_forward_hook(lambda module, given, made: seen.append(made))
    assert unsupported_operators(network) == [] and seen
    network.get_submodule(module).register_forward_pre_hook(lambda module, given: (given[0] * 2,))
    problem = str(unsupported_operators(network)[0])
    assert re.match(rf"{module}: a forward hook changes what the module takes or gives.*; write what the hook", problem)


def test_sizes_that_were_not_recorded_are_refused_in_one_line() -> None:
    def forward(net: Net, x: Tensor) -> Any:
        x = net.stem(x)
        y = net.down(net.down(x))
        return x + F.interpolate(y, scale_factor=4) if x.shape[2] % 4 == 0 else y

    q = quantize_detector(
        detector(Net(forward), torch.zeros(1, 3, 64, 64)), observer="min_max", averaging_constant=0.1,
        qat_forward="integer",
    ).eval()  # fmt: skip
    with pytest.raises(UserError, match="^tracing changes .* at images of 30 x 32, which it does not take: other"):
        q.run_network(torch.rand(1, 3, 30, 32))
