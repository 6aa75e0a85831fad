"""qat_mode="with_bn": batch normalization trains on, and what is evaluated is the folded integer model."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from quantization_toy import ToyDetector, batch, detector, train
from torch import Tensor, nn

from hatdet.export.runtimes.parity import check_parity
from hatdet.export.tflite.int8 import write
from hatdet.quantization.converters import (
    Float2Calibration,
    Float2QAT,
    FuseBN,
    ModelConvertPipeline,
    QAT2Int,
)
from hatdet.quantization.detector import LiveBnDetector, QuantizedDetector
from hatdet.quantization.fuse import fuse_bn
from hatdet.quantization.handover import seed_ranges
from hatdet.quantization.integer_detector import IntegerDetector
from hatdet.quantization.qat.live_bn import BnConv2d, attach_bn, folded_copy
from hatdet.quantization.qat.shared_conv import SharedConv2d
from hatdet.utils.checkpoints.checkpoint import load_state, snapshot
from hatdet.utils.errors import UserError
from tests.helpers.rtmdet import build_rtmdet


def pipeline(*converters: Any) -> ModelConvertPipeline:
    return ModelConvertPipeline(qat_mode="with_bn", converters=[FuseBN(), *converters])


def live(model: nn.Module | None = None) -> LiveBnDetector:
    q = pipeline(Float2QAT(averaging_constant=0.05))(model or detector())
    assert isinstance(q, LiveBnDetector)
    return q.train()


def norms(q: nn.Module) -> list[nn.BatchNorm2d]:
    return [m for m in q.modules() if isinstance(m, nn.BatchNorm2d)]


def maps(model: Any, seed: int = 7) -> list[Tensor]:
    with torch.no_grad():
        return list(model.run_network(model.preprocess(batch(seed)["img"])))


def test_attached_and_folded_models_are_the_same_function() -> None:
    model = detector()
    x = model.preprocess(batch(7)["img"])
    with torch.no_grad():
        before = model.net(x)
        assert attach_bn(model) == 6 and attach_bn(model) == 0
        attached = model.net(x)
        folded = folded_copy(model).net(x)
    assert all(torch.equal(a, b) for a, b in zip(before, attached, strict=True))
    assert all(float((a - b).abs().max()) < 1e-5 for a, b in zip(before, folded, strict=True))
    assert sum(isinstance(m, BnConv2d) for m in model.modules()) == 6  # the copy was folded, not the model


def test_training_moves_batch_norms_and_the_folded_model_follows() -> None:
    pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed")
    q = live()
    start = copy.deepcopy(q.state_dict())
    first = q(batch(0)) and q.int_graph((36, 28))
    losses = train(q, 24, lr=1e-2)
    assert sum(losses[-4:]) < sum(losses[:4])
    changed = {k.rpartition(".")[2] for k, v in q.state_dict().items() if "bn" in k and not torch.equal(start[k], v)}
    assert changed == {"weight", "bias", "running_mean", "running_var", "num_batches_tracked"}
    q.eval()
    graph = q.int_graph((36, 28))
    weights = [(a.weight, b.weight) for a, b in zip(first.ops, graph.ops, strict=True) if a.kind == "conv"]  # type: ignore[union-attr]
    assert len(weights) == 8 and all((a != b).any() for a, b in weights)
    evaluated = q.evaluation_model()
    assert isinstance(evaluated, IntegerDetector)
    images = q.preprocess(batch(9)["img"])
    p = graph.qparams("images")
    codes = (torch.round(images / p.scale) + p.zero_point).to(torch.int8)
    for a, b in zip(evaluated.run_network(images), evaluated.executor.run_real(images), strict=True):
        assert torch.equal(a, b)
    report = check_parity(graph, write(graph), codes, intermediates=True)
    assert report.ok, report.text()


def test_slopes_train_on_beside_batch_norms_and_ship_with_the_folded_model() -> None:
    """Also where ranges stand still and slopes go on: the folded model's scales suit its own slopes."""
    pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed")
    model = detector()
    blocks = [m for m in model.modules() if hasattr(m, "activate")]
    for block in blocks:
        channels = next(m.out_channels for m in block.modules() if isinstance(m, nn.Conv2d))
        block.activate = nn.PReLU(channels)
    q = live(model)
    slopes = [p for name, p in q.named_parameters() if name.endswith("activate.weight")]
    before = [p.detach().clone() for p in slopes]
    assert len(slopes) == len(blocks) > 3
    train(q, 6, lr=1e-2)
    q.set_observing(False)
    train(q, 6, lr=1e-2)
    assert all((p != b).any() for p, b in zip(slopes, before, strict=True))
    q.eval()
    graph = q.int_graph((36, 28))
    assert sum(op.kind == "prelu" for op in graph.ops) >= len(blocks)
    codes = torch.randint(-128, 128, (2, 3, 36, 28), dtype=torch.int8)
    assert check_parity(graph, write(graph), codes).ok
    again = live(copy.deepcopy(model))
    again.load_state_dict(q.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(maps(again.eval()), maps(q), strict=True))


def test_the_simulation_in_eval_mode_is_near_the_integers_and_in_float_the_network() -> None:
    """Fake quantization of the folded weights: at most a few units per output, as without batch norms."""
    q = live()
    train(q, 8, lr=1e-2)
    q.eval()
    integer = q.evaluation_model()
    for a, b, name in zip(maps(q), maps(integer), integer.graph.outputs, strict=True):
        step = integer.graph.qparams(name).scale
        assert float((a - b).abs().mean()) < 2 * step
    q.set_quantizing(False)
    q.set_observing(False)
    plain = copy.deepcopy(q.task)
    with torch.no_grad():
        expected = plain.net(q.preprocess(batch(7)["img"]))
    assert all(float((a - b).abs().max()) < 1e-4 for a, b in zip(maps(q), expected, strict=True))


def test_training_forward_is_normalized_by_the_batch() -> None:
    """Up to weight rounding: the same as the float network in training mode."""
    model = detector()
    reference = copy.deepcopy(model).train()
    q = live(model)
    q.set_observing(False)
    for quantizer in q.quantized.quantizers():
        quantizer.enable_fake_quant(False)
    q.quantized.quantizing = False
    got, want = maps(q), list(reference.net(model.preprocess(batch(7)["img"])))
    pairs = [(a, b.detach()) for a, b in zip(got, want, strict=True)]
    assert all(float((a - b).abs().mean()) < 0.03 * float(b.abs().mean()) for a, b in pairs)
    moved = [(a.running_mean, b.running_mean) for a, b in zip(norms(q), norms(reference), strict=False)]
    assert all(float((a - b).abs().max()) < 0.05 for a, b in moved)  # type: ignore[operator]


def test_stages_and_checkpoints() -> None:
    """calibration -> QAT -> integers, each built anew and given the weights of the one before."""
    calibrated = pipeline(Float2Calibration())(detector()).eval()
    assert isinstance(calibrated, LiveBnDetector)
    for i in range(2):
        calibrated.run_network(calibrated.preprocess(batch(i)["img"]))
    calibrated.set_observing(False)
    calibrated.set_quantizing(True)
    assert calibrated.int_graph((36, 28)).ops
    q = live()
    assert seed_ranges(q, calibrated.state_dict()) > 5 and q.quantized.calibrated
    train(q, 4, lr=1e-2)
    q.eval()
    fresh = pipeline(Float2QAT())(detector(3))
    load_state(fresh, snapshot(q))
    shipped = QAT2Int(image_size=(36, 28))(fresh)
    for a, b in zip(maps(shipped), maps(q.evaluation_model()), strict=True):
        assert torch.equal(a, b)


def test_frozen_batch_norms() -> None:
    """Statistics stay, gamma and beta may learn: the forward is that of the folded simulation."""
    q = live()
    train(q, 2, lr=1e-2)
    for norm in norms(q):
        norm.eval()
    before = [n.running_var.clone() for n in norms(q)]  # type: ignore[union-attr]
    q.set_observing(False)
    loss = q(batch(1))["loss"]
    loss.backward()
    assert all(torch.equal(a, n.running_var) for a, n in zip(before, norms(q), strict=True))  # type: ignore[arg-type]
    used = [m for m in q.quantized.convolutions() if hasattr(m, "bn")]
    assert len(used) == 6 and all(float(m.bn.weight.grad.abs().sum()) > 0 for m in used)  # type: ignore[operator, union-attr]


def test_a_channel_without_gamma_trains() -> None:
    model = detector()
    with torch.no_grad():
        model.net.a.bn.weight[3] = 0.0  # type: ignore[union-attr, index]
    q = live(model)
    train(q, 3, lr=1e-2)
    assert all(bool(torch.isfinite(p).all()) for p in q.parameters())
    assert float(q.task.net.a.conv.bn.weight[3]) != 0.0
    q.eval().int_graph((36, 28))


def test_levels_share_after_folding() -> None:
    torch.manual_seed(0)
    model = build_rtmdet(share_conv=True, widen_factor=0.125)
    for norm in norms(model):
        nn.init.uniform_(norm.weight, 0.5, 2.0)
    q = live(model)
    convs = [q.task.bbox_head.cls_convs[i][0].conv for i in range(3)]
    assert all(c.weight is convs[0].weight for c in convs) and len({id(c.bn) for c in convs}) == 3
    optimizer = torch.optim.SGD(q.parameters(), 1e-3)
    loss = torch.stack([m.square().mean() for m in q.run_network(torch.rand(2, 3, 64, 64))]).sum()
    loss.backward()
    optimizer.step()
    folded = q.eval().folded()
    assert isinstance(folded.task.bbox_head.cls_convs[2][0].conv, SharedConv2d)
    assert q.int_graph((64, 64)).shared_weight_bytes_saved == 2 * 4 * 32 * 32 * 9


def test_settings_reach_the_folded_model() -> None:
    made = ModelConvertPipeline(
        qat_mode="with_bn", converters=[Float2QAT()], qconfig_params={"int16_output": True, "keep_float": ["a.conv"]}
    )(detector())
    made.train()(batch(0))
    graph = made.eval().int_graph((36, 28))  # type: ignore[operator, union-attr]
    assert [graph.qparams(n).bits for n in graph.outputs] == [16, 16] and graph.islands == ("a.conv",)


def test_names_of_modes() -> None:
    with pytest.raises(UserError, match="unknown qat_mode 'withbn'.*with_bn"):
        ModelConvertPipeline(qat_mode="withbn", converters=[])
    plain = ModelConvertPipeline(converters=[FuseBN(), Float2QAT()])(detector())
    assert type(plain) is QuantizedDetector and plain.folded() is plain and not norms(plain.task.net.a)
    model: ToyDetector = detector()
    assert fuse_bn(model) == 6
