"""Scales with which other kernels than XNNPACK's would run, or x86 and ARM would compute differently."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from hatdet.integer.arithmetic import MULTIPLIER_LIMIT, conv_multiplier
from hatdet.integer.operators.pairs.add import AddOp
from hatdet.integer.operators.pairs.mul import MulOp
from hatdet.integer.operators.pairs.sub import SubOp
from hatdet.integer.operators.pointwise.activation import ActivationOp
from hatdet.integer.operators.pointwise.activation_codes import UNIT_INTERVAL
from hatdet.integer.operators.pointwise.leaky_relu import LeakyReluOp
from hatdet.integer.operators.pointwise.requantize import RequantizeOp
from hatdet.integer.operators.windows.conv import ConvOp
from hatdet.integer.operators.windows.conv_transpose import ConvTransposeOp
from hatdet.integer.operators.windows.weighted import WeightedOp
from hatdet.integer.profile import Quantization
from hatdet.integer.profiles.checks import tflite_ref
from hatdet.integer.xnnpack import activations_agree, product_multiplier, products_agree, ratio, squares_agree
from hatdet.utils.errors import UserError


def _check_sums(op: WeightedOp, qparams: Quantization) -> None:
    """Multipliers of 256 and more are stored as smaller ones (``arithmetic.stored_weight_scale``)."""
    x, y = qparams(op.input), qparams(op.output)
    bound = tflite_ref.largest_accumulators(op, x)
    if y.bits == 16:
        tflite_ref.check_wide(op.name, conv_multiplier(x.scale, op.weight_scale, y.scale), bound)
    elif np.any(bound > tflite_ref.INT32_MAX):
        raise UserError(
            f"convolution {op.name!r}: its accumulators can reach {int(bound.max())}, beyond int32; is its bias far "
            "larger than its weights? train or calibrate the model again"
        )


def _check_sum(op: AddOp | SubOp, qparams: Quantization) -> None:
    y = qparams(op.output).scale
    largest = max(ratio(qparams(name).scale, y) for name in op.inputs)
    if largest >= MULTIPLIER_LIMIT:
        raise UserError(
            f"operator {op.name!r} ({op.kind}): an input scale is {largest:.6g} output scales; XNNPACK's kernels take "
            f"less than {MULTIPLIER_LIMIT:g}: calibrate on more images, or widen the output's range"
        )


def _check_mul(op: MulOp, qparams: Quantization) -> None:
    _check_product(op.name, *(qparams(name).scale for name in (op.input1, op.input2, op.output)))
    x, y = qparams(op.input1).scale, qparams(op.output).scale
    if op.input1 == op.input2 and not squares_agree(x, y):
        raise UserError(
            f"operator {op.name!r}: with the scales {x!r} and {y!r} XNNPACK rounds some squares otherwise than products"
            "; calibrate with arithmetic='xnnpack', and give the square a scale of its own: no pooling, concatenation "
            "or maximum of it with its map"
        )


def _check_range_of_mul(op: MulOp, qparams: Quantization) -> None:
    _check_range_of_product(op.name, *(qparams(name).scale for name in (op.input1, op.input2, op.output)))


def _check_range_of_product(name: str, scale1: float, scale2: float, y_scale: float) -> None:
    multiplier = product_multiplier(scale1, scale2, y_scale)
    if not 2.0**-16 <= multiplier < MULTIPLIER_LIMIT:
        raise UserError(
            f"operator {name!r}: the product of its input scales is {multiplier:.6g} output scales; XNNPACK's kernels "
            f"take from {2.0**-16:g} to below {MULTIPLIER_LIMIT:g}: calibrate on more images"
        )


def _check_product(name: str, scale1: float, scale2: float, y_scale: float) -> None:
    _check_range_of_product(name, scale1, scale2, y_scale)
    if not products_agree(scale1, scale2, y_scale):
        raise UserError(
            f"operator {name!r}: with the scales {scale1!r}, {scale2!r} and {y_scale!r} XNNPACK rounds some products "
            "differently on x86 and ARM; calibrate with arithmetic='xnnpack', and give the product a scale of its own: "
            "no pooling, concatenation or maximum of it with one of its factors"
        )


def _check_requantize(op: RequantizeOp, qparams: Quantization) -> None:
    _check_ratio(op.name, "QUANTIZE", ratio(qparams(op.input).scale, qparams(op.output).scale))


def _check_ratio(name: str, kernel: str, value: np.float32) -> None:
    if not 2.0**-8 <= value <= 2.0**7:
        raise UserError(
            f"operator {name!r}: its input scale is {value:.6g} output scales; XNNPACK's {kernel} takes from "
            f"{2.0**-8:g} to {2.0**7:g}: calibrate on more images, or let both have one scale"
        )


def _check_leaky_relu(op: LeakyReluOp, qparams: Quantization) -> None:
    same = ratio(qparams(op.input).scale, qparams(op.output).scale)
    for value in (same, np.float32(same * np.float32(op.slope))):
        _check_ratio(op.name, "LEAKY_RELU", value)


def _check_range_of_activation(op: ActivationOp, qparams: Quantization) -> None:
    x, y = qparams(op.input), qparams(op.output)
    if op.function == "silu":
        _check_range_of_product(op.name, x.scale, UNIT_INTERVAL.scale, y.scale)
    if op.function == "hardswish":
        tflite_ref.check_hardswish_range(op, x, y)


def _check_activation(op: ActivationOp, qparams: Quantization) -> None:
    _check_range_of_activation(op, qparams)
    x, y = qparams(op.input), qparams(op.output)
    if op.function == "silu":
        _check_product(op.name, x.scale, UNIT_INTERVAL.scale, y.scale)
    if not activations_agree(op.function, x, y):
        raise UserError(
            f"operator {op.name!r}: its {op.function} of {x} may be rounded differently on x86 and ARM; calibrate with "
            "arithmetic='xnnpack', or use relu6 or silu instead"
        )


CHECKS: dict[type, Callable[[Any, Quantization], None]] = {
    ActivationOp: _check_activation,
    AddOp: _check_sum,
    ConvOp: _check_sums,
    ConvTransposeOp: _check_sums,
    LeakyReluOp: _check_leaky_relu,
    MulOp: _check_mul,
    RequantizeOp: _check_requantize,
    SubOp: _check_sum,
}
"""By operator; what XNNPACK leaves to TensorFlow Lite's own kernels is checked as for the reference."""

RANGES: dict[type, Callable[[Any, Quantization], None]] = {
    **CHECKS,
    ActivationOp: _check_range_of_activation,
    MulOp: _check_range_of_mul,
}
"""The same of one implementation: whether others compute alike does not matter."""
