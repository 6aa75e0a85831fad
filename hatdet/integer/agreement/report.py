"""Where a graph's operators have other codes in a second arithmetic: from tables and thresholds, without images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hatdet.integer.graph import IntGraph
from hatdet.integer.operators.layout.resize_bilinear import ResizeBilinearOp, factor_of
from hatdet.integer.operators.pairs.pair import TableOp
from hatdet.integer.operators.pointwise.activation import ActivationOp
from hatdet.integer.operators.pointwise.clamp import ClampOp
from hatdet.integer.operators.pointwise.leaky_relu import LeakyReluOp
from hatdet.integer.operators.pointwise.prelu import PreluOp
from hatdet.integer.operators.pointwise.requantize import RequantizeOp
from hatdet.integer.operators.windows.weighted import WeightedOp
from hatdet.integer.profile import Profile, WeightedSums
from hatdet.integer.profiles.checks.tflite_ref import largest_accumulators
from hatdet.integer.tensors import QuantParams

Codes = NDArray[Any]


@dataclass(frozen=True)
class Disagreement:
    """An operator that gives other codes: ``differing`` of ``total`` ``unit``s, by at most ``lsb``."""

    name: str
    kind: str
    differing: int
    total: int
    unit: str
    lsb: int

    def __str__(self) -> str:
        return f"{self.name} ({self.kind}): {self.differing} of {self.total} {self.unit}, by at most {self.lsb} LSB"


def disagreements(graph: IntGraph, second: Profile) -> list[Disagreement]:
    """The operators that a second arithmetic computes otherwise, in execution order; those left out are equal for every
    input."""
    found = []
    for op in graph.ops:
        for kind, (unit, codes) in _CODES.items():
            if isinstance(op, kind):
                first, other = (codes(op, profile, graph.qparams) for profile in (graph.profile, second))
                lsb = np.abs(first.astype(np.int64) - other)
                if lsb.any():
                    found.append(Disagreement(op.name, op.kind, *_counted(lsb, unit), unit, int(lsb.max())))
    return found


def _counted(lsb: NDArray[np.int64], unit: str) -> tuple[int, int]:
    if unit == _THRESHOLDS:  # the accumulators around each
        lsb = lsb.max(-1)
    return int(np.count_nonzero(lsb)), lsb.size


def _with_limits(op: Any, profile: Profile, y: QuantParams) -> Any:
    """The operator with the codes that a profile's kernels clamp to, which they derive themselves."""
    lo, hi = profile.limits(op.activation, y)
    return replace(op, lo=lo, hi=hi)


def _sums(op: Any, profile: Profile, qparams: Callable[[str], QuantParams]) -> Codes:
    """Codes of the accumulators around every threshold: (O, thresholds, 6). Both arithmetics are monotone in them."""
    x, y = qparams(op.input), qparams(op.output)
    if y.bits == 16:
        return np.zeros((1, 1, 1))  # all profiles have one kernel for these
    lo, hi = (limit - y.zero_point for limit in profile.limits(op.activation, y))
    steps = np.arange(y.lowest - y.zero_point, y.highest - y.zero_point) + 0.5
    bound = largest_accumulators(op, x).astype(np.float64)
    sums = WeightedSums(x.scale, op.weight_scale, y, bound)
    near = np.floor(steps / sums.multiplier[:, None])[..., None] + np.arange(-2, 4)
    near = np.clip(near, -bound[:, None, None], bound[:, None, None])
    acc = torch.from_numpy(near.reshape(1, len(near), 1, -1))
    made = profile.sums(sums).centred(acc, lo, hi)
    return made.numpy().reshape(near.shape)


def _pairs(op: Any, profile: Profile, qparams: Callable[[str], QuantParams]) -> Codes:
    y = qparams(op.output)
    op = _with_limits(op, profile, y) if hasattr(op, "activation") else op
    return op.table(profile, qparams(op.input1), qparams(op.input2), y)  # type: ignore[no-any-return]


def _clamps(op: Any, profile: Profile, qparams: Callable[[str], QuantParams]) -> Codes:
    lo, hi = profile.limits(op.activation, qparams(op.output))
    return np.clip(np.arange(-128, 128), lo, hi)


def _bilinear(op: Any, profile: Profile, qparams: Callable[[str], QuantParams]) -> Codes:
    x = qparams(op.input)
    codes = np.random.default_rng(0).integers(-128, 128, (1, 1, 32, 32)) - x.zero_point
    factor = factor_of((1, 1, 32, 32), op.factor, op.size) if op.factor else 2
    return profile.bilinear(torch.from_numpy(codes).float(), factor, x.zero_point).numpy()


def _of_one(make: Callable[[Any, Profile, QuantParams, QuantParams], Codes]) -> Callable[..., Codes]:
    return lambda op, profile, qparams: make(op, profile, qparams(op.input), qparams(op.output))


_THRESHOLDS, _CODES_OF_INPUT = "thresholds", "input codes"
_CODES: dict[type, tuple[str, Callable[..., Codes]]] = {
    WeightedOp: (_THRESHOLDS, _sums),
    TableOp: ("pairs of codes", _pairs),
    ClampOp: (_CODES_OF_INPUT, _clamps),
    ActivationOp: (_CODES_OF_INPUT, _of_one(lambda op, profile, x, y: profile.activation(op.function, x, y))),
    LeakyReluOp: (_CODES_OF_INPUT, _of_one(lambda op, profile, x, y: profile.leaky_relu(x, y, op.slope))),
    PreluOp: (
        "input codes of its slopes",
        _of_one(lambda op, profile, x, y: profile.prelu(x, y, op.alpha, op.alpha_scale)),
    ),
    RequantizeOp: (_CODES_OF_INPUT, _of_one(lambda op, profile, x, y: profile.requantize(x, y))),
    ResizeBilinearOp: ("values of a random map", _bilinear),
}
"""By operator: what is compared, and its codes in an arithmetic. Others copy, compare or average codes."""


def lines(graph: IntGraph, second: Profile, found: Sequence[Disagreement], shown: int = 5) -> Iterator[str]:
    """What :func:`disagreements` found, for people."""
    total = len(graph.ops)
    if not found:
        yield (
            f"second arithmetic {second.name}: all {total} operators have the same codes for every input, those of "
            f"{second.kernels}"
        )
        return
    yield (
        f"second arithmetic {second.name}: {total - len(found)} of {total} operators have the same codes for every "
        f"input, those of {second.kernels}; others:"
    )
    worst = sorted(found, key=lambda d: -d.differing / d.total)
    yield from (f"  {entry}" for entry in worst[:shown])
    if len(found) > shown:
        yield f"  and {len(found) - shown} more"
