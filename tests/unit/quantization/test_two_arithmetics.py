"""One file for two arithmetics: exact in the one that is named first, and equal in the other wherever scales allow."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from quantization_toy import ConvBnAct, GatedNetwork, ToyNetwork, batch, detector, train
from torch import Tensor, nn

from hatdet.export.metadata import build_metadata, file_names
from hatdet.export.runtimes.integer import LiteRTRuntime, to_nhwc
from hatdet.export.runtimes.parity import check_parity
from hatdet.export.tflite.int8 import write
from hatdet.integer.agreement.report import disagreements
from hatdet.integer.agreement.together import arithmetic_named
from hatdet.integer.executor import IntExecutor
from hatdet.integer.graph import IntGraph
from hatdet.integer.profile import NoScale
from hatdet.integer.profiles.table import PROFILES
from hatdet.quantization.converters import Float2Calibration, ModelConvertPipeline
from hatdet.quantization.detector import QuantizedDetector, quantize_detector
from hatdet.quantization.fuse import fuse_bn
from hatdet.quantization.handover import seed_ranges
from hatdet.quantization.loading import LoadCheckpoint
from hatdet.utils.errors import UserError
from tests.helpers.fuzz import SIZE, random_module
from tests.helpers.spellings import Task

Network = Callable[[], nn.Module] | None


class Activated(ToyNetwork):
    """The toy with another activation."""

    def __init__(self, activation: str) -> None:
        super().__init__()
        for module in list(self.modules()):
            if isinstance(module, ConvBnAct):
                module.activate = getattr(nn, activation)()
        self.act = getattr(nn, activation)()


ACTIVATIONS = [pytest.param(partial(Activated, name), marks=pytest.mark.slow) for name in ("SiLU", "Hardswish")]


def quantized(arithmetic: str, network: Network = None, qat_mode: str = "fuse_bn") -> QuantizedDetector:
    settings = {"arithmetic": arithmetic, "activation_calibration_observer": "moving_average"}
    pipeline = ModelConvertPipeline(converters=[Float2Calibration()], qat_mode=qat_mode, qconfig_params=settings)
    q = pipeline(detector(0, network))
    assert isinstance(q, QuantizedDetector)
    q.set_quantizing(True)
    return q


def calibrated(module: nn.Module, arithmetic: str, x: Tensor, outputs: int = 2) -> QuantizedDetector:
    model = Task(module, outputs).eval()
    fuse_bn(model)
    settings: Any = dict(observer="min_max", averaging_constant=0.01, qat_forward="integer", arithmetic=arithmetic)
    q = quantize_detector(model, **settings).eval()
    q.set_observing(True)
    q.run_network(x)
    q.set_observing(False)
    q.set_quantizing(True)
    return q


def codes_of(graph: IntGraph, images: Tensor) -> Tensor:
    params = graph.qparams(graph.inputs[0])
    return (torch.round(images / params.scale) + params.zero_point).clamp(-128, 127).to(torch.int8)


def tensors(graph: IntGraph, codes: Tensor, kernels: str) -> dict[str, np.ndarray]:
    """Every tensor of LiteRT by its name in the graph."""
    pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed")
    found = LiteRTRuntime(write(graph), kernels, keep_tensors=True).run_all(to_nhwc(codes))
    return {own: found[name] for own, name in file_names(graph).items() if name in found}


def differing(graph: IntGraph, codes: Tensor) -> dict[str, int]:
    """How many values of each tensor differ between LiteRT's reference and default kernels."""
    first, other = (tensors(graph, codes, kernels) for kernels in ("reference", "default"))
    return {name: int(np.count_nonzero(first[name] != other[name])) for name in other}


@pytest.mark.parametrize(
    "name, promised, second",
    [("both", "tflite_ref", "xnnpack"), ("xnnpack+tflite_ref", "xnnpack", "tflite_ref"), ("xnnpack", "xnnpack", None)],
)
def test_names(name: str, promised: str, second: str | None) -> None:
    found = arithmetic_named(name)
    assert found.promised is PROFILES[promised] and found.second is (PROFILES[second] if second else None)


@pytest.mark.parametrize("name", ["bot", "tflite_ref+", "xnnpack+xnnpack", "tflite_ref+xnnpack+xnnpack", None, 3])
def test_names_of_none(name: object) -> None:
    with pytest.raises(UserError, match=r"unknown arithmetic .*there are tflite_ref, .*, and two of them"):
        arithmetic_named(name)


@pytest.mark.parametrize("network", [None, *ACTIVATIONS])
@pytest.mark.parametrize("arithmetic", ["both", "xnnpack+tflite_ref"])
def test_trained_in_one_and_equal_in_two(arithmetic: str, network: Network) -> None:
    """Every tensor of the file, under LiteRT's reference and default kernels."""
    q = quantized(arithmetic, network)
    losses = train(q, 6)
    assert sum(losses[-3:]) < sum(losses[:3])
    q.eval()
    images = q.preprocess(batch(99, size=3, height=36, width=28)["img"])
    graph = q.int_graph((36, 28))
    promised = arithmetic_named(arithmetic)
    assert promised.second is not None
    names = {"profile": promised.promised.name, "second_profile": promised.second.name}
    assert names.items() <= build_metadata(graph).items() and names.items() <= q.metadata().items()
    simulated = q.run_network(images)
    assert all(torch.equal(a, b) for a, b in zip(simulated, IntExecutor(graph).run_real(images), strict=True))
    again = q.int_graph((36, 28))
    assert again.tensors == graph.tensors, "lowering moves nothing a second time"
    codes = codes_of(graph, images)
    report = check_parity(graph, write(graph), codes, intermediates=True)
    assert report.ok and report.runtimes == promised.promised.runtimes, report.text()
    assert not disagreements(graph, promised.second) and report.differing_operators == 0
    assert f"second arithmetic {promised.second.name}: all {len(graph.ops)} operators" in report.text()
    assert report.default_differing == 0 and "(the second arithmetic's): 0.0%" in report.text()
    assert not any(differing(graph, codes).values())


def test_made_for_one_most_operators_differ_in_the_other() -> None:
    q = quantized("tflite_ref")
    train(q, 1)
    graph = q.eval().int_graph((36, 28))
    images = q.preprocess(batch(99, size=3, height=36, width=28)["img"])
    assert sum(differing(graph, codes_of(graph, images)).values()) > 100
    convs = {op.name for op in graph.ops if op.kind == "conv"}
    assert {d.name for d in disagreements(graph, PROFILES["xnnpack"])} >= convs


@pytest.mark.slow
def test_of_gates_whose_products_share_a_quantization_hardly_anything_is_left() -> None:
    q = quantized("both", partial(GatedNetwork, "Hardswish"))
    train(q, 2)
    graph = q.eval().int_graph((36, 28))
    found = disagreements(graph, PROFILES["xnnpack"])
    assert {d.kind for d in found} <= {"mul", "requantize"} and all(d.differing / d.total < 0.02 for d in found)
    codes = codes_of(graph, q.preprocess(batch(99, size=2, height=36, width=28)["img"]))
    report = check_parity(graph, write(graph), codes)
    assert report.ok and report.differing_operators == len(found) and all(str(d) in report.text() for d in found[:5])


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 8))])
def test_random_network(seed: int) -> None:
    """All operators: exact in the promised arithmetic; an operator that is not reported gives equal codes of equal
    inputs under both kernels."""
    network = random_module(seed)
    x = torch.rand(2, 3, *SIZE, generator=torch.Generator().manual_seed(seed)) * 4 - 2
    q = calibrated(network, "both", x, len(network.outputs))
    graph = q.int_graph(SIZE)
    assert all(torch.equal(a, b) for a, b in zip(q.run_network(x), IntExecutor(graph).run_real(x), strict=True))
    codes = codes_of(graph, torch.cat([x, torch.where(x > 0, 9.0, -9.0)]))
    report = check_parity(graph, write(graph), codes, intermediates=True)
    assert report.ok, report.text()
    second = graph.second
    assert second is not None
    reported, different = {d.name for d in disagreements(graph, second)}, differing(graph, codes)
    for op in graph.ops:
        if op.name not in reported and not any(different.get(name, 0) for name in op.inputs):
            assert different.get(op.output, 0) == 0, op
    alone = calibrated(random_module(seed), "tflite_ref", x, len(network.outputs)).int_graph(SIZE)
    assert len(reported) < len(disagreements(alone, second))


@pytest.mark.parametrize("promised, second", list(permutations(PROFILES, 2)))
def test_every_pair(promised: str, second: str) -> None:
    """All operators, exact in the promised one, with fewer that differ in the second than without a word of it."""
    x = torch.rand(1, 3, *SIZE, generator=torch.Generator().manual_seed(1)) * 4 - 2
    network = random_module(1)
    q = calibrated(network, f"{promised}+{second}", x, len(network.outputs))
    graph = q.int_graph(SIZE)
    assert graph.profile.name == promised and graph.second is PROFILES[second]
    assert all(torch.equal(a, b) for a, b in zip(q.run_network(x), IntExecutor(graph).run_real(x), strict=True))
    assert q.int_graph(SIZE).tensors == graph.tensors, "lowering moves nothing a second time"
    alone = calibrated(random_module(1), promised, x, len(network.outputs)).int_graph(SIZE)
    assert len(disagreements(graph, PROFILES[second])) < len(disagreements(alone, PROFILES[second]))


def test_live_batch_normalization_folds_into_both() -> None:
    q = quantized("both", qat_mode="with_bn")
    train(q, 2)
    graph = q.eval().int_graph((36, 28))
    assert graph.metadata["second_profile"] == "xnnpack" and not disagreements(graph, PROFILES["xnnpack"])


class Shared(nn.Module):
    """A product with a gate of its input that shares its quantization with that."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.first, self.gate, self.last = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 1), nn.Conv2d(16, 4, 1)
        self.kind, self.silu = kind, nn.SiLU()

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        x = self.first(x)
        gate = self.gate(x)
        if self.kind == "silu":
            y = self.silu(x)
        elif self.kind == "sigmoid":
            y = x * torch.sigmoid(gate)
        else:
            y = nn.functional.hardsigmoid(gate) * x
        other = nn.functional.max_pool2d(x, 3, 1, 1) if self.kind == "pooled" else x
        return self.last(torch.cat([other, y], 1)), nn.functional.max_pool2d(y, 2)


@pytest.mark.parametrize("kind", ["silu", "sigmoid", "pooled"])
def test_gates_that_share_a_quantization(kind: str) -> None:
    """The multiplier is 2**-8 whatever the scales: x is requantized first, where an arithmetic does not take that."""
    x = torch.randn(2, 3, 24, 20, generator=torch.Generator().manual_seed(0))
    for arithmetic in ("xnnpack", "both"):
        graph = calibrated(Shared(kind), arithmetic, x).int_graph((24, 20))
        assert [op.kind for op in graph.ops].count("requantize") == 1
        report = check_parity(graph, write(graph), codes_of(graph, x), intermediates=True)
        assert report.ok, report.text()
    graph = calibrated(Shared(kind), "tflite_ref", x).int_graph((24, 20))
    assert "requantize" not in [op.kind for op in graph.ops]


@pytest.mark.parametrize("made, followed", [("tflite_ref", "xnnpack"), ("tflite_ref", "both"), ("both", "tflite_ref")])
@pytest.mark.parametrize("kind", ["silu", "sigmoid"])
def test_a_state_of_a_network_with_other_changes_of_quantization(
    kind: str, made: str, followed: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Every value keeps its range; what is requantized for a gate begins as it was."""
    x = torch.randn(2, 3, 24, 20, generator=torch.Generator().manual_seed(0))
    source = calibrated(Shared(kind), made, x)
    torch.save({"state_dict": source.state_dict(), "metadata": source.metadata()}, tmp_path / "made.pth.tar")
    for load in (lambda q: LoadCheckpoint(checkpoint_path=str(tmp_path / "made.pth.tar"))(q),
                 lambda q: seed_ranges(q, source.state_dict())):  # fmt: skip
        q = calibrated(Shared(kind), followed, 3.0 * x)
        load(q)
        ranges, before = q.quantized.plan.quantizers, source.quantized.plan.quantizers
        for name in ranges.keys() & before.keys():
            assert float(ranges[name].scale) == pytest.approx(float(before[name].scale), rel=0.04), name
            assert int(ranges[name].zero_point) == int(before[name].zero_point)
        assert {step.kind for step in q.quantized.plan.steps if step.output not in before} <= {"requantize"}
        graph = q.int_graph((24, 20))
        report = check_parity(graph, write(graph), codes_of(graph, x))
        assert report.ok, report.text()
    moved = re.findall(r"(\d) of \d scales.* were moved by up to (\S+) % to suit '(\w+)'", caplog.text)
    most = {"xnnpack": 0.001, "both": 4.0}
    assert [found[::2] for found in moved] == {"both": [("2", "both")], "xnnpack": [("1", "xnnpack")]}.get(followed, [])
    assert all(0.0 < float(percent) < most[followed] for _, percent, _ in moved)
    outputs = zip(source.run_network(x), q.run_network(x), strict=True)
    assert all(float((a - b).detach().abs().max()) < 0.1 * float(a.detach().abs().max()) for a, b in outputs)


@pytest.mark.slow
@pytest.mark.parametrize("made, followed", [("tflite_ref", "xnnpack"), ("xnnpack", "tflite_ref"), ("xnnpack", "both")])
def test_frozen_ranges_of_another_arithmetic(made: str, followed: str) -> None:
    """Scales are moved where they are loaded, so that the file passes; those of the same arithmetic stay."""
    network = partial(GatedNetwork, "SiLU")
    source = quantized(made, network)
    train(source, 3)
    state = source.state_dict()
    same, other = quantized(made, network), quantized(followed, network)
    for q in (same, other):
        q.load_state_dict(state)
        seed_ranges(q, state)
        q.set_observing(False)
    assert all(torch.equal(a.scale, b.scale) for a, b in zip(source.quantized.quantizers(),
               same.quantized.quantizers(), strict=True))  # fmt: skip
    assert same.quantized.settle_loaded() == other.quantized.settle_loaded() == 0
    images = other.preprocess(batch(99, size=2, height=36, width=28)["img"])
    graph = other.eval().int_graph((36, 28))
    report = check_parity(graph, write(graph), codes_of(graph, images))
    assert report.ok and report.runtimes == arithmetic_named(followed).promised.runtimes


def test_a_layer_without_a_scale_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: Any) -> float:
        raise NoScale("no input scale near 0.1 suits a hardswish on x86 and ARM")

    monkeypatch.setattr(type(PROFILES["xnnpack"]), "activation_scale", none)
    q = quantized("xnnpack", partial(GatedNetwork, "Hardswish"))
    message = r"layer '\S+' \(hardswish\) has no quantization in the arithmetic 'xnnpack': .* use relu6 or silu instead"
    with pytest.raises(UserError, match=message):
        train(q, 1)
    q = quantized("both", partial(GatedNetwork, "Hardswish"))
    train(q, 1)
    q.eval().int_graph((36, 28))  # exactness is promised for the other
