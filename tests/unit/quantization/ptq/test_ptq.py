"""Equalization, bias correction, learned rounding: hand-computed numbers, and what of them reaches the integers."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from quantization_toy import GatedNetwork, ToyDetector, batch, detector
from torch import Tensor, nn

from hatdet.quantization.converters import Float2Calibration, Float2QAT, FuseBN, LoadCheckpoint, ModelConvertPipeline
from hatdet.quantization.detector import QuantizedDetector
from hatdet.quantization.ptq import refine as refining
from hatdet.quantization.ptq.bias_correction import rounded_weight
from hatdet.quantization.ptq.equalization import pairs
from hatdet.quantization.ptq.walk import images_that_fit, walk
from hatdet.quantization.qat.quantized_conv import QuantizedConv2d
from hatdet.utils.checkpoints.checkpoint import load_checkpoint, save_checkpoint
from hatdet.utils.errors import UserError


class Chain(nn.Module):
    """conv - ReLU - depthwise - ReLU - pool - conv, and a second reader of the pool."""

    def __init__(self, act: Callable[[], nn.Module] = nn.ReLU) -> None:
        super().__init__()
        self.first, self.middle = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.last, self.other = nn.Conv2d(8, 5, 1), nn.Conv2d(8, 4, 1)
        self.act1, self.act2, self.pool = act(), act(), nn.MaxPool2d(2)
        with torch.no_grad():
            self.first.weight.mul_(torch.logspace(-2, 2, 8).view(-1, 1, 1, 1))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.pool(self.act2(self.middle(self.act1(self.first(x)))))
        return self.last(x), self.other(x)


class OnePixel(nn.Module):
    """A 1x1 convolution with given weights (O, I)."""

    def __init__(self, rows: list[list[float]]) -> None:
        super().__init__()
        self.conv = nn.Conv2d(len(rows[0]), len(rows), 1)
        with torch.no_grad():
            self.conv.weight.copy_(torch.tensor(rows)[..., None, None])
            self.conv.bias.zero_()  # type: ignore[union-attr]

    def forward(self, x: Tensor) -> tuple[Tensor]:
        return (self.conv(x),)


def prepared(model: nn.Module, **options: Any) -> QuantizedDetector:
    pipeline = ModelConvertPipeline(converters=[FuseBN(), Float2Calibration()], qconfig_params=options)
    made = pipeline(model)
    assert isinstance(made, QuantizedDetector)
    return made.eval()


def calibrated(model: nn.Module, batches: list[dict[str, Any]], **options: Any) -> QuantizedDetector:
    q = prepared(model, activation_calibration_observer="min_max", **options)
    for given in batches:
        q(given)
    q.set_observing(False)
    q.set_quantizing(True)
    q.refine(lambda: batches)
    return q


def convolutions(q: QuantizedDetector) -> dict[str, QuantizedConv2d]:
    return {s.name: s.module for s in q.quantized.plan.steps if isinstance(s.module, QuantizedConv2d)}


def chain(seed: int = 0, act: Callable[[], nn.Module] = nn.ReLU) -> ToyDetector:
    torch.manual_seed(seed)
    model = ToyDetector()
    model.net = Chain(act)  # type: ignore[assignment]
    return model.eval()


def test_equalized_channels_have_the_same_largest_weight_on_both_sides() -> None:
    plain, equal = convolutions(prepared(chain())), convolutions(prepared(chain(), equalize=True))
    spread = {}
    for title, convs in (("plain", plain), ("equal", equal)):
        rows = convs["first"].weight.abs().flatten(1).amax(1)
        spread[title] = float((rows.max() / rows.min()).detach())
        if title == "equal":
            columns = convs["middle"].weight.abs().flatten(1).amax(1)
            readers = torch.stack([convs[n].weight.abs()[..., 0, 0].amax(0) for n in ("last", "other")]).amax(0)
            assert torch.allclose(rows, columns, rtol=0.05) and torch.allclose(columns, readers, rtol=0.05)
    assert spread["plain"] > 5000 and spread["equal"] < spread["plain"] / 50


def test_an_equalized_network_is_the_float_network() -> None:
    model = chain()
    before = model(batch(3))
    q = prepared(model, equalize=True)
    q.set_observing(False)
    after = q(batch(3))
    for a, b in zip(before, after, strict=True):
        for key in a:
            assert torch.allclose(a[key], b[key], rtol=1e-4, atol=1e-4 * float(a[key].detach().abs().max()))


def test_nothing_is_scaled_through_a_relu6(caplog: pytest.LogCaptureFixture) -> None:
    model = chain(act=nn.ReLU6)
    before = copy.deepcopy(model.state_dict())
    with caplog.at_level("WARNING", "hatdet"):
        q = prepared(model, equalize=True)
    assert pairs(q.quantized.plan) == [] and "equalize=True changes nothing here" in caplog.text
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())


def test_pairs_end_where_something_else_reads() -> None:
    """Of the toy's convolutions with ReLU those whose maps are added, concatenated or multiplied stay."""
    q = prepared(detector(network=lambda: GatedNetwork("ReLU")))
    names = {id(conv): name for name, conv in convolutions(q).items()}
    found = [[names[id(first)], *(names[id(conv)] for conv in behind)] for first, behind in pairs(q.quantized.plan)]
    assert found == [["a.conv", "depthwise.conv"], ["depthwise.conv", "pointwise.conv"], ["shared", "reg"]]


def test_the_bias_takes_what_rounding_adds_to_the_mean() -> None:
    """Weights of 127, 0.4 and 0.4 steps on inputs of 1: nearest leaves out 0.8 steps."""
    model = ToyDetector()
    model.net = OnePixel([[127.0, 0.4, 0.4]])  # type: ignore[assignment]
    ones = {"img": torch.full((2, 3, 8, 8), 255, dtype=torch.uint8)}
    q = calibrated(model, [ones], bias_correction=True)
    conv = convolutions(q)["conv"]
    assert rounded_weight(conv).flatten().tolist() == [127.0, 0.0, 0.0]
    assert conv.bias is not None and float(conv.bias) == pytest.approx(0.8, abs=1e-4)


def test_adaround_rounds_one_of_two_up() -> None:
    """The same weights: with inputs that always go together one of them is rounded up, which leaves 0.2 of 0.8."""
    model = ToyDetector()
    model.net = OnePixel([[127.0, 0.4, 0.4], [127.0, 0.2, 0.2]])  # type: ignore[assignment]
    values = torch.arange(128, dtype=torch.uint8).mul(2).view(2, 1, 8, 8).expand(2, 3, 8, 8).clone()
    values[:, 0] = 0
    q = calibrated(model, [{"img": values}], weight_rounding="adaround")
    conv = convolutions(q)["conv"]
    codes = conv.weight_fake_quant.codes(conv.weight)[..., 0, 0]
    assert codes[:, 0].tolist() == [127.0, 127.0]
    assert sorted(codes[0, 1:].tolist()) == [0.0, 1.0] and codes[1, 1:].tolist() == [0.0, 0.0]


def test_refined_weights_are_on_their_grid_and_nearer_to_float() -> None:
    batches = [batch(i) for i in range(4)]
    errors = {}
    for rounding in ("nearest", "adaround"):
        q = calibrated(detector(), batches, weight_rounding=rounding)
        float_maps = detector()(batch(9))
        maps = q.evaluation_model()(batch(9))
        both = [(a[k], b[k]) for a, b in zip(float_maps, maps, strict=True) for k in a]
        errors[rounding] = sum(float((a - b).square().mean()) for a, b in both)
        if rounding == "adaround":
            assert len(convolutions(q)) == 8
            for conv in convolutions(q).values():
                steps = conv.weight / conv.weight_fake_quant.scale.view(-1, 1, 1, 1)
                assert torch.allclose(steps, steps.round(), atol=1e-3)
    assert errors["adaround"] < errors["nearest"]


def test_bias_correction_leaves_no_mean_error() -> None:
    """In a walk after it, all layers before corrected, the means of float and rounded sums are the same."""
    batches = [batch(i) for i in range(2)]
    q = calibrated(detector(), batches, bias_correction=True)
    plain = calibrated(detector(), batches)
    images = [q.preprocess(b["img"]) for b in batches]
    reference = {v.step.name: v for v in walk(plain.quantized, images)}
    for visit in walk(q.quantized, images):
        made = torch.cat([visit.sums(x, rounded_weight(visit.conv), visit.conv.bias) for x in visit.rounded])
        was = reference[visit.step.name]
        exact = torch.cat([was.sums(x, was.weight, was.bias) for x in was.exact])
        error = (made - exact).mean((0, 2, 3)).abs()
        assert float(error.max()) < 1e-5 * max(1.0, float(exact.abs().max())), visit.step.name


OPTIONS = {"bias_correction": True, "weight_rounding": "adaround", "equalize": True}


def test_what_calibration_scored_is_what_ships_and_where_qat_starts(tmp_path: Path) -> None:
    batches = [batch(i) for i in range(2)]
    relu = lambda: detector(network=lambda: GatedNetwork("ReLU"))  # noqa: E731
    model = relu()
    float_state = copy.deepcopy(model.state_dict())
    q = calibrated(model, batches, **OPTIONS)
    scored = q.evaluation_model()(batch(9))
    path = tmp_path / "calibration-checkpoint-best.pth.tar"
    save_checkpoint(path, {"state_dict": q.state_dict(), "metadata": q.metadata()})
    assert load_checkpoint(path)["metadata"]["refinement"] == OPTIONS

    int_infer = ModelConvertPipeline(converters=[FuseBN(), Float2QAT(), LoadCheckpoint(checkpoint_path=[str(path)])])
    shipped = int_infer(relu())
    assert isinstance(shipped, QuantizedDetector)
    for a, b in zip(scored, shipped.eval().evaluation_model()(batch(9)), strict=True):
        assert all(torch.equal(a[key], b[key]) for key in a)

    start = relu()
    start.load_state_dict(float_state)
    qat = ModelConvertPipeline(converters=[FuseBN(), Float2QAT(calibration_checkpoint=str(path))])(start)
    assert isinstance(qat, QuantizedDetector) and qat.metadata()["refinement"] == OPTIONS
    learned = ModelConvertPipeline(
        converters=[FuseBN(), Float2QAT(calibration_checkpoint=str(path))], qconfig_params={"qat_scales": "learned"}
    )(relu())
    for name, conv in convolutions(learned).items():  # type: ignore[arg-type]
        assert torch.allclose(conv.weight_fake_quant.scale, convolutions(q)[name].weight_fake_quant.scale, rtol=1e-5)
    for name, parameter in q.named_parameters():
        assert torch.equal(parameter, qat.get_parameter(name)), name
    for a, b in zip(scored, qat.eval().evaluation_model()(batch(9)), strict=True):
        assert all(float((a[k] - b[k]).abs().max()) <= 0.05 * float(a[k].abs().max()) for k in a)


def test_without_options_nothing_is_walked_or_said() -> None:
    q = calibrated(detector(), [batch(0)])
    assert "refinement" not in q.metadata()
    other = prepared(detector())
    assert all(torch.equal(a, b) for a, b in zip(q.parameters(), other.parameters(), strict=True))


def test_layers_kept_in_float_and_those_called_twice_stay() -> None:
    class Twice(Chain):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            x = self.act1(self.first(x))
            return self.other(x), self.other(self.pool(self.act2(self.middle(x))))

    torch.manual_seed(0)
    model = ToyDetector()
    model.net = Twice()  # type: ignore[assignment]
    before = copy.deepcopy(model.state_dict())
    options = {"bias_correction": True, "weight_rounding": "adaround"}
    q = calibrated(model, [batch(0)], **options, keep_float=["middle"])
    changed = {k for k, v in model.state_dict().items() if not torch.equal(before[k], v)}
    assert changed == {"net.first.weight", "net.first.bias"}
    assert q.can_evaluate


def test_a_walk_takes_as_many_images_as_fit() -> None:
    q = prepared(detector()).quantized
    image = torch.rand(1, 3, 32, 32)  # the stem makes 16 maps of 16 x 16, the first concatenation has 32
    assert images_that_fit(q, image, 64, 10 * 56 * 16 * 16) in range(10, 19)
    assert images_that_fit(q, image, 4, 1 << 30) == 4 and images_that_fit(q, image, 4, 1000) == 1
    assert len(refining._images(q, [image.expand(3, -1, -1, -1)] * 2)) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weight_rounding": "adround"}, "weight_rounding is 'adround'; use one of nearest, adaround; did you mean"),
        ({"bias_correction": 1.5}, "bias_correction is 1.5; use True or False"),
        ({"equalize": "yes"}, "equalize is 'yes'; use True or False"),
    ],
)
def test_options_that_are_none(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        ModelConvertPipeline(converters=[Float2Calibration()], qconfig_params=options)


def test_live_batch_normalization_has_no_weights_to_adjust() -> None:
    pipeline = ModelConvertPipeline(converters=[Float2Calibration(weight_rounding="adaround")], qat_mode="with_bn")
    with pytest.raises(UserError, match="qat_mode='with_bn' there are none: leave them out, or set qat_mode='fuse_bn'"):
        pipeline(detector())
