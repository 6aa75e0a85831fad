"""The analysis names the layer that was spoiled, and its numbers are what their formulas say."""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from quantization_toy import GatedNetwork, ToyDetector, batch
from quantization_toy import detector as trained_detector
from torch import Tensor, nn

from hatdet.integer.executor import IntExecutor
from hatdet.integer.tensors import QuantParams
from hatdet.quantization.analysis.layers import (
    ErrorSums,
    LayerComparison,
    LayerRecord,
    OutputNoise,
    compare_weights,
    count_codes,
    decibels,
)
from hatdet.quantization.analysis.result import LayerRow, build_rows
from hatdet.quantization.analysis.sensitivity import FLOAT, Ablation, IslandCurve, Sensitivity, island_counts
from hatdet.quantization.analysis.stage import StageNetwork
from hatdet.quantization.detector import QuantizedDetector, quantize_detector
from hatdet.quantization.fuse import fuse_bn

SIZE = (36, 28)


@functools.cache
def _trained(seed: int, activation: str | None) -> ToyDetector:
    return trained_detector(seed, (lambda: GatedNetwork(activation)) if activation else None)


def detector(seed: int = 0, activation: str | None = None) -> ToyDetector:
    """A copy: the statistics of its batch norms take a while to gather."""
    return copy.deepcopy(_trained(seed, activation))


def calibrated(
    model: ToyDetector, keep_float: list[str] | None = None, wide: bool = False, arithmetic: str = "tflite_ref"
) -> QuantizedDetector:
    fuse_bn(model)
    q = quantize_detector(
        model, observer="min_max", averaging_constant=0.01, qat_forward="integer", keep_float=keep_float or [],
        int16_output=wide, arithmetic=arithmetic,
    )  # fmt: skip
    q.set_observing(True)
    q.set_quantizing(False)
    with torch.no_grad():
        for i in range(3):
            q(batch(i))
    q.set_quantizing(True)
    return q.eval()


def stage(q: QuantizedDetector, mode: str) -> StageNetwork:
    return StageNetwork(name=mode, model=q, mode=mode, image_size=SIZE)


def analyse(
    reference: StageNetwork, tested: StageNetwork, images: Tensor, sensitive: bool = True
) -> tuple[list[LayerRow], LayerComparison, Sensitivity | None]:
    comparison = LayerComparison(reference, tested)
    comparison.update(images, images)
    sensitivity = Sensitivity() if sensitive else None
    if sensitivity is not None:
        exact: tuple[Tensor, ...] = ()
        for variant, maps in Ablation(tested).variants(images):
            exact = maps if variant == FLOAT else exact
            sensitivity.update(variant, exact, maps)
    rows, _ = build_rows(comparison, sensitivity)
    return rows, comparison, sensitivity


def images(seed: int = 5, **kwargs: Any) -> Tensor:
    return ToyDetector().preprocess(batch(seed, **kwargs)["img"])


@pytest.mark.parametrize("arithmetic", ["tflite_ref", "xnnpack"])
def test_a_stage_in_integers_is_the_model_that_ships(arithmetic: str) -> None:
    """With the kernels of its arithmetic; those of another one give other values of the same scales."""
    q, x = calibrated(detector(), arithmetic=arithmetic), images()
    tested = stage(q, "integer")
    assert tested.model.arithmetic == arithmetic and q.metadata()["profile"] == arithmetic
    values = tested.values(x)
    found = [values[name] for name in q.quantized.plan.outputs]
    graph = q.lowered(SIZE)
    assert all(torch.equal(a, b) for a, b in zip(found, IntExecutor(graph).run_real(x), strict=True))
    graph.metadata["profile"] = {"tflite_ref": "xnnpack", "xnnpack": "tflite_ref"}[arithmetic]
    assert not all(torch.equal(a, b) for a, b in zip(found, IntExecutor(graph).run_real(x), strict=True))


# ------------------------------------------------------------------------------------------------ formulas
def test_sqnr_of_numbers_that_can_be_checked_by_hand() -> None:
    """Signal 3**2 + 4**2 = 25, noise 0.3**2 + 0.4**2 = 0.25: a ratio of 100, which are 20 dB."""
    sums = ErrorSums()
    sums.update(torch.tensor([3.0, 4.0]), torch.tensor([3.3, 3.6]))
    assert sums.sqnr == pytest.approx(20.0, abs=1e-5)
    assert sums.mean == pytest.approx(-0.05, rel=1e-5)
    assert sums.largest == pytest.approx(0.4, rel=1e-5)
    assert sums.cosine == pytest.approx((3 * 3.3 + 4 * 3.6) / (5 * math.sqrt(3.3**2 + 3.6**2)))
    sums.update(torch.tensor([0.0]), torch.tensor([5.0]))  # 25 / 25.25
    assert sums.sqnr == pytest.approx(10 * math.log10(25 / 25.25))


def test_sqnr_at_the_edges() -> None:
    assert decibels(1.0, 0.0) == math.inf and decibels(0.0, 1.0) == -math.inf and math.isnan(decibels(0.0, 0.0))
    equal, empty, silent = ErrorSums(), ErrorSums(), ErrorSums()
    equal.update(torch.ones(3), torch.ones(3))
    assert equal.sqnr == math.inf and equal.cosine == 1.0
    empty.update(torch.zeros(0), torch.zeros(0))
    assert math.isnan(empty.sqnr) and math.isnan(empty.cosine) and math.isnan(empty.mean)
    silent.update(torch.zeros(4), torch.zeros(4))
    assert silent.sqnr == math.inf and silent.cosine == 1.0
    silent.update(torch.zeros(1), torch.ones(1))
    assert silent.sqnr == -math.inf and silent.cosine == 0.0


def test_values_that_are_no_numbers_are_counted_and_left_out() -> None:
    sums = ErrorSums()
    sums.update(torch.tensor([1.0, math.nan, 2.0]), torch.tensor([1.0, 1.0, math.inf]))
    assert (sums.count, sums.not_finite) == (1, 2) and sums.sqnr == math.inf


def test_statistics_of_a_tensor() -> None:
    """Scale 0.5, zero point -128: codes stand for 0 to 127.5; 130 is cut off, -0.2 rounds to 0."""
    layer = LayerRecord(1, "a", "conv", "a", QuantParams(0.5, -128))
    reference = torch.tensor([-0.2, 0.0, 10.0, 130.0]).reshape(1, 2, 2, 1)
    tested = torch.tensor([0.0, 0.0, 10.0, 127.5]).reshape(1, 2, 2, 1)
    layer.update(reference, tested)
    layer.update_own(reference, tested)
    assert (layer.low, layer.high) == (pytest.approx(-0.2), 130.0)
    assert layer.clipped == (0.0, 0.25)
    assert layer.clipping == pytest.approx((130 - 127.75) ** 2)
    assert layer.distinct_codes == 3 and layer.code_span == 256
    assert layer.max_lsb == 5.0
    assert [layer.codes[0], layer.codes[20], layer.codes[255]] == [2, 1, 1]
    assert layer.dead_channels == [] and not layer.constant


def test_codes_are_counted_from_minus_128() -> None:
    counts = count_codes(torch.tensor([[-1.0, 0.0, 0.1, 1.0]]), QuantParams(1.0, 3))
    assert counts.sum() == 4 and counts[3 + 127] == 1 and counts[3 + 128] == 2 and counts[3 + 129] == 1


def test_weights_by_channel() -> None:
    reference = torch.tensor([[3.0, 4.0], [1.0, 0.0], [0.0, 0.0]]).reshape(3, 2, 1, 1)
    tested = torch.tensor([[3.0, 4.5], [0.9, 0.0], [0.0, 0.0]]).reshape(3, 2, 1, 1)
    found = compare_weights(reference, tested)
    assert found.worst_sqnr == pytest.approx(20.0, abs=1e-4) and found.worst_channel in (0, 1)
    assert found.sqnr == pytest.approx(10 * math.log10(26 / 0.26), abs=1e-4)
    assert found.zero_channels == 1 and found.spread == pytest.approx(4.0)


def test_every_output_counts_the_same() -> None:
    noise = OutputNoise()
    noise.update([torch.tensor([1000.0]), torch.tensor([1.0])], [torch.tensor([1100.0]), torch.tensor([1.0])])
    assert noise.ratio == pytest.approx(0.005) and noise.sqnr == pytest.approx(10 * math.log10(200))
    silent = OutputNoise()
    silent.update([torch.zeros(2)], [torch.ones(2)])
    assert math.isnan(silent.ratio)


# ------------------------------------------------------------------------------------------------ stages
@pytest.mark.parametrize("activation", ["ReLU6", "SiLU", "Hardswish", "Sigmoid"])
def test_a_stage_gives_the_values_of_the_real_model(activation: str) -> None:
    float_model = detector(activation=activation)
    x = images()
    with torch.no_grad():
        exact = copy.deepcopy(float_model).net(x)
    q = calibrated(float_model)
    shipped = copy.deepcopy(q).evaluation_model().run_network(x)
    integer, real, simulated = stage(q, "integer"), stage(q, "float"), stage(q, "fake_quant")
    for name, a, b in zip(q.quantized.plan.outputs, shipped, exact, strict=True):
        assert torch.equal(integer.values(x)[name], a)
        assert torch.allclose(real.values(x)[name], b, atol=1e-5 * float(b.abs().max()))
    q.quantized.qat_forward = "fake_quant"
    with torch.no_grad():
        trunk = q.run_network(x)
    for name, a in zip(q.quantized.plan.outputs, trunk, strict=True):
        scale = q.quantized.plan.quantizers[name].scale
        assert torch.allclose(simulated.values(x)[name], a, atol=float(scale) * 1.01)
        assert float((simulated.values(x)[name] != a).float().mean()) < 0.02


def test_a_layer_alone_on_its_own_inputs_is_the_layer_in_the_network() -> None:
    integer = stage(calibrated(detector()), "integer")
    values = integer.values(images())
    for out in integer.steps:
        made, seen = integer.layer(out, values)
        assert torch.equal(made, values[out]), out
        assert all(torch.equal(seen[name], values[name]) for name in seen)


def test_modes_that_are_not_there() -> None:
    q = calibrated(detector())
    with pytest.raises(ValueError, match="float, fake_quant, integer"):
        stage(q, "int")
    fresh = detector()
    fuse_bn(fresh)
    uncalibrated = quantize_detector(fresh, observer="min_max", averaging_constant=0.01, qat_forward="integer")
    with pytest.raises(ValueError, match="no activation ranges"):
        stage(uncalibrated, "integer")
    assert stage(uncalibrated, "float").values(images())
    with pytest.raises(ValueError, match="is not integer"):
        Ablation(stage(q, "float"))


def test_different_networks_are_not_compared() -> None:
    other = calibrated(detector(activation="ReLU"))
    with pytest.raises(ValueError, match="different networks"):
        LayerComparison(stage(calibrated(detector()), "float"), stage(other, "integer"))


# ------------------------------------------------------------------------------------------------ a spoiled layer
def widen(q: QuantizedDetector, value: str, factor: float) -> None:
    quantizer = q.quantized.plan.quantizers[value]
    q.set_observing(False)
    zero = int(quantizer.zero_point)
    quantizer.scale.mul_(factor)
    quantizer.zero_point.fill_(max(-128, min(127, round(-128 + (zero + 128) / factor))) if zero > -128 else zero)


SPOILED = ["a_conv", "depthwise_conv", "shared"]


@pytest.mark.parametrize("value", SPOILED)
@pytest.mark.parametrize("sensitive", [True, False])
@pytest.mark.parametrize(("factor", "kind"), [(16.0, "too_wide"), (1 / 16, "clipped"), (4096.0, "constant")])
def test_a_layer_with_a_spoiled_scale_is_named_first(value: str, sensitive: bool, factor: float, kind: str) -> None:
    q = calibrated(detector())
    step = next(s for s in q.quantized.plan.steps if s.output == value)
    sharing = [s.output for s in q.quantized.plan.steps
               if q.quantized.plan.quantizers[s.output] is q.quantized.plan.quantizers[value]]  # fmt: skip
    assert sharing == [value], "the test needs a tensor with a scale of its own"
    healthy, _, _ = analyse(stage(q, "float"), stage(q, "integer"), images(), sensitive)
    assert not any(a.kind in ("too_wide", "clipped", "constant") for row in healthy for a in row.advice)
    widen(q, value, factor)
    rows, comparison, _ = analyse(stage(q, "float"), stage(q, "integer"), images(), sensitive)
    assert rows[0].name == step.name and rows[0].rank == 1
    assert rows[0].advice[0].kind == kind, rows[0].advice_text
    others = [a.kind for row in rows[1:] for a in row.advice]
    assert kind not in others, "the layers behind it are not to blame"
    reader = next(s for s in q.quantized.plan.steps if value in s.inputs)
    behind = next(layer for layer in comparison.layers if layer.value == reader.output)
    if kind != "constant":  # of a constant nothing can be computed well
        assert behind.own.sqnr > 25 and behind.total.sqnr < behind.own.sqnr - 5


def test_a_layer_that_is_constant_in_float_is_named_first() -> None:
    model = detector()
    fuse_bn(model)
    with torch.no_grad():
        conv = model.net.depthwise.conv
        conv.weight.zero_()
        conv.bias.fill_(0.5)
    rows, _, _ = analyse(*(stage(calibrated(model), mode) for mode in ("float", "integer")), images())
    assert rows[0].name == "depthwise.conv" and rows[0].advice[0].kind == "constant"
    assert "in the float network already" in rows[0].advice_text


def test_dead_channels_are_reported() -> None:
    model = detector()
    fuse_bn(model)
    with torch.no_grad():
        model.net.a.conv.weight[[1, 5]] = 0.0
        model.net.a.conv.bias[[1, 5]] = -1.0
    rows, _, _ = analyse(*(stage(calibrated(model), mode) for mode in ("float", "integer")), images())
    row = next(row for row in rows if row.name == "a.conv")
    assert row.dead_channels == 2
    assert any(a.kind == "dead_channels" and "2 of 16" in a.text and "(1, 5)" in a.text for a in row.advice)


def test_an_outlier_among_the_weights_is_reported() -> None:
    """One weight of 100 among weights of about 0.3: the channel's scale is 0.8 and all others become 0."""
    model = detector()
    fuse_bn(model)
    with torch.no_grad():
        weight = model.net.shared.weight
        for channel in range(0, 24, 2):
            weight[channel] = 0.3 * torch.randn_like(weight[channel])
            weight[channel, 0, 0, 0] = 100.0
    q = calibrated(model)
    rows, _, _ = analyse(stage(q, "float"), stage(q, "integer"), images())
    row = next(row for row in rows if row.name == "shared")
    assert row.weight_noise_share > 0.5 and any(a.kind == "weights" for a in row.advice)


def test_channels_of_very_different_ranges_are_reported() -> None:
    model = detector()
    with torch.no_grad():
        model.net.reg.weight[0] *= 1000.0
    q = calibrated(model)
    rows, _, _ = analyse(stage(q, "float"), stage(q, "integer"), images())
    row = next(row for row in rows if row.name == "reg")
    assert row.channel_spread > 100
    model = detector()
    q = calibrated(model)
    rows, _, _ = analyse(stage(q, "float"), stage(q, "integer"), images())
    assert next(row for row in rows if row.name == "reg").channel_spread < 16


def test_nan_is_named_where_it_begins() -> None:
    model = detector()
    q = calibrated(model)
    with torch.no_grad():
        dict(q.quantized.trunk.named_modules())["depthwise.conv"].bias[2] = math.nan
    reference = stage(q, "float")
    tested = stage(calibrated(detector()), "integer")
    rows, _, _ = analyse(reference, tested, images())
    assert rows[0].name == "depthwise.conv" and rows[0].advice[0].kind == "not_finite"
    assert "in the reference" in rows[0].advice_text


# ------------------------------------------------------------------------------------------------ ablation
def test_ablation_is_what_islands_compute() -> None:
    """Kept float: the graph with that one island. All layers kept: the float network."""
    q = calibrated(detector(activation="SiLU"))
    x, integer = images(), stage(q, "integer")
    ablation = Ablation(integer)
    found = dict(ablation.variants(x))
    assert len(found) == 2 + 2 * len(integer.steps)
    for out in ("a_conv", "depthwise_conv", "cls"):
        expected = ablation.with_islands([out]).run_real(x)
        for a, b in zip(found["kept", out], expected, strict=True):
            assert torch.allclose(a, b, atol=1e-5 * float(b.abs().max()))
    everything = ablation.with_islands(list(integer.steps)).run_real(x)
    for a, b in zip(everything, found[FLOAT], strict=True):
        assert torch.allclose(a, b, atol=1e-4 * float(b.abs().max()))


def test_a_layer_alone_puts_its_own_error_into_the_float_network() -> None:
    q = calibrated(detector())
    x, integer = images(0), stage(q, "integer")  # an image of the calibration: nothing is clipped
    found = dict(Ablation(integer).variants(x, ["reg"]))
    assert set(found) == {FLOAT, ("integer", ""), ("alone", "reg"), ("kept", "reg")}
    assert torch.equal(found["alone", "reg"][0], found[FLOAT][0])  # cls does not depend on reg
    scale = float(q.quantized.plan.quantizers["reg"].scale)
    difference = (found["alone", "reg"][1] - found[FLOAT][1]).abs().max()
    assert 0 < float(difference) < 4 * scale


def test_shares_add_up_and_the_curve_reaches_float() -> None:
    q = calibrated(detector())
    tested = stage(q, "integer")
    _, _, sensitivity = analyse(stage(q, "float"), tested, images())
    assert sensitivity is not None
    shares = sensitivity.shares()
    assert sum(shares.values()) == pytest.approx(1.0) and min(shares.values()) >= 0
    order = sorted(shares, key=lambda out: -shares[out])
    curve = IslandCurve(Ablation(tested), order)
    curve.update(images())
    noise = {count: n.sqnr for count, n in curve.noise.items()}
    assert noise[len(order)] > 80 > noise[1] > sensitivity.integer.sqnr - 3


def test_with_an_island_already_there() -> None:
    q = calibrated(detector(), ["depthwise"])
    rows, _, sensitivity = analyse(stage(q, "float"), stage(q, "integer"), images())
    assert sensitivity is not None and "depthwise_conv" not in sensitivity.alone
    row = next(row for row in rows if row.name == "depthwise.conv")
    assert row.own_sqnr > 100 and math.isnan(row.noise_share)


@pytest.mark.parametrize(
    ("layers", "counts"), [(0, []), (1, [1]), (2, [1, 2]), (3, [1, 2, 3]), (10, [1, 2, 3, 5, 8, 10])]
)
def test_island_counts(layers: int, counts: list[int]) -> None:
    assert island_counts(layers) == counts


@pytest.mark.parametrize("make", [lambda: images(size=1), lambda: torch.zeros(2, 3, 36, 28)])
def test_one_image_and_black_images(make: Callable[[], Tensor]) -> None:
    q = calibrated(detector())
    rows, _, _ = analyse(stage(q, "float"), stage(q, "integer"), make())
    assert len(rows) == len(q.quantized.plan.steps) == len({row.rank for row in rows})


def test_two_floats_with_different_weights() -> None:
    """No scales: ranges, errors and weights are compared all the same."""
    a, b = calibrated(detector(0)), calibrated(detector(0))
    with torch.no_grad():
        conv = dict(b.quantized.trunk.named_modules())["shared"]
        assert isinstance(conv, nn.Conv2d)
        conv.weight.mul_(1.1)
    rows, _, _ = analyse(stage(a, "float"), stage(b, "float"), images(), sensitive=False)
    assert rows[0].name == "shared" and rows[0].weight_sqnr == pytest.approx(20.0, abs=1e-3)
    assert math.isnan(rows[0].scale) and rows[0].zero_point is None and rows[1].own_sqnr == math.inf


def test_lost_ap_comes_first_where_it_is_more_than_chance() -> None:
    q = calibrated(detector())
    comparison = LayerComparison(stage(q, "float"), stage(q, "integer"))
    comparison.update(images(), images())
    ap = {"cls": (0.03, 0.0), "reg": (0.001, 0.0), "stem_conv": (-0.05, 0.0)}
    with_ap, _ = build_rows(comparison, ap=ap)
    without, _ = build_rows(comparison)
    assert with_ap[0].name == "cls" and any(
        a.kind == "sensitive" and "3.00 points" in a.text for a in with_ap[0].advice
    )
    assert [row.name for row in with_ap[1:]] == [row.name for row in without if row.name != "cls"]


def test_outputs_of_16_bits_make_less_noise() -> None:
    """And an island in front of one, or the output itself as an island, is analysed like any other."""
    rows = {}
    for wide in (False, True):
        q = calibrated(detector(), wide=wide)
        found, _, sensitivity = analyse(stage(q, "float"), stage(q, "integer"), images(0))
        assert sensitivity is not None and sum(sensitivity.shares().values()) == pytest.approx(1.0)
        rows[wide] = {row.name: row for row in found}
        shipped, x = q.evaluation_model(), images(0)
        values = stage(q, "integer").values(x)
        for name, a in zip(q.quantized.plan.outputs, shipped.run_network(x), strict=True):
            assert torch.equal(values[name], a)
    for name in ("cls", "reg"):
        assert rows[True][name].own_sqnr > rows[False][name].own_sqnr + 1
        assert rows[True][name].clipped_low == rows[True][name].clipped_high == 0
    q = calibrated(detector(), ["reg", "shared"], wide=True)
    found, _, _ = analyse(stage(q, "float"), stage(q, "integer"), images(0))
    assert {row.name: row for row in found}["reg"].own_sqnr > 80
