"""Outputs of 16 bits: trained, evaluated, lowered and run by the runtimes as the same integers."""

from __future__ import annotations

import copy
from functools import partial
from typing import Any

import pytest
import torch
from quantization_toy import ConvBnAct, ToyDetector, ToyNetwork, batch, detector
from torch import Tensor, nn

from hatdet.export.evaluate import TFLiteDetector
from hatdet.export.runtimes.parity import check_parity
from hatdet.export.tflite.int8 import write
from hatdet.integer.executor import IntExecutor
from hatdet.quantization.converters import Float2Calibration, Float2QAT, ModelConvertPipeline, QAT2Int
from hatdet.quantization.detector import QuantizedDetector, quantize_detector
from hatdet.quantization.fuse import fuse_bn
from hatdet.quantization.handover import seed_ranges
from hatdet.quantization.lowering import assert_same_scales
from hatdet.quantization.qat.fake_quant import ActivationFakeQuantize, bits_of
from hatdet.quantization.qat.observers import RangeObserver
from hatdet.utils.checkpoints.checkpoint import load_state
from hatdet.utils.errors import UserError


def quantized(
    model: ToyDetector | None = None, qat_forward: str = "integer", int16_output: bool | None = True, **options: Any
) -> QuantizedDetector:
    model = model or detector()
    fuse_bn(model)
    options = {"observer": "moving_average", **options}
    q = quantize_detector(model, averaging_constant=0.05, qat_forward=qat_forward, int16_output=int16_output, **options)
    q.set_observing(True)
    q.set_quantizing(True)
    return q.train()


def train(q: QuantizedDetector, steps: int) -> None:
    optimizer = torch.optim.SGD(q.parameters(), 1e-3, momentum=0.9)
    for i in range(steps):
        loss = q(batch(i % 4))["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def outputs(q: QuantizedDetector) -> list[Any]:
    return [q.quantized.plan.quantizers[name] for name in q.quantized.plan.outputs]


def test_training_executor_and_runtimes_are_equal() -> None:
    pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed")
    q = quantized()
    start = copy.deepcopy(q.state_dict())
    train(q, 20)
    assert sum(k.endswith("weight") and not torch.equal(start[k], v) for k, v in q.state_dict().items()) == 8
    q.eval()
    images = q.preprocess(batch(99, size=2)["img"])
    with torch.no_grad():
        simulated = q.run_network(images)
    graph = q.int_graph((36, 28))
    assert_same_scales(q.quantized, graph)
    for name, quantizer in zip(graph.outputs, outputs(q), strict=True):
        p, seen = graph.qparams(name), quantizer.activation_post_process
        assert (p.bits, p.zero_point) == (16, 0)
        assert p.scale == pytest.approx(max(-float(seen.min_val), float(seen.max_val)) / 32767, rel=1e-6)
    for backend in ("auto", "float32"):
        shipped = IntExecutor(graph, backend=backend).run_real(images)
        assert all(torch.equal(a, b) for a, b in zip(simulated, shipped, strict=True))
    assert simulated[0].unique().numel() > 2000, "as many levels as 8 bits cannot have"
    p = graph.qparams("images")
    codes = (torch.round(images / p.scale) + p.zero_point).to(torch.int8)
    data = write(graph)
    report = check_parity(graph, data, codes, intermediates=True)
    assert report.ok, report.text()
    file = TFLiteDetector(detector=q.task, model=data, workers=1)
    for a, b in zip(file(batch(99, size=2)), q.evaluation_model()(batch(99, size=2)), strict=True):
        assert all(torch.equal(a[key], b[key]) for key in a)


def test_sixteen_bits_are_finer() -> None:
    """Against the float network, by more than a factor of 10 for the very last rounding."""
    errors = {}
    for wide in (False, True):
        q = quantized(int16_output=wide)
        q(batch(0))
        q.eval()
        real: list[Tensor] = []
        last = [s for s in q.quantized.plan.steps if s.output in q.quantized.plan.outputs]
        for step in last:
            assert step.module is not None
            step.module.register_forward_hook(partial(lambda seen, _m, _i, out: seen.append(out), real))
        q.quantized.qat_forward = "fake_quant"
        with torch.no_grad():
            rounded = list(q.run_network(q.preprocess(batch(0)["img"])))
        real.sort(key=lambda t: -t.shape[2])
        errors[wide] = [float((a - b).abs().mean()) for a, b in zip(rounded, real, strict=True)]
    assert all(b < a / 10 for a, b in zip(errors[False], errors[True], strict=True))


def test_gradients_are_those_of_fake_quantization() -> None:
    q = quantized()
    train(q, 3)
    q.set_observing(False)
    grads: dict[str, dict[str, Tensor]] = {}
    for mode in ("integer", "fake_quant"):
        q.quantized.qat_forward = mode
        q.zero_grad()
        q(batch(1))["loss"].backward()
        grads[mode] = {n: p.grad.clone() for n, p in q.named_parameters() if p.grad is not None}
    for name, a in grads["integer"].items():
        b = grads["fake_quant"][name]
        assert float(torch.cosine_similarity(a.flatten(), b.flatten(), 0)) > 0.99, name
        assert 0.9 < float(a.norm() / b.norm()) < 1.1, name


@pytest.mark.parametrize(("attribute", "setting", "bits"), [(True, None, 16), (True, False, 8), (False, True, 16)])
def test_the_head_asks_and_the_config_decides(attribute: bool, setting: bool | None, bits: int) -> None:
    model = detector()
    model.int16_output = attribute  # type: ignore[assignment]
    pipeline = ModelConvertPipeline(converters=[Float2QAT()], qconfig_params={"int16_output": setting})
    q = pipeline(model)
    assert isinstance(q, QuantizedDetector)
    q.train()(batch(0))
    integer = QAT2Int(image_size=(36, 28))(q.eval())
    assert [integer.graph.qparams(n).bits for n in integer.graph.outputs] == [bits, bits]  # type: ignore[union-attr]
    assert quantized(int16_output=None).quantized.plan.quantizers and outputs(quantized(int16_output=None))[0].bits == 8


def test_calibration_clips_no_output_of_sixteen_bits() -> None:
    """percentile and mse weigh clipping against rounding; 16 bits need no such trade."""
    x = torch.cat([torch.randn(100_000), torch.tensor([40.0])])
    observer = RangeObserver("percentile")
    observer.bits = 16
    observer(x)
    observer.commit()
    scale, zero = observer.calculate_qparams()
    assert float(scale) == pytest.approx(40 / 32767) and int(zero) == 0
    narrow = RangeObserver("percentile")
    narrow(x)
    narrow.commit()
    assert float(narrow.calculate_qparams()[0]) * 255 < 15


def test_a_constant_output_still_lowers() -> None:
    pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed")
    model = detector()
    with torch.no_grad():
        model.net.cls.weight.zero_()  # type: ignore[union-attr, operator]
        model.net.cls.bias.zero_()  # type: ignore[union-attr, operator]
        model.net.reg.weight.mul_(1e-6)  # type: ignore[union-attr, operator]
        model.net.reg.bias.zero_()  # type: ignore[union-attr, operator]
    q = quantized(model)
    q(batch(0))
    q.eval()
    graph = q.int_graph((36, 28))
    codes = torch.zeros(1, 3, 36, 28, dtype=torch.int8)
    report = check_parity(graph, write(graph), codes, default_kernels=False)
    assert report.ok, report.text()


def test_checkpoints_of_other_bits() -> None:
    """Weights of a model with int8 outputs are refused by one with int16 outputs, and the other way round; ranges of a
    calibration are good for both."""
    narrow, wide = quantized(int16_output=False), quantized()
    for q in (narrow, wide):
        q(batch(0))
    with pytest.raises(UserError, match="outputs have 8 bits, this config's have 16: set int16_output=False"):
        load_state(quantized(), narrow.state_dict())
    with pytest.raises(UserError, match="outputs have 16 bits, this config's have 8: set int16_output=True"):
        load_state(quantized(int16_output=False), wide.state_dict())
    same = quantized()
    load_state(same, wide.state_dict())
    images = wide.preprocess(batch(3)["img"])
    for a, b in zip(same.eval().run_network(images), wide.eval().run_network(images), strict=True):
        assert torch.equal(a, b)
    for source, target in ((narrow, quantized()), (wide, quantized(int16_output=False))):
        assert seed_ranges(target, source.state_dict()) > 5
        for quantizer in outputs(target):
            low, high = (
                float(v) for v in (quantizer.activation_post_process.min_val, quantizer.activation_post_process.max_val)
            )
            width = 2 * max(-low, high) if quantizer.bits == 16 else high - low
            assert width / float(quantizer.scale) == pytest.approx(65534 if quantizer.bits == 16 else 255, rel=1e-5)


def test_an_output_that_is_hardly_anything_but_zero_keeps_its_bits() -> None:
    model = detector()
    nn.init.zeros_(model.net.bn1.weight)  # what the last convolution of this branch reads is 0
    nn.init.zeros_(model.net.bn1.bias)
    nn.init.ones_(model.net.reg.weight)
    nn.init.constant_(model.net.reg.bias, 1e-7)
    wide = quantized(model)
    wide(batch(0))
    same = quantized()
    load_state(same, wide.state_dict())
    seeded = quantized()
    seed_ranges(seeded, wide.state_dict())
    for other in (same, seeded):
        assert outputs(other)[1].bits == 16
        assert [float(q.scale) for q in outputs(other)] == pytest.approx([float(q.scale) for q in outputs(wide)])


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("width", [1e-12, 1e-9, 1e-6, 4e-6, 1e-3, 0.4, 0.6, 1e3])
def test_bits_are_told_from_any_range(bits: int, width: float) -> None:
    """Also where the range is so small that the scale is the smallest there is (an untrained network's outputs)."""
    quantizer = ActivationFakeQuantize("min_max")
    if bits == 16:
        quantizer.widen()
    quantizer(torch.tensor([-width / 3, width]))
    quantizer.commit()
    assert bits_of({f"q.{name}": value for name, value in quantizer.state_dict().items()}, "q.") == bits


def test_float_islands_at_the_output() -> None:
    q = quantized(keep_float=["reg"])
    train(q, 2)
    q.eval()
    integer = q.evaluation_model()
    images = q.preprocess(batch(5)["img"])
    with torch.no_grad():
        for a, b in zip(q.run_network(images), integer.run_network(images), strict=True):
            assert torch.equal(a, b)


class Ending(ToyNetwork):
    """The toy with another end."""

    def __init__(self, end: nn.Module, again: bool = False) -> None:
        super().__init__()
        self.end, self.again, self.more = end, again, ConvBnAct(5, 5, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
        cls, reg = super().forward(x)
        return (self.end(cls), self.more(cls), reg) if not self.again else (cls, self.more(cls), reg)


@pytest.mark.parametrize(
    ("end", "again", "message"),
    [
        (nn.Sigmoid(), False, r"an output is made by end, a sigmoid; only convolutions"),
        (nn.MaxPool2d(3, 1, 1), False, r"an output is made by end, a max_pool"),
        (nn.Identity(), True, r"the output of cls is also read by more.conv"),
    ],
)
def test_outputs_that_cannot_have_sixteen_bits_are_named(end: nn.Module, again: bool, message: str) -> None:
    model = detector()
    model.net = Ending(end, again).eval()  # type: ignore[assignment]
    with pytest.raises(UserError, match=message):
        quantized(model)


def test_settings() -> None:
    with pytest.raises(UserError, match="int16_output is 'yes'; use True, False or None"):
        ModelConvertPipeline(converters=[Float2Calibration()], qconfig_params={"int16_output": "yes"})
