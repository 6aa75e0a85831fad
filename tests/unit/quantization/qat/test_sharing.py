"""One weight for all levels of a head with batch norms of their own: what is shared stays shared, and stays exact."""

from __future__ import annotations

import copy
import io
import logging
from typing import Any

import pytest
import torch
from quantization_toy import ConvBnAct, ToyDetector
from torch import Tensor, nn

from hatdet.engine.optimizer import parameter_groups
from hatdet.export.metadata import build_metadata
from hatdet.export.runtimes.parity import check_parity
from hatdet.export.tflite.int8 import write
from hatdet.integer.graph import IntGraph
from hatdet.integer.operators.windows.conv import ConvOp
from hatdet.quantization.detector import QuantizedDetector, quantize_detector
from hatdet.quantization.fuse import fuse_bn
from hatdet.quantization.lowering import assert_same_scales
from hatdet.quantization.qat.fx_adapter import QuantizedConv2d, QuantizedSharedConv2d
from hatdet.quantization.qat.shared_conv import FoldedLevel, SharedConv2d, can_share, coarseness
from hatdet.utils.checkpoints.checkpoint import load_state, snapshot
from tests.helpers.rtmdet import build_rtmdet

CHANNELS = 12


class Pyramid(nn.Module):
    """Three levels; two convolutions, dense and depthwise, that they share, with batch norms of each level."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.pool = ConvBnAct(3, CHANNELS, 3, 2), nn.MaxPool2d(2, 2)
        self.levels = nn.ModuleList(
            nn.Sequential(ConvBnAct(CHANNELS, CHANNELS, 3), ConvBnAct(CHANNELS, CHANNELS, 3, 1, CHANNELS))
            for _ in range(3)
        )
        self.predict = nn.ModuleList(nn.Conv2d(CHANNELS, 4, 1) for _ in range(3))
        for level in list(self.levels)[1:]:
            for ours, theirs in zip(self.levels[0], level, strict=True):  # type: ignore[call-overload]
                theirs.conv = ours.conv

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        x = self.stem(x)
        maps = [x, self.pool(x), self.pool(self.pool(x))]
        return tuple(p(level(m)) for m, level, p in zip(maps, self.levels, self.predict, strict=True))


def detector(seed: int = 0) -> ToyDetector:
    torch.manual_seed(seed)
    model = ToyDetector()
    model.net = Pyramid()  # type: ignore[assignment]
    model.output_names = ("a", "b", "c")  # type: ignore[assignment]
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 2.0)
            nn.init.normal_(module.bias)
    model.train()
    with torch.no_grad():
        for i in range(20):
            model.net(images(i))
    return model.eval()


def norm(model: ToyDetector, level: int, layer: int = 0) -> nn.BatchNorm2d:
    return model.net.get_submodule(f"levels.{level}.{layer}.bn")  # type: ignore[return-value]


def images(seed: int, size: int = 4) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (size, 3, 40, 24), generator=generator).float() / 255


def quantized(model: ToyDetector, qat_forward: str = "integer") -> QuantizedDetector:
    fuse_bn(model, share=True)
    q = quantize_detector(model, observer="moving_average", averaging_constant=0.05, qat_forward=qat_forward)
    q.set_observing(True)
    q.set_quantizing(True)
    return q.train()


def train(q: QuantizedDetector, steps: int, lr: float = 0.02) -> None:
    optimizer = torch.optim.SGD(q.parameters(), lr, momentum=0.9)
    for i in range(steps):
        torch.manual_seed(i)
        loss = torch.stack([(m - torch.randn_like(m)).square().mean() for m in q.run_network(images(i % 4))]).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def shared_convs(q: QuantizedDetector, layer: int = 0) -> list[QuantizedSharedConv2d]:
    found = [c for c in q.quantized.convolutions() if isinstance(c, QuantizedSharedConv2d)]
    return sorted(found, key=lambda c: c.groups != 1)[3 * layer : 3 * layer + 3]


def conv_ops(graph: IntGraph, layer: int = 0) -> list[ConvOp]:
    ops = [op for op in graph.ops if isinstance(op, ConvOp) and op.name.startswith("levels")]
    return [op for op in ops if op.name.endswith(f".{layer}.conv")]


def assert_exact(q: QuantizedDetector) -> IntGraph:
    """QAT's forward, the executor, LiteRT and TFLite Micro give the same integers, in every tensor."""
    q.eval()
    graph = q.int_graph((40, 24))
    assert_same_scales(q.quantized, graph)
    x = images(99, 3)
    with torch.no_grad():
        simulated = q.run_network(x)
    shipped = q.evaluation_model().run_network(x)
    assert all(torch.equal(a, b) for a, b in zip(simulated, shipped, strict=True))
    p = graph.qparams(graph.inputs[0])
    codes = (torch.round(x / p.scale) + p.zero_point).to(torch.int8)
    report = check_parity(graph, write(graph), codes, intermediates=True, default_kernels=False)
    assert report.ok, report.text()
    return graph


@pytest.mark.parametrize("layer", [0, 1])
def test_folding_keeps_one_weight_and_the_function(layer: int) -> None:
    """Within float rounding: 1e-6 of the largest value."""
    model = detector()
    with torch.no_grad():
        before = model.net(images(7))
        assert fuse_bn(model, share=True) == 7
        after = model.net(images(7))
    for a, b in zip(before, after, strict=True):
        assert float((a - b).abs().max()) < 1e-5 * float(a.abs().max())
    convs = [model.net.get_submodule(f"levels.{i}.{layer}.conv") for i in range(3)]
    assert all(isinstance(c, SharedConv2d) and c.weight is convs[0].weight for c in convs)
    assert all(c.gain.min() > 0.2 and c.gain.max() < 5 for c in convs)  # type: ignore[operator, union-attr]
    assert fuse_bn(model, share=True) == 0
    assert all(model.net.get_submodule(f"levels.{i}.{layer}.conv") is c for i, c in enumerate(convs))


def test_without_sharing_every_level_gets_its_own() -> None:
    model = detector()
    assert fuse_bn(model) == 7
    convs = [model.net.get_submodule(f"levels.{i}.0.conv") for i in range(3)]
    assert all(type(c) is nn.Conv2d for c in convs) and len({id(c.weight) for c in convs}) == 3


def test_convolutions_shared_without_batch_norms_stay_shared() -> None:
    model = detector()
    for level in (1, 2):
        model.net.predict[level] = model.net.predict[0]  # type: ignore[operator, index]
    fuse_bn(model, share=True)
    assert len({id(p) for p in model.net.predict}) == 1  # type: ignore[union-attr]


def test_training_changes_one_weight_and_a_gain_for_each_level() -> None:
    pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed")
    q = quantized(detector())
    first, second, third = shared_convs(q)
    assert first.weight is second.weight is third.weight
    assert first.weight_fake_quant is second.weight_fake_quant is third.weight_fake_quant
    before = copy.deepcopy({n: p.detach() for n, p in q.named_parameters()})
    codes = first.weight_fake_quant.codes(first.weight)
    train(q, 20)
    after = dict(q.named_parameters())
    assert all(not torch.equal(before[n], after[n]) for n in before), "every parameter learned"
    assert sum(n.endswith("gain") for n in before) == 6 and sum("levels" in n and "weight" in n for n in before) == 2
    assert int((first.weight_fake_quant.codes(first.weight) != codes).sum()) > 100
    graph = assert_exact(q)
    for layer, size in ((0, CHANNELS * CHANNELS * 9), (1, CHANNELS * 9)):
        ops = conv_ops(graph, layer)
        assert ops[0].weight is ops[1].weight is ops[2].weight and ops[0].weight.size == size
        assert len({op.weight_scale.tobytes() for op in ops}) == 3
    assert graph.shared_weight_bytes_saved == 2 * (CHANNELS * CHANNELS * 9 + CHANNELS * 9)
    assert build_metadata(graph)["shared_weight_bytes_saved"] == graph.shared_weight_bytes_saved
    apart = copy.deepcopy(graph.to_state())
    for number, entry in enumerate(apart["ops"]):
        if entry["name"].startswith("levels"):
            entry["weight"] = (entry["weight"].int() // (1 + number)).to(torch.int8)  # contents that differ
    assert len(write(IntGraph.from_state(apart))) - len(write(graph)) >= graph.shared_weight_bytes_saved


def test_scales_are_the_shared_scale_times_the_gain() -> None:
    q = quantized(detector())
    q.run_network(images(0))
    for conv in shared_convs(q):
        expected = conv.weight_fake_quant.scale * conv.gain.detach().abs()
        bias = conv.bias.detach().abs() / 2**14  # type: ignore[union-attr]
        assert torch.equal(conv.channel_scale(), torch.maximum(expected, bias))


@pytest.mark.parametrize("layer", [0, 1])
def test_a_sign_that_all_levels_have_goes_into_the_weight(layer: int) -> None:
    pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed")
    model = detector()
    with torch.no_grad():
        for level in range(3):
            norm(model, level, layer).weight[[2, 5]] *= -1
        expected = model.net(images(3))
    q = quantized(model)
    q.set_quantizing(False)
    with torch.no_grad():
        got = q.run_network(images(3))
    assert all(float((a - b).abs().max()) < 1e-5 * float(a.abs().max()) for a, b in zip(expected, got, strict=True))
    q.set_quantizing(True)
    train(q, 4)
    assert len({id(op.weight) for op in conv_ops(assert_exact(q), layer)}) == 1


def test_a_level_with_another_sign_gets_its_own_weight(caplog: pytest.LogCaptureFixture) -> None:
    pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed")
    model = detector()
    with torch.no_grad():
        norm(model, 1).weight[4] *= -1
        expected = model.net(images(3))
    with caplog.at_level(logging.INFO, "hatdet"):
        fuse_bn(model, share=True)
    assert (
        "levels.1.0.conv cannot share the weight of levels.0.0.conv: the signs of their batch norms' weights differ in "
        "1 of 12 channels; it gets its own" in caplog.text
    )
    with torch.no_grad():
        got = model.net(images(3))
    assert all(float((a - b).abs().max()) < 1e-5 * float(a.abs().max()) for a, b in zip(expected, got, strict=True))
    q = quantized(model)
    train(q, 6)
    graph = assert_exact(q)
    ops = conv_ops(graph)
    assert ops[0].weight is ops[2].weight and ops[1].weight is not ops[0].weight
    assert graph.shared_weight_bytes_saved == CHANNELS * CHANNELS * 9 + 2 * CHANNELS * 9


def test_channels_without_weight() -> None:
    """gamma = 0 on all levels: only the bias is left; gamma and beta 0 on one level: that level gives 0 there."""
    pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed")
    model = detector()
    with torch.no_grad():
        for level in range(3):
            norm(model, level).weight[1] = 0.0
        norm(model, 0).weight[7], norm(model, 0).bias[7] = 0.0, 0.0
        expected = model.net(images(3))
    q = quantized(model)
    q.run_network(images(0))
    graph = assert_exact(q)
    ops = conv_ops(graph)
    assert len({id(op.weight) for op in ops}) == 1
    assert not ops[0].weight[1].any() and ops[0].weight[7].any() and all(op.bias[1] for op in ops)
    assert ops[0].weight_scale[7] == 2.0**-40 and ops[0].bias[7] == 0
    with torch.no_grad():
        got = q.run_network(images(3))
    assert all(float((a - b).abs().mean()) < 0.05 * float(a.abs().mean()) + 0.02 for a, b in zip(expected, got))
    with torch.no_grad():
        maps = q.evaluation_model().executor(torch.full((1, 3, 40, 24), 100, dtype=torch.int8), keep=True)
    assert torch.all(maps[ops[0].output][:, 7] == graph.qparams(ops[0].output).zero_point)


def test_a_level_that_has_only_a_bias_does_not_coarsen_the_others(caplog: pytest.LogCaptureFixture) -> None:
    model = detector()
    with torch.no_grad():
        norm(model, 2).weight[3] = 0.0
    with caplog.at_level(logging.INFO, "hatdet"):
        q = quantized(model)
    assert "levels.2.0.conv cannot share" in caplog.text and "almost nothing but its bias" in caplog.text
    first, second, third = shared_convs(q)
    assert first.weight is second.weight and third.weight is not first.weight
    assert not third.gain.requires_grad and first.gain.requires_grad


def test_a_gain_that_fades_while_training_keeps_the_bias_in_range() -> None:
    """The level's scale stops shrinking, and the others' codes become at most four times coarser for it."""
    pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed")
    q = quantized(detector())
    first, second, third = shared_convs(q)
    with torch.no_grad():
        second.gain[5], second.bias[5] = 1e-9, 1.5  # type: ignore[index]
        third.gain[6], third.bias[6] = -third.gain[6], 0.25  # type: ignore[index]
    q.run_network(images(0))
    finest = float(first.weight[5].detach().abs().max()) / 127
    assert float(first.weight_fake_quant.scale[5]) == pytest.approx(4 * finest, rel=1e-5)
    assert float(second.channel_scale()[5]) == pytest.approx(1.5 / 2**14)
    graph = assert_exact(q)
    assert max(int(abs(op.bias.astype("int64")).max()) for op in conv_ops(graph)) < 2**24


def test_gradients_are_those_of_fake_quantization() -> None:
    q = quantized(detector())
    train(q, 3)
    q.set_observing(False)
    with torch.no_grad():
        shared_convs(q)[1].gain[3] *= -1  # the sign of a gain counts in its gradient only
    grads: dict[str, dict[str, Tensor]] = {}
    for mode in ("integer", "fake_quant"):
        q.quantized.qat_forward = mode
        q.zero_grad()
        torch.stack([m.square().mean() for m in q.run_network(images(1))]).sum().backward()
        grads[mode] = {n: p.grad.clone() for n, p in q.named_parameters() if p.grad is not None}
    assert sum(n.endswith("gain") for n in grads["integer"]) == 6
    for name, a in grads["integer"].items():
        b = grads["fake_quant"][name]
        assert float(torch.cosine_similarity(a.flatten(), b.flatten(), 0)) > 0.97, name
        assert 0.9 < float(a.norm() / b.norm()) < 1.1, name


def test_checkpoints_round_trip_and_decide_what_is_shared() -> None:
    """A network is built before its weights are read: sharing follows the checkpoint, either way."""
    model = detector()
    with torch.no_grad():
        norm(model, 1).weight[4] *= -1
    trained = quantized(model)
    train(trained, 3)
    file = io.BytesIO()
    torch.save({"state_dict": snapshot(trained), "graph": trained.eval().int_graph((40, 24)).to_state()}, file)
    size = len(file.getvalue())
    state = torch.load(io.BytesIO(file.getvalue()), weights_only=True)
    fresh = quantized(detector(5))
    assert shared_convs(fresh)[1].weight is shared_convs(fresh)[0].weight
    load_state(fresh, state["state_dict"])
    first, second, third = shared_convs(fresh)
    assert first.weight is third.weight and second.weight is not first.weight
    assert first.weight_fake_quant is third.weight_fake_quant is not second.weight_fake_quant
    x = images(42)
    with torch.no_grad():
        for a, b in zip(trained.run_network(x), fresh.eval().run_network(x), strict=True):
            assert torch.equal(a, b)
    graph = fresh.int_graph((40, 24))
    assert IntGraph.from_state(state["graph"]).shared_weight_bytes_saved == graph.shared_weight_bytes_saved > 0
    other = quantized(detector(6))
    train(other, 1)
    load_state(fresh, snapshot(other))  # and back: all levels share again
    assert len({id(c.weight) for c in shared_convs(fresh)}) == 1
    fresh.train()
    train(fresh, 2)
    assert shared_convs(fresh)[1].gain.requires_grad and size < 120_000


def test_a_copy_shares_within_itself() -> None:
    q = quantized(detector())
    train(q, 1)
    twin = copy.deepcopy(q)
    ours, theirs = shared_convs(q), shared_convs(twin)
    assert theirs[0].weight is theirs[1].weight is not ours[0].weight
    assert theirs[0].users() == theirs and ours[0].users() == ours
    train(twin, 1)
    twin.eval().int_graph((40, 24))


def test_decay_of_gains_is_that_of_norms() -> None:
    q = quantized(detector())
    groups = parameter_groups(q, paramwise={"norm_decay": 0.0}, defaults={"weight_decay": 0.05})
    plain = next(g for g in groups if g.get("weight_decay") == 0.0)
    assert {id(p) for p in plain["params"]} == {id(c.gain) for layer in (0, 1) for c in shared_convs(q, layer)}


def test_float_islands_have_the_gain() -> None:
    model = detector()
    expected = copy.deepcopy(model)
    fuse_bn(model, share=True)
    q = quantize_detector(model, observer="min_max", averaging_constant=0.01, qat_forward="integer", keep_float=["*"])
    q.set_observing(True)
    q.set_quantizing(True)
    q.train()
    with torch.no_grad():
        q.run_network(images(0))
        q.eval()
        x = torch.round(images(1) * 255) / 255
        for a, b in zip(q.run_network(x), expected.net(x), strict=True):
            assert float((a - b).abs().max()) < 1e-4 * float(b.abs().max())


def test_coarseness() -> None:
    """A bias of 1 needs a scale of 2**-14; weights up to 0.5 with a gain of 1 give 0.5 / 127."""
    peak, gain, bias = torch.tensor([0.5, 0.5, 0.5, 0.0]), torch.tensor([1.0, 1e-3, 0.0, 1.0]), torch.tensor([1.0] * 4)
    got = coarseness(peak, gain, bias, 2.0**14)
    assert got.tolist() == pytest.approx([1.0, 127 * 1000 / (0.5 * 2**14), 254.0, 254.0])
    assert coarseness(torch.zeros(1), torch.zeros(1), torch.zeros(1), 2.0**14).tolist() == [1.0]


@pytest.mark.parametrize(
    ("second", "reason"),
    [
        (FoldedLevel(torch.tensor([2.0, 0.5]), torch.tensor([0.0, 3.0])), ""),
        (FoldedLevel(torch.tensor([2.0, -0.5]), torch.tensor([0.0, 3.0])), "differ in 1 of 2 channels"),
        (FoldedLevel(torch.tensor([0.0, 0.5]), torch.tensor([0.0, 3.0])), ""),
        (FoldedLevel(torch.tensor([0.0, 0.5]), torch.tensor([1.0, 3.0])), "in 1 of 2 channels the batch norm"),
    ],
)
def test_what_can_share(second: FoldedLevel, reason: str) -> None:
    first = FoldedLevel(torch.tensor([1.0, 1.0]), torch.tensor([1.0, 1.0]))
    why = can_share(torch.tensor([0.3, 0.3]), [first, second], 2.0**14)
    assert (reason in why) if reason else why == ""


def test_rtmdet_with_shared_convolutions() -> None:
    """The head of RTMDet-tiny, narrow: names of the float model are MMDetection's, and the integers are the same."""
    pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed")
    torch.manual_seed(0)
    model = build_rtmdet(share_conv=True, widen_factor=0.125)
    names = set(model.state_dict())
    assert {f"bbox_head.cls_convs.{i}.1.conv.weight" for i in range(3)} < names
    assert not any("gain" in name for name in names)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 2.0)
            nn.init.normal_(module.bias)
        elif isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
    model.eval()
    q: Any = quantized(model)  # type: ignore[arg-type]
    optimizer = torch.optim.SGD(q.parameters(), 1e-3)
    for i in range(3):
        maps = q.run_network(torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(i)))
        optimizer.zero_grad()
        torch.stack([m.square().mean() for m in maps]).sum().backward()
        optimizer.step()
    q.eval()
    graph = q.int_graph((64, 64))
    assert graph.shared_weight_bytes_saved == 2 * 4 * 32 * 32 * 9
    codes = torch.randint(-128, 128, (1, 3, 64, 64), dtype=torch.int8, generator=torch.Generator().manual_seed(9))
    report = check_parity(graph, write(graph), codes, default_kernels=False)
    assert report.ok, report.text()
    assert sum(isinstance(c, QuantizedConv2d) for c in q.quantized.convolutions()) > 40
