"""Float, calibrated, QAT and integer model of one toy detector: what must be equal is equal to the bit."""

from __future__ import annotations

import copy
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from quantization_toy import ToyDetector, batch, detector, train
from torch import nn

from hatdet.integer.executor import IntExecutor
from hatdet.integer.graph import IntGraph
from hatdet.integer.operators.windows.conv import ConvOp
from hatdet.quantization.converters import LoadCheckpoint
from hatdet.quantization.detector import QuantizedDetector, quantize_detector
from hatdet.quantization.fuse import fuse_bn
from hatdet.quantization.handover import seed_ranges
from hatdet.quantization.lowering import assert_same_scales
from hatdet.quantization.normalization import input_quantization
from hatdet.utils.checkpoints.checkpoint import load_checkpoint


def quantized(qat_forward: str = "integer", seed: int = 0) -> QuantizedDetector:
    model = detector(seed)
    fuse_bn(model)
    q = quantize_detector(model, observer="moving_average", averaging_constant=0.01, qat_forward=qat_forward)
    q.set_observing(True)
    q.set_quantizing(True)
    return q


def test_folding_keeps_the_function() -> None:
    model = detector()
    before = model(batch(7))
    assert fuse_bn(model) == 6
    assert not any(isinstance(m, nn.BatchNorm2d) for n, m in model.named_modules() if "bn2" not in n)
    after = model(batch(7))
    assert max(float((a[k] - b[k]).detach().abs().max()) for a, b in zip(before, after, strict=True) for k in a) < 1e-5
    assert fuse_bn(model) == 0


def test_qat_forward_is_the_integer_model_to_the_bit() -> None:
    q = quantized()
    start = copy.deepcopy(q.state_dict())
    losses = train(q, 40)
    assert sum(losses[-4:]) < sum(losses[:4])
    changed = [k for k in start if k.endswith("weight") and not torch.equal(start[k], q.state_dict()[k])]
    assert len(changed) == 8, changed  # every convolution learned
    q.eval()
    other = batch(99, size=3, height=44, width=52)
    simulated, shipped = q(other), q.evaluation_model()(other)
    for a, b in zip(simulated, shipped, strict=True):
        for key in a:
            assert torch.equal(a[key], b[key])
    assert simulated[0]["map0"].unique().numel() > 60


def test_ranges_that_are_frozen_before_the_first_step() -> None:
    """A calibrated model's, in a training so short that it never observes: the weights' scales are there from the
    beginning."""
    calibrated = quantized()
    train(calibrated, 3)
    q = quantized()
    seed_ranges(q, calibrated.state_dict())
    q.set_observing(False)
    q.eval()
    maps = q.run_network(q.preprocess(batch(5)["img"]))
    assert all(m.unique().numel() > 20 for m in maps)


def test_training_forward_is_the_integer_model_too() -> None:
    q = quantized()
    train(q, 3)
    q.set_observing(False)
    q.train()
    seen: list[tuple[torch.Tensor, ...]] = []
    q.quantized.register_forward_hook(lambda _m, _i, out: seen.append(tuple(o.detach().clone() for o in out)))
    q(batch(5))
    shipped = q.evaluation_model().run_network(q.preprocess(batch(5)["img"]))
    assert all(torch.equal(a, b) for a, b in zip(seen[0], shipped, strict=True))


def test_gradients_are_those_of_fake_quantization() -> None:
    """Straight-through gradients of both forwards differ only through their forward's last bit."""
    q = quantized()
    train(q, 3)
    q.set_observing(False)
    grads: dict[str, dict[str, torch.Tensor]] = {}
    for mode in ("integer", "fake_quant"):
        q.quantized.qat_forward = mode
        q.zero_grad()
        q(batch(1))["loss"].backward()
        grads[mode] = {n: p.grad.clone() for n, p in q.named_parameters() if p.grad is not None}
    assert grads["integer"].keys() == grads["fake_quant"].keys() and len(grads["integer"]) == 16
    for name, a in grads["integer"].items():
        b = grads["fake_quant"][name]
        assert float(torch.cosine_similarity(a.flatten(), b.flatten(), 0)) > 0.99, name
        assert 0.9 < float(a.norm() / b.norm()) < 1.1, name


def test_fake_quantization_is_not_the_integer_model() -> None:
    """The reason of the integer forward: torch.ao's simulation gives other codes."""
    q = quantized("fake_quant")
    train(q, 3)
    q.eval()
    with torch.no_grad():
        simulated = q.run_network(q.preprocess(batch(5)["img"]))
    shipped = q.evaluation_model().run_network(q.preprocess(batch(5)["img"]))
    assert any(not torch.equal(a, b) for a, b in zip(simulated, shipped, strict=True))


def test_uint8_pixels_minus_128_are_the_input_codes() -> None:
    q = quantized()
    train(q, 1)
    graph = q.int_graph((36, 28))
    params = graph.qparams("images")
    assert params.zero_point == -128
    pixels = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16).expand(1, 3, 16, 16)
    codes = torch.round(q.preprocess(pixels) / params.scale) + params.zero_point
    assert torch.equal(codes, pixels.float() - 128)


def test_tied_tensors_share_one_quantizer_and_scales_are_the_same_objects() -> None:
    q = quantized()
    train(q, 2)
    graph = q.int_graph((36, 28))
    concats = [op for op in graph.ops if op.kind == "concat"]
    assert len(concats) == 2
    assert assert_same_scales(q.quantized, graph) == len(graph.tensors) + 8
    victim = q.quantized.convolutions()[2].weight_fake_quant
    victim.scale[0] *= 1.0000002
    with pytest.raises(AssertionError, match="weight scales differ"):
        assert_same_scales(q.quantized, graph)


def test_calibration_runs_in_float_and_freezes() -> None:
    model = detector()
    fuse_bn(model)
    reference = copy.deepcopy(model)
    q = quantize_detector(model, observer="min_max", averaging_constant=0.01, qat_forward="integer")
    q.set_observing(True)
    q.set_quantizing(False)
    q.eval()
    with torch.no_grad():
        for i in range(3):
            got, want = q(batch(i)), reference(batch(i))
            assert torch.equal(got[0]["map0"], want[0]["map0"])
    assert q.quantized.calibrated
    q.set_observing(False)
    q.set_quantizing(True)
    frozen = {n: b.clone() for n, b in q.named_buffers()}
    q(batch(9))
    assert all(torch.equal(b, frozen[n]) for n, b in q.named_buffers())


def test_a_dead_channel_keeps_its_bias_in_range() -> None:
    q = quantized()
    conv = q.quantized.convolutions()[0]
    with torch.no_grad():
        conv.weight[3] = 0.0
        conv.bias[3] = 2.0  # type: ignore[index]
    q.train()
    q(batch(0))
    q.eval()
    op = next(op for op in q.int_graph((36, 28)).ops if isinstance(op, ConvOp))
    assert not op.weight[3].any()
    assert op.bias[3] == round(2.0 / (float(op.weight_scale[3]) / 255)) and abs(int(op.bias[3])) < 2**24
    assert torch.equal(q(batch(1))[0]["map0"], q.evaluation_model()(batch(1))[0]["map0"])


def test_uncalibrated_model_is_not_lowered() -> None:
    with pytest.raises(ValueError, match="calibration"):
        quantized().int_graph((36, 28))


@pytest.mark.parametrize(("std", "message"), [([255.0, 254.0, 255.0], "one mean and one std")])
def test_input_normalization_must_be_one_scale(std: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        input_quantization(ToyDetector(std))


class Unsupported(ToyDetector):
    def __init__(self) -> None:
        super().__init__()
        self.net.act = nn.Softmin(1)  # type: ignore[assignment]


def test_an_operator_without_integer_form_is_named() -> None:
    model = Unsupported()
    model.eval()
    fuse_bn(model)
    with pytest.raises(ValueError, match=r"act.*Softmin.*ReLU6"):
        quantize_detector(model, observer="min_max", averaging_constant=0.01, qat_forward="integer")


def test_unknown_forward() -> None:
    with pytest.raises(ValueError, match="integer, fake_quant"):
        quantized("int")


def test_saved_graph_is_the_graph_that_ran(tmp_path: Path) -> None:
    q = quantized()
    train(q, 1)
    integer = q.evaluation_model()
    again = IntGraph.from_state(load_checkpoint(integer.save_artifact(tmp_path))["int_graph"])
    images = q.preprocess(batch(3)["img"])
    for a, b in zip(integer.executor.run_real(images), IntExecutor(again).run_real(images), strict=True):
        assert torch.equal(a, b)


def test_weights_older_than_those_of_the_stage_before_are_reported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """After a new calibration the QAT weights are of the old one: they are used, but not in silence."""
    paths = [str(tmp_path / "qat.pth"), str(tmp_path / "calibration.pth")]
    load = LoadCheckpoint(checkpoint_path=paths)
    for number, path in enumerate(paths):
        torch.save({"state_dict": nn.Linear(2, 2).state_dict()}, path)
        os.utime(path, (1000 - number, 1000 - number))
    load(nn.Linear(2, 2))
    assert not [record for record in caplog.records if record.levelname == "WARNING"]
    os.utime(paths[1], (2000, 2000))
    load(nn.Linear(2, 2))
    assert f"{paths[0]} is older than {paths[1]}" in caplog.text
    for path in paths:  # both say what they were made of: the commands compare that, and a copy's times say nothing
        torch.save({"state_dict": nn.Linear(2, 2).state_dict(), "run": {"version": 1}}, path)
    os.utime(paths[0], (1000, 1000))
    caplog.clear()
    load(nn.Linear(2, 2))
    assert not [record for record in caplog.records if record.levelname == "WARNING"]
