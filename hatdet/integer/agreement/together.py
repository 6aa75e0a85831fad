"""Two arithmetics for one file: what the config asks for, where both give the same codes, and scales to try."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hatdet.integer.agreement.multipliers import agreeing_multiplier
from hatdet.integer.profile import NoScale, Profile
from hatdet.integer.profiles.table import PROFILES
from hatdet.integer.tensors import QuantParams
from hatdet.utils.errors import UserError, did_you_mean

WINDOW = 1.0 / 8.0
"""A scale is raised by at most this share of it for the second arithmetic's sake."""
BOTH = "both"
_SHORTHANDS = {BOTH: "tflite_ref+xnnpack"}
_TRIES = 32
_STEPS = sorted({round(2.0 ** (n / 3.0)) for n in range(55)})


@dataclass(frozen=True)
class Arithmetic:
    """What ``arithmetic`` of a config names.

    Attributes:
        promised: its integers are those that are trained, evaluated and proved.
        second: another that is to give the same codes wherever scales can see to it; None: no other.
    """

    promised: Profile
    second: Profile | None = None

    @property
    def together(self) -> Together | None:
        return Together(self.promised, self.second) if self.second is not None else None

    @property
    def takes_equal_gates(self) -> bool:
        """Whether x and its product with a gate may have one scale: then the multiplier is 2**-8."""
        pair = 1.0, 2.0**-8
        return self.second is None and self.promised.product_scale([pair], 1.0) == 1.0


def arithmetic_named(name: object) -> Arithmetic:
    """``A``, ``A+B`` (exactness is promised for A) or ``both``, short for ``tflite_ref+xnnpack``.

    Raises:
        UserError: there is no such arithmetic.
    """
    names = _SHORTHANDS.get(name, name).split("+") if isinstance(name, str) else []
    if not names or len(names) > 2 or len(set(names)) < len(names) or not all(part in PROFILES for part in names):
        hint = did_you_mean(str(name), (*PROFILES, BOTH)) or ";"
        raise UserError(
            f"unknown arithmetic {name!r}{hint} there are {', '.join(PROFILES)}, and two of them for one file, exact "
            f"in the first: 'A+B', or {BOTH!r}"
        )
    return Arithmetic(*(PROFILES[part] for part in names))


class Together:
    """Where two profiles give the same codes, operator by operator, and scales of an output at which they may.

    The scales to try are at or above the given one and within :data:`WINDOW` of it, nearest first.
    """

    def __init__(self, promised: Profile, second: Profile) -> None:
        self.promised, self.second = promised, second
        self.profiles = promised, second

    def sums_agree(self, q1: QuantParams, q2: QuantParams, y: QuantParams, sign: int) -> bool:
        """Whether all 65 536 sums, or with ``sign`` -1 differences, agree. About one in 100 000 does not, so that about
        every other scale suits."""
        return _sums_agree(self.promised, self.second, q1, q2, y, sign)

    # ---- products

    def products_agree(self, scale1: float, scale2: float, y_scale: float) -> bool:
        return _products_agree(self.promised, self.second, scale1, scale2, y_scale)

    def squares_settled(self, scale: float, y_scale: float) -> bool:
        """Whether a map times itself is a product in both."""
        try:
            return all(profile.square_scale(scale, y_scale) == y_scale for profile in self.profiles)
        except NoScale:
            return False

    @staticmethod
    def product_scales(scale1: float, scale2: float, y_scale: float) -> Iterator[float]:
        """A multiplier just above 1 / N for even N (:mod:`~hatdet.integer.agreement.multipliers`)."""
        product = np.float64(np.float32(scale1)) * np.float64(np.float32(scale2))
        first = np.ceil(y_scale / product / 2.0 - 2.0**-20)
        numbers = 2.0 * (first + np.arange(_TRIES))
        found = product * numbers[numbers >= 6.0]
        near = [_moved(found, step) for step in range(-6, 1)]
        yield from _ascending(np.concatenate(near).astype(np.float64), y_scale)

    @staticmethod
    def factor_scales(scale: float, other: float, y_scale: float) -> Iterator[float]:
        """The same for a factor, by the scale of the other one and that of the product."""
        whole = np.float64(np.float32(y_scale)) / np.float64(np.float32(other))
        numbers = 2.0 * (np.floor(whole / scale / 2.0 + 2.0**-20) - np.arange(_TRIES))
        found = whole / numbers[numbers >= 6.0]
        near = [_moved(found, step) for step in range(7)]
        yield from _ascending(np.concatenate(near).astype(np.float64), scale)

    # ---- functions of one code

    def activations_agree(self, function: str, x: QuantParams, y: QuantParams) -> bool:
        """Whether all 256 codes agree, and every implementation of either profile does."""
        return _activations_agree(self.promised, self.second, function, x, y)

    def requantizations_agree(self, x: QuantParams, y: QuantParams) -> bool:
        return _same(profile.requantize(x, y) for profile in self.profiles)

    def leaky_relus_agree(self, x: QuantParams, y: QuantParams, slope: float) -> bool:
        for profile in self.profiles:
            try:
                if profile.leaky_relu_scale(x.scale, y.scale, slope, x == y) != y.scale:
                    return False
            except NoScale:
                return False
        return _same(profile.leaky_relu(x, y, slope) for profile in self.profiles)

    @staticmethod
    def ratio_scales(x_scale: float, y_scale: float) -> Iterator[float]:
        """The ratio of the input's scale to the output's has 8 fractional bits."""
        first = np.floor(256.0 * _ratio(x_scale, y_scale) * (1.0 + 2.0**-20))
        numbers = first - np.arange(4 * _TRIES)
        found = np.float64(np.float32(x_scale)) * 256.0 / numbers[numbers >= 1.0]
        near = [_moved(found, step) for step in (-1, 0, 1)]
        yield from _ascending(np.concatenate(near).astype(np.float64), y_scale)

    def limits_agree(self, activation: str, y: QuantParams) -> bool:
        return self.promised.limits(activation, y) == self.second.limits(activation, y)

    @staticmethod
    def next_scales(y_scale: float) -> Iterator[float]:
        """Scales above in growing steps, from one unit of the last place."""
        yield from (float(_moved(np.full(1, y_scale), step)[0]) for step in _STEPS)


def _same(codes: Iterable[NDArray[Any]]) -> bool:
    first, other = codes
    return bool(np.array_equal(first, other))


def _ratio(scale: float, y_scale: float) -> np.float64:
    return np.float64(np.float32(scale)) / np.float64(np.float32(y_scale))


def _moved(scales: NDArray[np.float64], steps: int) -> NDArray[np.float32]:
    """Float32 neighbours."""
    return (scales.astype(np.float32).view(np.int32) + np.int32(steps)).view(np.float32)


def _ascending(scales: NDArray[np.float64], least: float) -> Iterator[float]:
    found = np.unique(scales.astype(np.float32)).astype(np.float64)
    yield from (float(s) for s in found if least <= s <= least * (1.0 + WINDOW))


@functools.lru_cache(maxsize=1024)
def _sums_agree(
    promised: Profile, second: Profile, q1: QuantParams, q2: QuantParams, y: QuantParams, sign: int
) -> bool:
    return _same(profile.add(q1, q2, y, -128, 127, sign) for profile in (promised, second))


@functools.lru_cache(maxsize=4096)
def _activations_agree(promised: Profile, second: Profile, function: str, x: QuantParams, y: QuantParams) -> bool:
    for profile in (promised, second):
        try:
            if profile.activation_scale(function, x, y) != x.scale:
                return False
        except NoScale:
            return False
    return _same(profile.activation(function, x, y) for profile in (promised, second))


@functools.lru_cache(maxsize=4096)
def _products_agree(promised: Profile, second: Profile, scale1: float, scale2: float, y_scale: float) -> bool:
    """Both are monotone in the product of centred codes: equality at the integers around every threshold is enough."""
    known = agreeing_multiplier(scale1, scale2, y_scale)
    if known is not None:
        return known
    multiplier = np.float64(np.float32(scale1)) * np.float64(np.float32(scale2)) / np.float64(np.float32(y_scale))
    near = np.floor((np.arange(-256, 256) + 0.5) / multiplier)
    products = (near[np.abs(near) <= 255.0 * 255.0 + 2][:, None] + np.arange(-2, 4)).reshape(1, 1, 1, -1)
    values = torch.from_numpy(products.astype(np.float32))
    codes = [p.products(scale1, scale2, y_scale, 1).centred(values.clone(), -255, 255) for p in (promised, second)]
    if not torch.equal(*codes):
        return False
    try:
        return all(p.product_scale([(scale1, scale2)], y_scale) == y_scale for p in (promised, second))
    except NoScale:
        return False
