"""The least scales that kernels can compute with, and where they round alike, of every operator by hand."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from hatdet.integer.arithmetic import LARGEST_MULTIPLIER
from hatdet.integer.operators.pointwise.activation_codes import agreeing_input_scale
from hatdet.integer.profiles.table import PROFILES
from hatdet.integer.tensors import QuantParams
from hatdet.quantization.operators.base import Step
from hatdet.quantization.operators.table import FORMS
from hatdet.quantization.qat.fake_quant import WeightFakeQuantize
from hatdet.quantization.qat.quantized_conv import ConvAct, QuantizedConv2d
from tests.helpers.spellings import check_spelling


class Written:
    """Scales that are written down; values of one group share a quantizer."""

    profile = PROFILES["tflite_ref"]

    def __init__(self, shared: tuple[str, ...] = (), pinned: tuple[str, ...] = (), wide: tuple[str, ...] = (),
                 peak: float = 0.0, **scales: float) -> None:  # fmt: skip
        self.scales, self.shared, self.pinned, self.wide, self.top = scales, shared, pinned, wide, peak

    def of(self, name: str) -> float:
        return self.scales[name] if name else 1 / 256

    def zero(self, name: str) -> int:
        return {"x": -128, "a": 5}.get(name, 0)

    def bits(self, name: str) -> int:
        return 16 if name in self.wide else 8

    def fixed(self, name: str) -> bool:
        return name in self.pinned

    def others(self, step: Step) -> list[str]:
        return [name for name in step.inputs if name not in self.shared]

    def peak(self, step: Step) -> float:
        return self.top

    def lift(self, name: str, least: float) -> None:
        if not self.fixed(name):
            self.scales[name] = max(self.scales[name], float(np.float32(least)))


def step(kind: str, *inputs: str, module: nn.Module | None = None, **arguments: Any) -> Step:
    return Step(kind, "s", inputs, "y", module, arguments)


def least(made: Step, scales: Any) -> float:
    return FORMS[made.kind].least_scale(made, scales)


def test_sums_and_products() -> None:
    for kind in ("add", "sub"):
        total = step(kind, "x", "a", activation="none")
        assert least(total, Written(x=3.0, a=5.0, y=1.0)) == 5.0 / LARGEST_MULTIPLIER
        assert least(total, Written(("a",), x=3.0, a=5.0, y=5.0)) == 3.0 / LARGEST_MULTIPLIER
        assert least(total, Written(("x", "a"), x=3.0, a=3.0, y=3.0)) == 0
    product = step("mul", "x", "a")
    assert least(product, Written(x=3.0, a=5.0, y=1.0)) == 15.0 / LARGEST_MULTIPLIER
    assert least(product, Written(("a",), x=3.0, a=5.0, y=5.0)) == 0  # raising one would raise the other
    assert FORMS["mul"].factors(product) == ("x", "a") and FORMS["add"].factors(step("add", "x", "a")) == ()


def test_functions_of_one_value() -> None:
    assert least(step("requantize", "x"), Written(x=2.0, y=1.0)) == 2.0**-19
    assert least(step("requantize", "x"), Written(("x",), x=2.0, y=2.0)) == 0
    leaky = step("leaky_relu", "x", slope=0.25)
    assert least(leaky, Written(x=2.0, y=1.0)) == 2.0**-19 and least(leaky, Written(("x",), x=2.0, y=2.0)) == 0
    assert least(step("leaky_relu", "x", slope=4.0), Written(x=2.0, y=1.0)) == 2.0**-17
    assert least(step("activation", "x", function="hardswish"), Written(x=2.4, y=1.0)) == pytest.approx(0.02)
    assert least(step("activation", "x", function="sigmoid"), Written(x=2.4, y=1.0)) == 0
    silu = step("activation", "x", function="silu")
    assert FORMS["activation"].factors(silu) == ("x", "")
    assert least(silu, Written(x=512.0, y=1.0)) == 2.0 / LARGEST_MULTIPLIER
    assert least(silu, Written(("x",), x=512.0, y=512.0)) == 0
    assert least(step("max_pool", "x"), Written(x=2.0, y=2.0)) == 0


def test_where_activations_agree() -> None:
    form = FORMS["activation"]
    scales = Written(x=2.0**-5, y=16.0)
    form.agree(step("activation", "x", function="hardswish"), scales)
    assert scales.of("x") == agreeing_input_scale("hardswish", QuantParams(2.0**-4, -128), QuantParams(16.0, 0))
    scales = Written(pinned=("x",), x=2.0**-5, y=16.0)
    form.agree(step("activation", "x", function="hardswish"), scales)
    assert scales.of("x") == 2.0**-5
    apart = float(np.float32(0.028354830186997713))  # with the zero point 13 one code differs
    scales = Written(x=apart, y=1 / 256)
    scales.zero = lambda name: 13 if name == "x" else -128  # type: ignore[method-assign]
    form.agree(step("activation", "x", function="sigmoid"), scales)
    assert scales.of("x") == agreeing_input_scale("sigmoid", QuantParams(apart, 13), QuantParams(1 / 256, -128)) > apart


def conv(weight: float, bias: float = 0.0, act: nn.Module | None = None) -> QuantizedConv2d:
    plain = nn.Conv2d(2, 1, 1)
    with torch.no_grad():
        plain.weight.fill_(weight)
        assert plain.bias is not None
        plain.bias.fill_(bias)
    module = plain if act is None else ConvAct(plain, act)
    module.qconfig = SimpleNamespace(weight=WeightFakeQuantize)  # type: ignore[assignment]
    made = QuantizedConv2d.from_float(module)
    made.observe_weight()
    return made


def test_the_multiplier_of_a_convolution_stays_below_the_limit() -> None:
    """Weights of 127: scale 1, two codes of 127; x from 0 to 255 steps of 4: sums up to 64 770 leave a shift of 15."""
    made = step("conv", "x", module=conv(127.0))
    assert least(made, Written(peak=1.0, x=4.0, y=4.0)) == 0  # a multiplier of 1: nothing is shifted left
    assert least(made, Written(("x",), peak=1.0, x=4.0, y=1.0)) == 0
    assert least(made, Written(peak=1.0, x=4.0, y=1.0)) == 4.0 / LARGEST_MULTIPLIER
    wide = Written(wide=("y",), peak=1.0, x=4.0, y=1.0)
    assert least(made, wide) == 4.0 / 16


def test_accumulators_fit_int32_after_the_shift() -> None:
    """A bias of 2**26 steps: 2**31 - 1 is 31 times as much: a shift of 4, multipliers below 16."""
    made = step("conv", "x", module=conv(2.0**-10 * 127, bias=2.0**16))
    scales = Written(peak=4.0, x=1.0, y=1.0)
    module = made.module
    assert isinstance(module, QuantizedConv2d)
    scale = float(module.weight_fake_quant.scale)  # 2**16 / 2**14 = 4: the bias is 2**14 steps, a weight 0
    assert scale == 4.0
    assert least(made, scales) == 4.0 / LARGEST_MULTIPLIER
    fine = Written(peak=4.0, x=2.0**-12, y=2.0**-12)  # the same bias in steps 4096 times as fine: 2**26
    assert least(made, fine) == pytest.approx(4.0 * 2.0**-12 / (16 * (1 - 2.0**-16)), rel=1e-12)


def test_outputs_that_the_kernels_demand() -> None:
    activation, convolution = FORMS["activation"], FORMS["conv"]
    modules = [nn.Sigmoid(), nn.Hardsigmoid(), nn.SiLU(), nn.Hardswish()]
    unit = QuantParams(1 / 256, -128)
    assert [activation.fixed_output(module) for module in modules] == [unit, unit, None, None]
    assert [activation.refuses_fixed(module) for module in modules] == [True, False, True, False]
    assert (
        convolution.fixed_output(conv(1.0, act=nn.Hardsigmoid())) == unit
        and convolution.fixed_output(conv(1.0)) is None
    )
    assert FORMS["max_pool"].fixed_output(nn.MaxPool2d(2)) is None and not FORMS["max_pool"].refuses_fixed(None)


@pytest.mark.parametrize(
    ("kernel", "dilation", "kinds", "padding"),
    [((3, 5), 1, ["conv"], (1, 2)), ((3, 2), 1, ["pad", "conv"], (1, 1, 0, 1)),
     ((4, 3), 1, ["pad", "conv"], (1, 2, 1, 1)), ((2, 2), (2, 3), ["pad", "conv"], (1, 1, 1, 2))],
)  # fmt: skip
def test_padding_that_keeps_the_size(kernel: Any, dilation: Any, kinds: list[str], padding: tuple[int, ...]) -> None:
    """With an even kernel one more after than before."""
    graph = check_spelling(nn.Conv2d(8, 4, kernel, dilation=dilation, padding="same"), kinds, (16, 24))
    assert graph.ops[1].padding == padding  # type: ignore[attr-defined]
