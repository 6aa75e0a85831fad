"""Weights of four bits: chosen by name, trained, evaluated, lowered and run by the runtimes as the same integers."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from quantization_toy import ToyDetector, batch, detector
from torch import Tensor

from hatdet.engine.predictor import Predictor
from hatdet.export.calibrate import calibrate
from hatdet.export.runtimes.parity import check_parity
from hatdet.export.tflite.file_operators import read_file
from hatdet.export.tflite.int8 import write
from hatdet.integer.executor import IntExecutor
from hatdet.integer.graph import IntGraph
from hatdet.quantization.analysis.four_bits import choose, first_images
from hatdet.quantization.converters import Float2Calibration, Float2QAT, LoadCheckpoint, ModelConvertPipeline
from hatdet.quantization.detector import QuantizedDetector, quantize_detector
from hatdet.quantization.fuse import fuse_bn
from hatdet.quantization.lowering import assert_same_scales
from hatdet.utils.checkpoints.checkpoint import save_checkpoint
from hatdet.utils.errors import UserError

EDGES = ["stem", "cls", "reg"]


def quantized(model: ToyDetector | None = None, **options: Any) -> QuantizedDetector:
    model = model or detector()
    fuse_bn(model, share=True)
    options = {"observer": "moving_average", "weight_bits": 4, "qat_scales": "auto", **options}
    q = quantize_detector(model, averaging_constant=0.05, qat_forward="integer", **options)
    q.set_observing(True)
    q.set_quantizing(True)
    return q.train()


def train(q: QuantizedDetector, steps: int) -> None:
    optimizer = torch.optim.Adam(q.parameters(), 1e-3)
    for i in range(steps):
        loss = q(batch(i % 4))["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def learned(q: QuantizedDetector) -> dict[str, Tensor]:
    return {name: p for name, p in q.named_parameters() if name.endswith("weight_fake_quant.step")}


def bits(graph: IntGraph) -> dict[str, int]:
    return {op.name: op.weight_bits for op in graph.ops if hasattr(op, "weight_bits")}


@pytest.mark.parametrize("arithmetic", ["tflite_ref", "xnnpack", "both"])
def test_training_executor_and_runtimes_are_equal(arithmetic: str) -> None:
    pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed")
    q = quantized(arithmetic=arithmetic)
    start = copy.deepcopy(learned(q))
    train(q, 12)
    assert len(start) == 8 and sum(not torch.equal(start[k], v) for k, v in learned(q).items()) == 8
    q.eval()
    images = q.preprocess(batch(99, size=2)["img"])
    with torch.no_grad():
        simulated = q.run_network(images)
    graph = q.int_graph((36, 28))
    assert_same_scales(q.quantized, graph)
    assert set(bits(graph).values()) == {4} and max(abs(op.stored[0]).max() for op in graph.ops if op.stored) == 7
    assert graph.metadata["four_bit_layers"] == list(bits(graph))
    for backend in ("auto", "float32"):
        shipped = IntExecutor(graph, backend=backend).run_real(images)
        assert all(torch.equal(a, b) for a, b in zip(simulated, shipped, strict=True))
    p = graph.qparams("images")
    codes = (torch.round(images / p.scale) + p.zero_point).to(torch.int8)
    data = write(graph)
    types = {op.weight.dtype for op in read_file(data).operators if op.weighted}
    assert types == ({"INT4"} if arithmetic == "tflite_ref" else {"INT8"})
    report = check_parity(graph, data, codes, intermediates=True)
    assert report.ok, report.text()


def test_least_squares_loses_less_than_the_largest_weight_would() -> None:
    q = quantized()
    for conv in q.quantized.convolutions():
        quantizer = conv.weight_fake_quant
        weight = conv.weight.detach()
        by_peak = (weight.flatten(1).abs().amax(1) / 7).view(-1, 1, 1, 1)
        codes = torch.round(weight / by_peak).clamp(-7, 7)
        pairs = (codes, by_peak), (quantizer.codes(weight), quantizer.scale.view(-1, 1, 1, 1))
        errors = [float((c * s - weight).square().sum()) for c, s in pairs]
        assert errors[1] < errors[0]


def test_gradients_are_those_of_fake_quantization() -> None:
    q = quantized()
    train(q, 2)
    q.set_observing(False)
    grads: dict[str, dict[str, Tensor]] = {}
    for mode in ("integer", "fake_quant"):
        q.quantized.qat_forward = mode
        q.zero_grad()
        q(batch(1))["loss"].backward()
        grads[mode] = {n: p.grad.clone() for n, p in q.named_parameters() if p.grad is not None}
    assert grads["integer"].keys() == grads["fake_quant"].keys() and learned(q).keys() <= grads["integer"].keys()
    for name, a in grads["integer"].items():
        b = grads["fake_quant"][name]
        assert float(torch.cosine_similarity(a.flatten(), b.flatten(), 0)) > 0.97, name
        assert 0.85 < float(a.norm() / b.norm()) < 1.15, name


def test_layers_are_chosen_by_name() -> None:
    q = quantized(weight_bits=["a", "down.conv", "poi*"])
    four = ["a.conv", "pointwise.conv", "down.conv"]
    assert q.quantized.four_bit_layers == four and q.metadata()["four_bit_layers"] == four
    assert len(learned(q)) == 3 and quantized(weight_bits=8).quantized.four_bit_layers == []
    assert len(learned(quantized(weight_bits=8, qat_scales="learned"))) == 8
    assert not learned(quantized(qat_scales="observed")) and not learned(quantized(weight_bits=8))
    train(q, 1)
    graph = q.eval().int_graph((36, 28))
    assert {name for name, n in bits(graph).items() if n == 4} == set(four)
    eight = quantized(weight_bits=8)
    train(eight, 1)
    saved = eight.eval().int_graph((36, 28)).weight_bytes - graph.weight_bytes
    assert saved == (16 * 16 * 9 + 16 * 16 + 32 * 24 * 9) // 2
    with pytest.raises(UserError, match="no layer with weights is named 'dwon'; did you mean 'down"):
        quantized(weight_bits=["dwon"])
    with pytest.raises(UserError, match="no layer with weights is named 'pool'"):
        quantized(weight_bits=["pool"])


@pytest.mark.parametrize("value", [2, "four", True, 4.0, [4], None])
def test_other_values_are_refused(value: Any) -> None:
    with pytest.raises(UserError, match="weight_bits is .*; use 8, 4, a list"):
        ModelConvertPipeline(converters=[Float2QAT()], qconfig_params={"weight_bits": value})
    with pytest.raises(UserError, match="qat_scales is 'lsq'; use one of auto, observed, learned"):
        ModelConvertPipeline(converters=[Float2QAT()], qconfig_params={"qat_scales": "lsq"})


def pipeline(converter: Any, **params: Any) -> QuantizedDetector:
    model = ModelConvertPipeline(converters=[converter], qconfig_params=params)(detector())
    assert isinstance(model, QuantizedDetector)
    return model


def stored(folder: Path, name: str, model: QuantizedDetector) -> str:
    path = folder / f"{name}.pth.tar"
    save_checkpoint(path, {"state_dict": model.state_dict(), "metadata": model.metadata()})
    return str(path)


def test_stages_take_over_what_was_calibrated_and_trained(tmp_path: Path) -> None:
    four = ["a", "down"]
    calibrated = pipeline(Float2Calibration(), weight_bits=four)
    calibrated.eval()(batch(0))
    assert not learned(calibrated)
    ranges = stored(tmp_path, "calibration", calibrated)
    trained = pipeline(Float2QAT(calibration_checkpoint=ranges), weight_bits=four)
    assert len(learned(trained)) == 2
    for a, b in zip(trained.quantized.convolutions(), calibrated.quantized.convolutions(), strict=True):
        assert torch.allclose(a.weight_fake_quant.scale, b.weight_fake_quant.scale, rtol=1e-6)
    train(trained.train(), 3)
    after = stored(tmp_path, "qat", trained)
    for source, other in ((ranges, calibrated), (after, trained)):
        for scales in ("auto", "observed", "learned"):
            shipped = LoadCheckpoint(checkpoint_path=source)(pipeline(Float2QAT(), weight_bits=four, qat_scales=scales))
            graphs = [m.eval().int_graph((36, 28)) for m in (shipped, other)]  # type: ignore[operator]
            assert write(graphs[0]) == write(graphs[1]), (source, scales)
    for wrong in (8, 4, ["a"]):
        with pytest.raises(UserError, match=r"qat.pth.tar has weights of 4 bits in 2 layers \(a.conv, down.conv\)"):
            LoadCheckpoint(checkpoint_path=after)(pipeline(Float2QAT(), weight_bits=wrong))


def test_what_calibration_chose_is_taken_from_its_checkpoint(tmp_path: Path) -> None:
    chosen = pipeline(Float2Calibration(), weight_bits="auto")
    assert chosen.quantized.undecided and not chosen.quantized.four_bit_layers
    chosen.quantized.decide(["a.conv"])
    chosen.eval()(batch(0))
    ranges = stored(tmp_path, "calibration", chosen)
    trained = pipeline(Float2QAT(calibration_checkpoint=ranges), weight_bits="auto")
    assert trained.quantized.four_bit_layers == ["a.conv"] and len(learned(trained)) == 1
    shipped: Any = LoadCheckpoint(checkpoint_path=ranges)(pipeline(Float2QAT(), weight_bits="auto"))
    assert shipped.quantized.four_bit_layers == ["a.conv"]
    with pytest.raises(UserError, match="weight_bits='auto' is decided by the calibration, and there is no .*absent"):
        pipeline(Float2QAT(calibration_checkpoint=str(tmp_path / "absent")), weight_bits="auto")


def test_batch_norms_that_stay_alive_have_observed_scales() -> None:
    params: dict[str, Any] = {"weight_bits": ["a", "down"]}
    model = ModelConvertPipeline(converters=[Float2QAT()], qat_mode="with_bn", qconfig_params=params)
    q: Any = model(detector())
    q.train()
    train(q, 2)
    assert not learned(q)
    assert {n for n, b in bits(q.eval().int_graph((36, 28))).items() if b == 4} == {"a.conv", "down.conv"}
    with pytest.raises(UserError, match="qat_scales='learned' needs folded batch norms"):
        params = {"qat_scales": "learned"}
        ModelConvertPipeline(converters=[Float2QAT()], qat_mode="with_bn", qconfig_params=params)(detector())


def calibrated(**params: Any) -> QuantizedDetector:
    q = pipeline(Float2Calibration(), **params)
    q.eval()(batch(0))
    q.set_observing(False)
    q.set_quantizing(True)
    return q


def test_the_budget_is_met_by_the_layers_that_cost_least_for_a_byte(caplog: pytest.LogCaptureFixture) -> None:
    eight = calibrated().int_graph((36, 28)).weight_bytes
    everything = calibrated(weight_bits=4).int_graph((36, 28)).weight_bytes
    chosen = {}
    for budget in (0.9, 0.6, 0.7 * eight, everything):
        q = calibrated(weight_bits="auto", flash_budget=budget)
        state = {name: value.clone() for name, value in q.state_dict().items() if name.endswith(("weight", "bias"))}
        assert q.undecided
        with caplog.at_level("INFO", logger="hatdet"):
            q.decide([batch(1)["img"]])
        assert not q.undecided and all(torch.equal(q.state_dict()[name], value) for name, value in state.items())
        made = q.int_graph((36, 28)).weight_bytes
        assert made <= (budget * eight if budget <= 1 else budget) and f"{made} of {eight} bytes" in caplog.text
        chosen[budget] = q.quantized.four_bit_layers
    assert set(chosen[0.9]) < set(chosen[0.6]) and len(chosen[everything]) == 8
    found = choose(calibrated(weight_bits="auto").quantized, calibrated().preprocess(batch(1)["img"]), 0.9)
    costs = [c.noise / c.saved for c in found.candidates]
    assert costs == sorted(costs) and costs[0] > 0 and list(found.candidates[0].names) == chosen[0.9][:1]
    with pytest.raises(
        UserError, match=f"flash_budget=100 means 100 bytes.*they are {everything} of {eight}: raise it"
    ):
        calibrated(weight_bits="auto", flash_budget=100).decide([batch(1)["img"]])
    for wrong in (0, -3, "60%", True):
        with pytest.raises(UserError, match="flash_budget is .*; use a number of bytes"):
            calibrated(weight_bits="auto", flash_budget=wrong)


def test_live_batch_norms_count_as_the_biases_that_they_become() -> None:
    params: dict[str, Any] = {"weight_bits": "auto", "flash_budget": 0.7}
    chosen = []
    for mode in ("fuse_bn", "with_bn"):
        made = ModelConvertPipeline(converters=[Float2Calibration()], qat_mode=mode, qconfig_params=params)(detector())
        q: Any = made.eval()
        q(batch(0))
        q.set_observing(False)
        q.set_quantizing(True)
        found = choose(q.quantized, q.preprocess(batch(1)["img"]), 0.7)
        q.decide([batch(1)["img"]])
        assert found.after == q.int_graph((36, 28)).weight_bytes
        chosen.append((found.layers, found.before))
    assert chosen[0] == chosen[1] and chosen[0][0]


def test_nothing_is_trained_or_lowered_before_layers_are_chosen() -> None:
    """It would silently have 8 bits everywhere."""
    uses: list[Any] = [lambda q: q.train()(batch(0)), lambda q: q.int_graph((36, 28)), lambda q: q.folded().lowered()]
    for mode in ("fuse_bn", "with_bn"):
        for use in uses:
            q = ModelConvertPipeline(converters=[Float2QAT()], qat_mode=mode, qconfig_params={"weight_bits": "auto"})
            with pytest.raises(UserError, match="weight_bits='auto' is decided by the calibration.*give Float2QAT its"):
                use(q(detector()))


def test_images_are_joined_from_batches_and_those_of_another_size_are_passed_over() -> None:
    batches = [torch.zeros(2, 3, side, 8) for side in (8, 6, 8, 8)]
    assert first_images(iter(batches), 3).shape == (3, 3, 8, 8) and len(first_images(batches, 99)) == 6


def test_a_file_of_float_weights_is_chosen_for_by_batches_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    module = "hatdet.quantization.detector.choose"
    monkeypatch.setattr(module, lambda network, img, budget: (seen.append(len(img)), choose(network, img, budget))[1])
    ones = [{"img": batch(0)["img"][:1]} for _ in range(12)]
    calibrate(detector(), ones, 10, settings={"weight_bits": "auto", "flash_budget": 0.7})
    calibrate(detector(), ones, 3, settings={"weight_bits": "auto", "flash_budget": 0.7})
    assert seen == [8, 3]


def test_a_file_of_float_weights_is_chosen_for_too() -> None:
    model, seen = calibrate(detector(), [batch(0)], 2, settings={"weight_bits": "auto", "flash_budget": 0.7})
    assert seen == 2 and not model.undecided and 0 < len(model.quantized.four_bit_layers) < 8


def test_training_begins_with_the_scales_that_calibration_rounded_for(tmp_path: Path) -> None:
    """AdaRound moves weights to codes of the calibrated scales, which by least squares might be others."""
    params = {"weight_bits": ["a", "down"], "weight_rounding": "adaround"}
    q = calibrated(**params)
    q.refine(lambda: [batch(0)])
    for conv in q.quantized.convolutions():
        conv.weight_fake_quant.scale *= 1.0 if conv.weight_fake_quant.bits == 8 else 1.25
    graph = q.int_graph((36, 28))
    trained = pipeline(Float2QAT(calibration_checkpoint=stored(tmp_path, "calibration", q)), **params)
    begun = trained.eval().int_graph((36, 28))
    for a, b in zip(graph.ops, begun.ops, strict=True):
        if a.name in ("a.conv", "down.conv"):
            assert all((x == y).all() for x, y in zip(a.stored, b.stored, strict=True)), a.name


def test_predictors_of_stages_follow_their_checkpoints(tmp_path: Path) -> None:
    """They load without a LoadCheckpoint among their converters."""
    q = calibrated(weight_bits=["a"])
    path = stored(tmp_path, "calibration", q)

    def predictor(weight_bits: Any) -> Predictor:
        steps = ModelConvertPipeline(converters=[Float2Calibration()], qconfig_params={"weight_bits": weight_bits})
        return Predictor(
            model=detector(), data_loader=[], val_metrics=None, model_convert_pipeline=steps, checkpoint_path=path
        )

    made: Any = predictor("auto").prepare()
    made.eval().to("cpu")
    assert made.quantized.four_bit_layers == ["a.conv"]
    assert write(made.int_graph((36, 28))) == write(q.int_graph((36, 28)))
    with pytest.raises(UserError, match="has weights of 4 bits in 1 layer .a.conv., this config in no layer"):
        predictor(8).prepare()
