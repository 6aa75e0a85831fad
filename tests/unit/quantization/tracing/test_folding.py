"""Products and sums with constants as weights: the right numbers, and nothing of the network changes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from quantization_forwards import CHANNELS, WORKING, Net
from quantization_toy import ToyDetector
from torch import Tensor, nn

from hatdet.export.onnx.qdq import write_qdq
from hatdet.export.runtimes.parity import check_parity
from hatdet.export.tflite.int8 import write
from hatdet.integer.executor import IntExecutor
from hatdet.quantization.converters import Float2QAT, ModelConvertPipeline
from hatdet.quantization.detector import LiveBnDetector, QuantizedDetector, quantize_detector
from hatdet.quantization.qat.shared_conv import SharedConv2d
from hatdet.quantization.tracing.rewriting.folding import is_as_folded
from hatdet.quantization.tracing.trace import trace
from hatdet.utils.errors import UserError

Forward = Callable[[nn.Module, Tensor], Tensor]


class Small(nn.Module):
    def __init__(self, forward: Forward) -> None:
        super().__init__()
        self.conv, self.after = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 2, 3, padding=1, groups=2)
        self.gain = nn.Parameter(torch.tensor(3.0))
        self.function = forward

    def forward(self, x: Tensor) -> tuple[Tensor]:
        return (self.function(self, x),)


def folded(forward: Forward) -> tuple[Small, nn.Module]:
    torch.manual_seed(0)
    network = Small(forward).eval()
    traced, problems = trace(network)
    assert problems == []
    return network, traced


def weights(traced: nn.Module, path: str) -> tuple[Tensor, Tensor]:
    conv = traced.get_submodule(path)
    assert type(conv) is nn.Conv2d and conv.bias is not None
    return conv.weight, conv.bias


def test_into_the_convolution_before() -> None:
    """3 * (w x + b) * c + 1, with c = 0.5, -1, 2, 0 for the four channels."""
    network, traced = folded(lambda net, x: net.gain * net.conv(x) * CHANNELS + 1)
    factor = torch.tensor([1.5, -3.0, 6.0, 0.0])
    weight, bias = weights(traced, "conv")
    assert torch.equal(weight, network.conv.weight * factor.view(4, 1, 1, 1))
    assert network.conv.bias is not None
    assert torch.equal(bias, (network.conv.bias.double() * factor + 1).float()) and float(bias[3]) == 1.0
    assert [name for name, _ in traced.named_modules() if name] == ["conv"]


def test_into_the_convolution_behind() -> None:
    """A convolution in two groups: channels 0 and 1 go into output 0, channels 2 and 3 into output 1."""
    network, traced = folded(lambda net, x: net.after(torch.sigmoid(net.conv(x)) * CHANNELS))
    weight, bias = weights(traced, "after")
    old = network.after.weight
    assert torch.equal(weight[0, 0], old[0, 0] * 0.5) and torch.equal(weight[0, 1], old[0, 1] * -1)
    assert torch.equal(weight[1, 0], old[1, 0] * 2) and not bool(weight[1, 1].any())
    assert torch.equal(bias, network.after.bias)


def test_a_sum_stays_in_front_of_zeros() -> None:
    """Zeros around the map are not moved by it: a convolution of single pixels adds, and the padding comes later."""
    network, traced = folded(lambda net, x: net.after(torch.sigmoid(net.conv(x)) - 0.25))
    weight, bias = weights(traced, "sub")
    assert weight.flatten().tolist() == [1.0] * 4 and bias.tolist() == [-0.25] * 4
    assert torch.equal(weights(traced, "after")[0], network.after.weight)


def test_a_sum_goes_into_a_convolution_without_padding() -> None:
    network, traced = folded(lambda net, x: net.conv((x - 2) / 4))
    weight, bias = weights(traced, "conv")
    assert torch.equal(weight, network.conv.weight / 4)
    assert torch.allclose(bias, network.conv.bias - network.conv.weight.sum((1, 2, 3)) / 2, atol=1e-6)


def test_a_shared_convolution_stays_shared() -> None:
    """Levels with factors of their own: one weight, and a gain for each; a factor below 0 cannot be a gain."""
    for factor, shared in ((0.5, True), (-0.5, False)):
        network, traced = folded(lambda net, x, f=factor: net.conv(x) * net.gain + net.conv(F.relu(x)) * f)
        first, second = (traced.get_submodule(path) for path in ("conv", "conv@1"))
        assert isinstance(first, SharedConv2d) is shared and (first.weight is second.weight) is shared
        if shared:
            assert isinstance(second, SharedConv2d)
            for conv, gain in ((first, 3.0), (second, 0.5)):
                weight = conv.weight * conv.gain.abs().view(-1, 1, 1, 1)
                assert torch.allclose(weight, network.conv.weight * gain, rtol=1e-6)
                assert torch.allclose(conv.bias, network.conv.bias * gain, rtol=1e-6)  # type: ignore[arg-type, operator]


def test_nothing_of_the_network_changes() -> None:
    network = Small(lambda net, x: net.conv(x) * net.gain).eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    parameters = [id(p) for p in network.parameters()]
    traced = trace(network)[0]
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert [id(p) for p in network.parameters()] == parameters
    assert all(is_as_folded(p) for p in traced.parameters())
    with torch.no_grad():
        traced.get_submodule("conv").weight.mul_(2)  # type: ignore[operator, union-attr]
    assert not is_as_folded(traced.get_submodule("conv").weight)  # type: ignore[arg-type]


def detector(name: str) -> ToyDetector:
    torch.manual_seed(0)
    model = ToyDetector()
    model.net = Net(WORKING[name]).eval()  # type: ignore[assignment]
    model.output_names = ("a", "b", "c", "d")[: len(model.net(torch.rand(1, 3, 64, 64)))]
    return model


EXPORTED = ["constants of channels", "one channel to all", "constants in front of a padded convolution",
            "the image's own normalization", "Hardswish in writing", "the square", "a scale for each level",
            "a transposed convolution and constants"]  # fmt: skip


@pytest.mark.parametrize("name", EXPORTED)
def test_files_and_training(name: str) -> None:
    """Constants train as weights, what ships is what was trained, and the runtimes compute it."""
    pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed")
    q = ModelConvertPipeline(converters=[Float2QAT()])(detector(name))
    assert isinstance(q, QuantizedDetector)
    optimizer = torch.optim.SGD(q.parameters(), 0.01)
    x = torch.rand(2, 3, 64, 64)
    before = [p.detach().clone() for p in q.parameters()]
    for _ in range(2):
        torch.stack([value.square().mean() for value in q.train().run_network(x)]).sum().backward()
        optimizer.step()
    moved = [not torch.equal(a, b) for a, b in zip(before, q.parameters(), strict=True)]
    assert all(moved)
    graph = q.eval().int_graph((64, 64))
    shipped = IntExecutor(graph).run_real(x)
    assert all(torch.equal(a, b) for a, b in zip(q.run_network(x), shipped, strict=True))
    codes = torch.randint(-128, 128, (1, 3, 64, 64), dtype=torch.int8)
    report = check_parity(graph, write(graph), codes, default_kernels=False)
    assert report.ok, report.text()
    assert len(write_qdq(graph)) > 0


def test_live_batch_normalization_keeps_constants_apart() -> None:
    """The float detector is folded again and again: constants stay what they are there, and do not train."""
    q = ModelConvertPipeline(converters=[Float2QAT()], qat_mode="with_bn")(detector("layer scale"))
    assert isinstance(q, LiveBnDetector)
    kinds = [step.kind for step in q.quantized.plan.steps]
    assert kinds == ["conv", "conv", "conv", "add"]
    x = torch.rand(2, 3, 64, 64)
    torch.stack([value.square().mean() for value in q.train().run_network(x)]).sum().backward()
    trains = {step.name: step.module.weight.requires_grad for step in q.quantized.plan.steps if step.kind == "conv"}  # type: ignore[union-attr]
    assert trains == {"stem": True, "conv": True, "mul": False}
    graph = q.eval().int_graph((64, 64))
    assert all(
        torch.equal(a, b)
        for a, b in zip(q.folded().run_network(x), IntExecutor(graph).run_real(x), strict=True)
    )


def test_real_images_are_compared_too() -> None:
    """Weights that folding made are the float network's as long as nothing changes them."""
    q = quantize_detector(
        detector("layer scale"), observer="min_max", averaging_constant=0.01, qat_forward="integer"
    ).eval()
    q.set_observing(True)
    q.quantized.trunk.get_submodule("conv").weight.data.mul_(1.5)  # type: ignore[operator, union-attr]
    with pytest.raises(UserError, match="tracing changes what the network computes, first at output 0"):
        q.run_network(torch.rand(2, 3, 64, 64))
