"""XNNPACK on 64-bit ARM alone, for numbers with which it does not compute as on x86.

The profile ``xnnpack`` refuses such numbers; a file that is made for another profile may have them all the same. Not a
profile to train or export for, hence not in ``integer.profiles``.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from hatdet.integer.operators.pointwise.activation_codes import UNIT_INTERVAL
from hatdet.integer.profile import Quantization, Table
from hatdet.integer.profiles.checks.xnnpack import RANGES
from hatdet.integer.profiles.xnnpack import Xnnpack
from hatdet.integer.tensors import QuantParams
from hatdet.integer.xnnpack import as_codes, centred, gate_table, hardswish_on_arm, product_multiplier, scaled_on_arm


class XnnpackOnArm(Xnnpack):
    """As ``xnnpack``, with ARM's products and hard-swish.

    A hard-swish is that of vector code: the last codes of a tensor, where 8 do not divide their number, are scalar.
    """

    def mul(self, q1: QuantParams, q2: QuantParams, y: QuantParams) -> Table:
        products = centred(q1)[:, None] * centred(q2)[None, :]
        return as_codes(scaled_on_arm(products, product_multiplier(q1.scale, q2.scale, y.scale)), y)

    def activation(self, function: str, x: QuantParams, y: QuantParams) -> Table:
        if function == "hardswish":
            return hardswish_on_arm(x, y)
        if function == "silu":
            gate = gate_table("sigmoid", x).astype(np.int64) - UNIT_INTERVAL.zero_point
            multiplier = product_multiplier(x.scale, UNIT_INTERVAL.scale, y.scale)
            return as_codes(scaled_on_arm(centred(x) * gate, multiplier), y)
        return super().activation(function, x, y)

    def check(self, op: Any, qparams: Quantization) -> None:
        if type(op) in RANGES:
            RANGES[type(op)](op, qparams)
