"""Weight scales with which sums are requantized alike in fixed point and by one float32 product.

The fixed-point multiplication rounds twice: M = q * 2**e with q in [1/2, 1), and for e < 0 every threshold
T = (j + 1/2) / M of the output lies 1 / (2 q) lower for it, between half an accumulator and a whole one. Some
accumulator is between the two places at 50 to 100 % of the thresholds, whatever the scales and the bias are: unless all
thresholds lie just below whole numbers. That is so for M a little above 1 / N with N even: T = (2 j + 1) N / 2. Then
the next accumulator down is a whole one away, and 1 / (2 q) is less than that where N is no power of two.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

WINDOW = 1.0 / 5.0
"""A weight scale is moved by at most this share of it, or to the next suitable N where that is further."""
_LEAST = 6.0
"""Of N: with M of 1/2 and more nothing is rounded twice, and 2 and 4 are powers of two."""
_LOSS = 2.0**-21.8
"""How much lower than (j + 1/2) N a threshold is, relatively: M is above 1 / N by what float32 can tell."""
_TRIES = np.arange(-6, 12, dtype=np.int32)[:, None]


def agreeing_weight_scale(
    x_scale: float,
    weight_scale: NDArray[np.float32],
    y_scale: float,
    reach: int,
    divisor: float = 1.0,
    nearest: bool = False,
) -> NDArray[np.float32]:
    """Weight scales (C,) near the given ones, for which both arithmetics requantize every accumulator alike.

    They are larger, by about 1 / N and near powers of two by more, so that weights are to be rounded anew. Where there
    is none within :data:`WINDOW`, the given one stays; for N of some thousands the outermost thresholds may go on
    differing. Applied again, it changes nothing.

    Args:
        reach: the largest magnitude of a centred output code.
        divisor: the scales are divided by it in the integer operator (6 for a hardsigmoid), in float32.
        nearest: smaller ones too, for codes that are shared and cannot be rounded anew.
    """
    sx, sy = np.float32(x_scale), np.float32(y_scale)
    given = np.asarray(weight_scale, np.float32)
    with np.errstate(all="ignore"):
        whole = np.float64(sy) * divisor / (np.float64(sx) * given.astype(np.float64))
        half = whole * (0.5 + 2.0**-22)
        number = 2.0 * (np.rint(half) if nearest else np.floor(half))
        number = _below_power(number, _LOSS * reach, nearest)
        furthest = np.maximum(WINDOW * whole, np.where(whole < 16.0, 2.0, 4.0))
        usable = (number >= _LEAST) & (np.abs(number - whole) <= furthest) & (number < 2.0**22)
        number = np.where(usable, number, _LEAST)
        target = (np.float64(sy) * divisor / (np.float64(sx) * number)).astype(np.float32)
    candidates = (target.view(np.int32) + _TRIES).view(np.float32)  # (tries, C), ascending
    own = candidates / np.float32(divisor)
    single = (sx * own / sy).astype(np.float64)
    double = np.float64(sx) * own.astype(np.float64) / np.float64(sy)
    fits = usable & (single * number - 1.0 > 2.0**-24) & (double * number - 1.0 > 2.0**-30)
    first = candidates[fits.argmax(0), np.arange(len(given))]
    return np.where(fits.any(0), first, given)


def agreeing_multiplier(scale1: float, scale2: float, y_scale: float) -> bool | None:
    """Whether products of these scales are requantized alike; None: it takes a look at every threshold.

    True: the multiplier is just above 1 / N, with N even and clear of powers of two. False: something is rounded twice,
    and it is not (a few such do agree all the same).
    """
    single = float(np.float32(scale1) * np.float32(scale2) / np.float32(y_scale))
    double = float(np.float32(scale1)) * float(np.float32(scale2)) / float(np.float32(y_scale))
    if single >= 0.5:
        return None
    number = 2.0 * round(0.5 / single)
    above = single * number - 1.0, double * number - 1.0
    if number < _LEAST or not (2.0**-24 < above[0] < 2.0**-22 and 2.0**-30 < above[1] < 2.0**-22):
        return False
    power = 2.0 ** math.ceil(math.log2(number))
    return True if number <= power / (1.0 + _LOSS * 255.0 * power) else None


def _below_power(number: NDArray[np.float64], loss: float, nearest: bool) -> NDArray[np.float64]:
    """The next even number so far below a power of two that 1 / (2 q) leaves room for what thresholds are lower, or at
    least 5/6 of it; of codes that are shared one that is no power of two, where that is far away."""
    power = np.exp2(np.ceil(np.log2(np.maximum(number, 2.0))))
    clear = np.maximum(power / (1.0 + loss * power), power * (5.0 / 6.0))
    clear = np.minimum(number, 2.0 * np.floor(0.5 * clear))
    if not nearest:
        return clear
    near = number - clear <= np.maximum(number / 64.0, 2.0)
    return np.where(near, clear, np.where(number == power, number - 2.0, number))
