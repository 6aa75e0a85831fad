"""Layers kept in float: by name, in every stage, and never in a file."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from quantization_toy import GatedNetwork, ToyDetector, batch, detector
from torch import Tensor, nn

from hatdet.export.tflite import int8 as tflite
from hatdet.integer.executor import IntExecutor
from hatdet.integer.graph import IntGraph
from hatdet.integer.islands import IslandExecutor, executor_for
from hatdet.integer.operators.island import FloatOp
from hatdet.integer.operators.windows.conv import ConvOp
from hatdet.quantization.converters import Float2QAT, FuseBN, ModelConvertPipeline
from hatdet.quantization.detector import QuantizedDetector, quantize_detector
from hatdet.quantization.fuse import fuse_bn
from hatdet.quantization.qat.islands import QuantizeReal
from hatdet.utils.checkpoints.checkpoint import load_checkpoint
from hatdet.utils.errors import UserError

ACTIVATIONS = ["ReLU6", "ReLU", "Hardswish", "SiLU", "Sigmoid"]


def quantized(model: ToyDetector, keep_float: list[str], qat_forward: str = "integer") -> QuantizedDetector:
    fuse_bn(model)
    q = quantize_detector(
        model, observer="min_max", averaging_constant=0.01, qat_forward=qat_forward, keep_float=keep_float
    )
    q.set_observing(True)
    q.set_quantizing(False)
    with torch.no_grad():
        for i in range(3):
            q(batch(i))
    q.set_observing(False)
    q.set_quantizing(True)
    return q.eval()


def maps(model: nn.Module, images: Tensor) -> tuple[Tensor, ...]:
    with torch.no_grad():
        return model.run_network(model.preprocess(images))  # type: ignore[operator, no-any-return]


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("mode", ["int_infer", "integer", "fake_quant"])
def test_every_layer_kept_float_is_the_float_network(activation: str, mode: str) -> None:
    model = detector(network=lambda: GatedNetwork(activation))
    images = batch(9, size=2)["img"]
    with torch.no_grad():
        expected = copy.deepcopy(model).net(model.preprocess(images))
    q = quantized(model, ["*"], "fake_quant" if mode == "fake_quant" else "integer")
    found = maps(q.evaluation_model() if mode == "int_infer" else q, images)
    for a, b in zip(found, expected, strict=True):
        assert float((a - b).abs().max()) < 1e-4 * max(1.0, float(b.abs().max()))
        assert float(b.abs().max()) > 0.1


def test_an_island_between_integers_is_dequantized_computed_and_quantized() -> None:
    """By hand, for one convolution in the middle: its float result, from the codes before it, on the next grid."""
    plain, island = quantized(detector(), []), quantized(detector(), ["depthwise"])
    assert island.quantized.islands == {"depthwise_conv"}
    images = plain.preprocess(batch(4)["img"])
    graph = island.int_graph((36, 28))
    codes = (images * 255).round().sub(128).to(torch.int8)
    without = IntExecutor(plain.int_graph((36, 28)))(codes, keep=True)
    with_island = IslandExecutor(graph)(codes, keep=True)
    before = next(op for op in graph.ops if op.name == "depthwise.conv").inputs[0]
    assert torch.equal(without[before], with_island[before])  # nothing before it changes
    px, py = graph.qparams(before), graph.qparams("depthwise_conv")
    real = (without[before].float() - px.zero_point) * px.scale
    conv = dict(plain.quantized.trunk.named_modules())["depthwise.conv"]
    expected = nn.functional.relu6(nn.functional.conv2d(real, conv.weight, conv.bias, padding=2, groups=16))
    rounded = torch.round(expected / py.scale).add(py.zero_point).clamp(-128, 127).to(torch.int8)
    assert int((with_island["depthwise_conv"].int() - rounded.int()).abs().max()) <= 1  # float sums differ in order
    assert float((with_island["depthwise_conv"] != rounded).float().mean()) < 1e-3
    assert not torch.equal(without["depthwise_conv"], with_island["depthwise_conv"])
    assert with_island["depthwise_conv"].unique().numel() > 40


def test_without_islands_the_executor_and_the_numbers_are_the_same() -> None:
    q = quantized(detector(), [])
    graph = q.int_graph((36, 28))
    assert type(executor_for(graph)) is IntExecutor
    images = q.preprocess(batch(4)["img"])
    for backend in ("auto", "float32"):
        mixed, exact = IslandExecutor(graph, backend=backend), IntExecutor(graph, backend=backend)
        for a, b in zip(mixed.run_real(images), exact.run_real(images), strict=True):
            assert torch.equal(a, b)


@pytest.mark.parametrize("keep_float", [["reg"], ["stem", "down"], ["a", "depthwise", "pointwise"], ["cat*", "pool"]])
def test_training_with_islands_learns_and_evaluates_what_it_trained(keep_float: list[str]) -> None:
    q = quantized(detector(), keep_float)
    q.set_observing(True)
    q.train()
    before = {n: p.detach().clone() for n, p in q.named_parameters()}
    optimizer = torch.optim.SGD(q.parameters(), 1e-3, momentum=0.9)
    losses = []
    for i in range(24):
        loss = q(batch(i % 4))["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert sum(losses[-4:]) < sum(losses[:4])
    assert all(not torch.equal(before[n], p) for n, p in q.named_parameters() if n.endswith("weight"))
    q.eval()
    images = batch(6)["img"]
    for a, b in zip(maps(q, images), maps(q.evaluation_model(), images), strict=True):
        # the float part may differ in its last bits, which now and then moves a code
        assert float((a - b).abs().mean()) < 1e-3 * float(b.abs().max())


def test_ranges_of_islands_are_observed_in_training() -> None:
    q = quantized(detector(), ["depthwise"])
    quantizer = q.quantized.plan.quantizers["depthwise_conv"]
    q.set_observing(True)
    q.train()
    count = int(quantizer.activation_post_process.count)
    q(batch(1))
    assert int(quantizer.activation_post_process.count) == count + 1


def test_gradient_of_the_quantization_stops_where_codes_are_clamped() -> None:
    from hatdet.integer.tensors import QuantParams

    x = torch.tensor([-20.0, -12.7, 0.3, 12.7, 20.0], requires_grad=True)
    params = QuantParams(float(torch.tensor(0.1)), 0)
    codes = QuantizeReal.apply(x, params)
    assert codes.tolist() == [-128, -127, 3, 127, 127]
    codes.sum().backward()
    assert x.grad is not None
    assert torch.allclose(x.grad, torch.tensor([0.0, 10.0, 10.0, 10.0, 0.0]))


def test_a_saved_graph_keeps_its_islands(tmp_path: Path) -> None:
    q = quantized(detector(network=lambda: GatedNetwork("SiLU")), ["wide_gate", "a"])
    integer = q.evaluation_model()
    again = IntGraph.from_state(load_checkpoint(integer.save_artifact(tmp_path))["int_graph"])
    assert again.islands == integer.graph.islands and len(again.islands) >= 3
    images = q.preprocess(batch(3)["img"])
    for a, b in zip(integer.executor.run_real(images), executor_for(again).run_real(images), strict=True):
        assert torch.equal(a, b)


def test_a_graph_with_islands_is_not_exported(tmp_path: Path) -> None:
    graph = quantized(detector(), ["reg", "cls"]).int_graph((36, 28))
    assert [op.name for op in graph.ops if isinstance(op, FloatOp)] == ["cls", "reg"]
    assert sum(isinstance(op, ConvOp) for op in graph.ops) == 6
    with pytest.raises(UserError, match=r"keep_float leaves cls, reg in float.*\.tflite file.*keep_float=\[\]"):
        tflite.write(graph, tmp_path / "model.tflite")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "message"),
    [("depthwize", "did you mean 'depthwise'"), ("regs", "'reg'"), ("qqqqqqq", "layers are e.g. stem.conv")],
)
def test_an_unknown_name_is_refused_with_the_near_ones(name: str, message: str) -> None:
    with pytest.raises(UserError, match=f"no layer is named '{name}'.*{message}"):
        quantized(detector(), [name])


def test_the_pipeline_passes_the_names_on() -> None:
    convert = ModelConvertPipeline(converters=[FuseBN(), Float2QAT()], qconfig_params={"keep_float": ["reg", "st*"]})
    q = convert(detector())
    assert isinstance(q, QuantizedDetector) and q.quantized.islands == {"reg", "stem_conv"}
    with pytest.raises(UserError, match="it is a list of layer names"):
        ModelConvertPipeline(converters=[Float2QAT()], qconfig_params={"keep_float": "reg"})
