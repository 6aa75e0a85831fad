"""What is not finite is named, by path, wherever it enters: loading, folding, calibrating, lowering, saving."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from quantization_toy import ToyDetector, batch, detector
from torch import Tensor, nn

from hatdet.engine.batch_processors import BasicBatchProcessor
from hatdet.engine.calibrator import Calibrator
from hatdet.integer.graph import IntGraph
from hatdet.quantization.converters import Float2Calibration, FuseBN, LoadCheckpoint, ModelConvertPipeline
from hatdet.quantization.detector import quantize_detector
from hatdet.quantization.fuse import fuse_bn
from hatdet.quantization.handover import seed_ranges
from hatdet.quantization.qat.live_bn import attach_bn
from hatdet.quantization.qat.observers import OBSERVERS, RangeObserver
from hatdet.utils.checkpoints.checkpoint import load_state, save_checkpoint
from hatdet.utils.errors import UserError
from hatdet.utils.finite import NotFinite, describe

NAN, INF = float("nan"), float("inf")


def quantized(model: ToyDetector, observer: str = "min_max") -> Any:
    fuse_bn(model)
    q = quantize_detector(model, observer=observer, averaging_constant=0.05, qat_forward="integer")
    q.set_observing(True)
    q.set_quantizing(False)
    return q.eval()


@pytest.mark.parametrize("value", [NAN, INF, -INF])
def test_loading(tmp_path: Path, value: float) -> None:
    model = detector()
    state = {k: v.clone() for k, v in model.state_dict().items()}
    state["net.a.conv.weight"][1, 2, 0, 0] = value
    path = tmp_path / "float-checkpoint-best.pth.tar"
    save_checkpoint(path, {"state_dict": state})
    before = {k: v.clone() for k, v in model.state_dict().items()}
    kind = "NaN" if value != value else "infinite"
    with pytest.raises(NotFinite, match=f"{path.name} are not finite: net.a.conv.weight: 1 of 2304 values are {kind}"):
        LoadCheckpoint(checkpoint_path=str(path))(model)
    with pytest.raises(NotFinite, match="take an earlier checkpoint"):
        LoadCheckpoint(checkpoint_path=str(path), allow_miss=True, ignore_extra=True, ignore_tensor_shape=True)(model)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_a_number_that_the_models_type_cannot_hold() -> None:
    model = nn.Linear(2, 2)
    state = {"weight": torch.full((2, 2), 1e300, dtype=torch.float64), "bias": torch.zeros(2)}
    with pytest.raises(NotFinite, match="weight: 4 of 4 values are infinite"):
        load_state(model, state)
    load_state(model, {"weight": torch.full((2, 2), 1e30, dtype=torch.float64), "bias": torch.zeros(2)})


def test_loading_a_negative_variance() -> None:
    """It would only come out as NaN where the model is used."""
    model = detector()
    state = {k: v.clone() for k, v in model.state_dict().items()}
    state["net.a.bn.running_var"][2] = -0.25
    with pytest.raises(UserError, match=r"^the file: net\.a\.bn\.running_var has a variance of -0\.25, below 0; take"):
        load_state(model, state)


@pytest.mark.parametrize("fold", [lambda d: fuse_bn(d), lambda d: fuse_bn(d, share=True), attach_bn])
@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("running_var", NAN, r"a\.bn\.running_var: 1 of 16 values are NaN"),
        ("running_mean", INF, r"a\.bn\.running_mean: 1 of 16 values are infinite"),
        ("weight", -INF, r"a\.bn\.weight: 1 of 16 values are infinite"),
        ("running_var", -0.5, r"a\.bn\.running_var: a variance is -0.5"),
        ("weight", 3e38, r"a\.bn folded in are not finite: a\.conv"),
    ],
)
def test_folding(fold: Any, name: str, value: float, message: str) -> None:
    model = detector()
    with torch.no_grad():
        getattr(model.net.a.bn, name)[3] = value
        model.net.a.bn.running_var[3] = min(value, 1e-4) if name == "running_var" else 1e-4
        if value == 3e38:
            model.net.a.conv.weight.mul_(1e3)
    with pytest.raises(UserError, match=message) as caught:
        fold(model)
    assert "\n" not in str(caught.value)


def test_quantizing_weights_without_normalization() -> None:
    model = detector()
    fuse_bn(model)
    with torch.no_grad():
        model.net.cls.bias[1] = NAN  # type: ignore[index]
    with pytest.raises(NotFinite, match=r"cls\.bias: 1 of 5 values are NaN"):
        quantize_detector(model, observer="min_max", averaging_constant=0.05, qat_forward="integer")


@pytest.mark.parametrize("observer", OBSERVERS)
def test_calibrating(observer: str) -> None:
    """The first layer whose output is not finite, though its range is also that of the concatenation behind it."""
    model = detector()
    q = quantized(model, observer)
    with torch.no_grad():
        q.quantized.get_submodule("trunk.pointwise.conv").weight[0, 0] = NAN
    with pytest.raises(NotFinite, match=r"the output of pointwise\.conv has no range") as caught:
        q(batch(0))
    assert "run the calibration" not in str(caught.value)


class Overflow(nn.Module):
    """Finite weights whose products are not."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 1, bias=False), nn.Conv2d(4, 4, 1, bias=False)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return (self.second(self.first(x)),)


def one_output(net: nn.Module) -> ToyDetector:
    model = ToyDetector()
    model.net, model.output_names = net, ("y",)  # type: ignore[assignment]
    return model


def test_a_calibration_in_which_activations_overflow() -> None:
    net = Overflow()
    with torch.no_grad():
        net.first.weight.fill_(1e20)
        net.second.weight.fill_(1e20)
    loop = Calibrator(
        model=one_output(net), data_loader=[batch(0)], device="cpu",
        model_convert_pipeline=ModelConvertPipeline(converters=[FuseBN(), Float2Calibration()]),
        batch_processor=BasicBatchProcessor(need_grad_update=False),
    )  # fmt: skip
    with pytest.raises(NotFinite, match=r"the output of second has no range .* infinite"):
        loop.fit()


def test_dead_layers_are_said(caplog: pytest.LogCaptureFixture) -> None:
    """A layer that shares its range with others is found too; one that lives is not named."""
    model = detector()
    with torch.no_grad():
        model.net.pointwise.bn.weight.fill_(0.0)
        model.net.pointwise.bn.bias.fill_(-3.0)
        model.net.cls.weight.zero_()
        model.net.cls.bias.fill_(0.25)  # type: ignore[union-attr]
    loop = Calibrator(
        model=model, data_loader=[batch(0), batch(1)], device="cpu",
        model_convert_pipeline=ModelConvertPipeline(converters=[FuseBN(), Float2Calibration()]),
        batch_processor=BasicBatchProcessor(need_grad_update=False),
    )  # fmt: skip
    with caplog.at_level(logging.WARNING, logger="hatdet"):
        loop.fit()
    dead = [m for m in caplog.messages if "dead" in m]
    assert dead == [
        "pointwise.conv (conv) is dead: it gives 0 everywhere on all calibration images",
        "cls (conv) is dead: it gives 0.25 everywhere on all calibration images",
    ]


def test_a_range_that_is_not_finite_does_not_count() -> None:
    for method in OBSERVERS:
        observer = RangeObserver(method)
        observer(torch.tensor([1.0, NAN, 2.0] + [0.5] * 20000))
        assert observer.not_finite and not observer.commit()
        observer(torch.tensor([1.0, 2.0, 3.0]))
        observer(torch.tensor([INF]))
        assert not observer.commit() and int(observer.count) == 0
        observer(torch.tensor([1.0, 2.0, 3.0]))
        assert observer.commit() and int(observer.count) == 1


def test_lowering_and_ranges() -> None:
    q = quantized(detector())
    q(batch(0))
    q.set_quantizing(True)
    q.set_observing(False)
    ranges = {k: v.clone() for k, v in q.state_dict().items()}
    key = next(k for k in ranges if k.endswith("max_val"))
    ranges[key].fill_(NAN)
    with pytest.raises(NotFinite, match="ranges of the calibration are not finite"):
        seed_ranges(q, ranges)
    graph = q.int_graph((36, 28)).to_state()
    for entry in graph["ops"]:
        if entry["kind"] == "conv":
            entry["weight_scale"] = entry["weight_scale"].clone()
            entry["weight_scale"][0] = NAN
            break
    with pytest.raises(ValueError, match=r"operator 'stem\.conv' has weight scales that are not finite"):
        IntGraph.from_state(graph)
    with torch.no_grad():
        q.quantized.get_submodule("trunk.down.conv").weight[0, 0, 0, 0] = INF
    with pytest.raises(NotFinite, match=r"down\.conv\.weight: 1 of"):
        q.int_graph((36, 28))


def test_finite_values_whose_sum_is_not() -> None:
    largest = torch.finfo(torch.float32).max
    assert describe(torch.full((4,), largest)) == ""
    assert describe(torch.tensor([largest, largest, INF, -INF])) == "2 of 4 values are infinite"
    assert describe(torch.tensor([INF, -INF, 1.0, NAN])) == "1 of 4 values are NaN"
