"""XNNPACK on 64-bit ARM alone, for numbers with which it does not compute as on x86.

The profile ``xnnpack`` refuses such numbers; a file that is made for another profile may have them all the same. Not a
profile to train or export for, hence not in ``integer.profiles``.
"""

from __future__ import annotations

import numpy as np

from hatdet.integer.profile import Table
from hatdet.integer.profiles.checks.xnnpack import RANGES
from hatdet.integer.profiles.xnnpack import Xnnpack
from hatdet.integer.tensors import QuantParams
from hatdet.integer.xnnpack import Integers, hardswish_on_arm, scaled_on_arm


class XnnpackOnArm(Xnnpack):
    """As ``xnnpack``, with ARM's products and hard-swish.

    A hard-swish is that of vector code: the last codes of a tensor, where 8 do not divide their number, are scalar.
    """

    checks = RANGES

    def multiplied(self, products: Integers, multiplier: np.float32) -> Integers:
        return scaled_on_arm(products, multiplier)

    def activation(self, function: str, x: QuantParams, y: QuantParams) -> Table:
        return hardswish_on_arm(x, y) if function == "hardswish" else super().activation(function, x, y)
