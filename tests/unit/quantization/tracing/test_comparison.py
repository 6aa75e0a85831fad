"""The guard: a network that was rewritten into another one is refused, and the first module is named."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from quantization_toy import ConvBnAct, ToyDetector, ToyNetwork
from torch import Tensor, nn

from hatdet.export.float_graph import trace_float
from hatdet.export.targets.check import check_model
from hatdet.export.targets.table import get_target
from hatdet.quantization.converters import Float2Calibration, ModelConvertPipeline
from hatdet.quantization.detector import quantize_detector
from hatdet.quantization.fuse import fuse_bn
from hatdet.quantization.qat import fx_adapter
from hatdet.quantization.tracing import comparison, two_sizes
from hatdet.quantization.tracing.comparison import compare_networks, difference, run
from hatdet.quantization.tracing.trace import trace
from hatdet.utils.errors import UserError

SETTINGS = dict(observer="min_max", averaging_constant=0.01, qat_forward="integer")


def folded() -> ToyDetector:
    torch.manual_seed(0)
    model = ToyDetector()
    fuse_bn(model.eval())
    return model


def test_a_traced_network_is_the_network() -> None:
    network = folded().net
    traced, problems = trace(network)
    assert problems == []
    assert compare_networks(network, traced, torch.randn(2, 3, 36, 28)) is None


def test_the_first_module_that_differs_is_named() -> None:
    network = folded().net
    traced, _ = trace(network)
    traced.depthwise.activate = nn.ReLU6()
    traced.pool = nn.AvgPool2d(5, 1, 2)
    found = compare_networks(network, traced, torch.randn(2, 3, 36, 28))
    assert found is not None and found.where == "pool" and found.difference > 1e-2
    traced.depthwise.activate = nn.Hardswish()
    found = compare_networks(network, traced, torch.randn(2, 3, 36, 28))
    assert found is not None and found.where == "depthwise.activate"
    assert "first at depthwise.activate: by " in str(found)


def test_a_wrong_value_between_modules_is_found_at_its_reader() -> None:
    network = folded().net
    traced, _ = trace(network)
    nodes = {node.name: node for node in traced.graph.nodes}
    nodes["up"].args = (nodes["down_activate"],)  # past the pooling
    traced.recompile()
    found = compare_networks(network, traced, torch.randn(2, 3, 36, 28))
    assert found is not None and found.where == "up"


def test_other_outputs_and_shapes_differ() -> None:
    network = folded().net

    class First(nn.Module):
        def __init__(self, net: ToyNetwork) -> None:
            super().__init__()
            self.net = net

        def forward(self, x: Tensor) -> Tensor:
            return self.net(x)[0]

    found = compare_networks(network, First(network), torch.randn(1, 3, 32, 32))
    assert found is not None and found.where == "the outputs, 1 of 2"
    assert difference(torch.zeros(1, 2), torch.zeros(2, 1)) == float("inf")


def test_differences_are_shares_of_the_largest_value() -> None:
    a = torch.tensor([4.0, -8.0, 0.0])
    assert difference(a, a + torch.tensor([0.0, 0.5, 0.0])) == 0.0625
    nan, inf = float("nan"), float("inf")
    assert difference(torch.tensor([1.0, nan, inf]), torch.tensor([1.0, nan, inf])) == 0.0
    assert difference(torch.tensor([1.0, nan]), torch.tensor([1.0, 2.0])) == inf


def test_running_leaves_the_network_as_it_was() -> None:
    network = ToyNetwork().train()
    network.a.bn.eval()  # frozen by hand
    before = {name: value.clone() for name, value in network.state_dict().items()}
    run(network, torch.randn(2, 3, 36, 28))
    assert network.training and network.stem.bn.training and not network.a.bn.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


class UnseenBlock(ConvBnAct):
    """Changes its map through memory that nothing else sees."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        torch.from_dlpack(x.detach()).mul_(1.5)
        return self.activate(self.bn(x))


def change_unseen(model: ToyDetector) -> ToyDetector:
    model.net.a.__class__ = UnseenBlock
    return model


def test_quantize_detector_refuses_another_network() -> None:
    with pytest.raises(UserError, match=r"tracing changes what the network computes, first at"):
        quantize_detector(change_unseen(folded()), **SETTINGS)  # type: ignore[arg-type]


@pytest.mark.parametrize("qat_mode", ["fuse_bn", "with_bn"])
def test_the_converters_refuse_another_network(qat_mode: str) -> None:
    model = change_unseen(ToyDetector().eval())
    with pytest.raises(UserError, match="changes what the network computes"):
        ModelConvertPipeline(converters=[Float2Calibration()], qat_mode=qat_mode)(model)


def test_check_model_refuses_another_network() -> None:
    report = check_model(change_unseen(folded()), get_target("tflite"), (64, 64))
    assert not report.ok and "changes what the network computes" in report.text(False)


def test_float_files_refuse_another_network() -> None:
    with pytest.raises(UserError, match="changes what the network computes"):
        trace_float(change_unseen(folded()), (64, 64))


def test_calibration_compares_on_its_first_images() -> None:
    model: Any = folded()
    q = quantize_detector(model, **SETTINGS)  # type: ignore[arg-type]
    q.eval()
    q.set_observing(True)
    q.quantized.trunk.pool = nn.AvgPool2d(5, 1, 2)
    with pytest.raises(UserError, match="tracing changes what the network computes, first at pool: by "):
        q.run_network(torch.rand(1, 3, 36, 28))


def test_calibration_of_other_weights_is_not_compared() -> None:
    """Weights that were loaded into the quantized model alone are no fault of tracing."""
    q = quantize_detector(folded(), **SETTINGS)  # type: ignore[arg-type]
    for convolution in q.quantized.convolutions():
        convolution.weight = nn.Parameter(convolution.weight.detach() * 2)
    q.eval()
    q.set_observing(True)
    q.run_network(torch.rand(1, 3, 36, 28))


def test_folding_is_compared() -> None:
    model = change_unseen(ToyDetector().eval())
    model.net.a.bn.running_mean.fill_(0.5)
    with pytest.raises(UserError, match=r"folding batch norm.* changes what the network computes, first at a"):
        fuse_bn(model)


class Rounding(ToyDetector):
    """Around 100000 float32 has steps of 1 / 128, which the normalization does not make smaller."""

    def __init__(self) -> None:
        super().__init__()
        conv, bn = self.net.a.conv, self.net.a.bn
        self.net.a.conv = nn.Conv2d(conv.in_channels, conv.out_channels, 3, stride=conv.stride, padding=1)  # type: ignore[arg-type]
        nn.init.constant_(self.net.a.conv.bias, 1e5)  # type: ignore[arg-type]
        bn.running_mean.fill_(1e5)


def test_rounding_that_a_network_makes_much_of_is_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model = Rounding().eval()
    assert fuse_bn(model) == 6 and model.net.a.conv.bias.abs().max() < 1
    monkeypatch.setattr(comparison, "_is_rounding", lambda *_: False)
    with pytest.raises(UserError, match="folding batch normalization changes what the network computes, first at a"):
        fuse_bn(Rounding().eval())


def test_a_difference_is_none_of_rounding_because_there_is_some() -> None:
    model = change_unseen(Rounding().eval())
    model.net.a.bn.running_mean.add_(0.5)
    with pytest.raises(UserError, match="changes what the network computes"):
        fuse_bn(model)


def test_a_network_without_a_copy_is_compared_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_: object) -> None:
        raise TypeError("cannot pickle")

    monkeypatch.setattr(comparison.copy, "deepcopy", fails)
    assert fuse_bn(ToyDetector().eval()) == 6
    with pytest.raises(UserError, match="changes what the network computes, first at a"):
        fuse_bn(Rounding().eval())


def test_equal_networks_are_compared_by_their_outputs_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """All maps of a large network on real images are gigabytes: they are kept only to name a module."""
    model, noted = folded(), list[bool]()

    def watched(network: nn.Module, inputs: Tensor, noting: bool = True) -> comparison.Run:
        noted.append(noting)
        return run(network, inputs, noting)

    for module in (comparison, fx_adapter):
        monkeypatch.setattr(module, "run", watched)
    q = quantize_detector(model, **SETTINGS)  # type: ignore[arg-type]
    assert noted == [False] * 3  # the float network once, the traced and the prepared one
    q.eval()
    q.set_observing(True)
    q.run_network(torch.rand(1, 3, 36, 28))
    assert noted == [False] * 5
    assert run(folded().net, torch.rand(1, 3, 36, 28), noting=False).calls == []


def test_a_folded_network_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    model = folded()
    model.net.bn2 = nn.Identity()  # type: ignore[assignment]  # one that nobody calls
    monkeypatch.setattr(two_sizes, "record", None)  # would be called
    assert fuse_bn(model, share=True) == 0
