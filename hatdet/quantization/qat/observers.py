"""Activation observers by name: how the range of a tensor is read from calibration or training batches.

An observer turns each tensor it sees into a clipping range. Tensors that share one quantization (the inputs of a
concatenation, say) share one observer: within a step their ranges are united, and only :meth:`RangeObserver.commit`,
at the end of the step, lets the step count, so the scale never changes between two operators of one forward pass.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.ao.quantization.observer import ObserverBase

_SAMPLE = 1 << 16
_BINS = 2048


def _sample(x: Tensor) -> Tensor:
    """A regular sub-sample of at most ``_SAMPLE`` values: deterministic, no random state touched."""
    flat = x.detach().reshape(-1)
    step = max(1, flat.numel() // _SAMPLE)
    return flat[::step].float()


def _limits(x: Tensor) -> tuple[float, float]:
    low, high = torch.aminmax(x)
    return float(low), float(high)


def clip_min_max(x: Tensor) -> tuple[float, float]:
    """The whole range."""
    return _limits(x.detach())


def clip_percentile(x: Tensor, share: float = 0.9999) -> tuple[float, float]:
    """The range without the outermost ``1 - share`` of the values at each side that is not zero."""
    values = _sample(x).sort().values
    last = values.numel() - 1
    return float(values[round((1 - share) * last)]), float(values[round(share * last)])


def quantization_error(x: Tensor, low: float, high: float) -> float:
    """Mean squared error of 8-bit quantization of ``x`` with the range [low, high] (zero included)."""
    low, high = min(low, 0.0), max(high, 0.0)
    scale = max((high - low) / 255.0, 1e-12)
    zero = round(-low / scale)
    codes = torch.clamp(torch.round(x / scale) + zero, 0, 255)
    return float(((codes - zero) * scale - x).square().mean())


def clip_mse(x: Tensor) -> tuple[float, float]:
    """The shrunken range (50 to 100 % of the whole one) with the least squared error."""
    values = _sample(x)
    low, high = _limits(values)
    shares = [1.0 - 0.025 * i for i in range(21)]
    best = min(shares, key=lambda share: quantization_error(values, low * share, high * share))
    return low * best, high * best


def clip_kl(x: Tensor) -> tuple[float, float]:
    """The threshold whose 128-level (256 for one-sided data) histogram is nearest in Kullback-Leibler divergence.

    Zeros are left out: they have a code of their own at any scale, and after a ReLU they would hide everything else.

    Source: S. Migacz, "8-bit inference with TensorRT" (GTC 2017).
    """
    low, high = _limits(x.detach())
    top = max(abs(low), abs(high))
    magnitudes = x.detach().float().abs()
    histogram = torch.histc(magnitudes[magnitudes > 0], _BINS, 0, top).double().cpu() if top > 0 else torch.zeros(1)
    if histogram.sum() < _BINS:  # too few values for a distribution
        return low, high
    levels = 256 if low >= 0 else 128
    best_bins, best = _BINS, float("inf")
    for bins in range(levels, _BINS + 1, levels // 4):
        divergence = _divergence(histogram, bins, levels)
        if divergence < best:
            best, best_bins = divergence, bins
    limit = top * best_bins / _BINS
    return max(low, -limit), min(high, limit)


def _divergence(histogram: Tensor, bins: int, levels: int) -> float:
    """KL divergence of the first ``bins`` (the rest clipped into the last) from their ``levels``-level version."""
    reference = histogram[:bins].clone()
    candidate_counts = reference.clone()
    reference[-1] += histogram[bins:].sum()
    edges = (torch.arange(bins) * levels) // bins
    total = torch.zeros(levels, dtype=torch.float64).index_add_(0, edges, candidate_counts)
    filled = torch.zeros(levels, dtype=torch.float64).index_add_(0, edges, (candidate_counts > 0).double())
    candidate = torch.where(candidate_counts > 0, (total / filled.clamp(min=1))[edges], 0.0)
    p, q = reference / reference.sum(), candidate / candidate.sum().clamp(min=1e-12)
    mask = p > 0
    return float((p[mask] * (p[mask] / q[mask].clamp(min=1e-9)).log()).sum())


def clip_mix(x: Tensor) -> tuple[float, float]:
    """The best of the other methods for this very tensor: the one with the least squared error."""
    values = _sample(x)
    ranges = [clip_min_max(x), clip_percentile(x), clip_mse(x), clip_kl(x)]
    return min(ranges, key=lambda limits: quantization_error(values, *limits))


CLIPPERS: dict[str, Callable[[Tensor], tuple[float, float]]] = {
    "min_max": clip_min_max,
    "moving_average": clip_min_max,
    "percentile": clip_percentile,
    "mse": clip_mse,
    "kl": clip_kl,
    "mix": clip_mix,
}
OBSERVERS = tuple(CLIPPERS)
SMALLEST_SCALE = 2.0**-16
"""Of an activation. With a weight scale of at least |b| * 2**-14 (``WeightFakeQuantize``), a bias is at most 2**30."""


class RangeObserver(ObserverBase):
    """Range of a tensor, or of several that share one quantization.

    Args:
        method: one of ``OBSERVERS``. ``min_max`` unites all steps; ``moving_average`` weighs a new step with
            ``averaging_constant``; the clipping methods take the mean over the steps.
        averaging_constant: weight of a new step, for ``moving_average``.
    """

    ema_copy_buffers = True
    min_val: Tensor
    max_val: Tensor
    count: Tensor

    def __init__(self, method: str = "moving_average", averaging_constant: float = 0.01) -> None:
        super().__init__(dtype=torch.qint8, is_dynamic=False)
        if method not in CLIPPERS:
            raise ValueError(f"unknown observer {method!r}; use one of {', '.join(OBSERVERS)}")
        self.method = method
        self.bits = 8
        self.averaging_constant = averaging_constant
        self.register_buffer("min_val", torch.zeros(()))
        self.register_buffer("max_val", torch.zeros(()))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))
        self._pending: tuple[float, float] | None = None
        self.not_finite = False

    def forward(self, x: Tensor) -> Tensor:
        clip = CLIPPERS[self.method] if self.bits == 8 else clip_min_max  # 16 bits have codes enough for all values
        limits = _limits(x.detach())
        if not all(map(_finite, limits)):
            self.not_finite = True  # clipping would sort or count them
        else:
            self.add_range(*(limits if clip is clip_min_max else clip(x)))
        return x

    def add_range(self, low: float, high: float) -> None:
        """Unite a range with what this step has seen so far."""
        if not (_finite(low) and _finite(high)):
            self.not_finite = True
            return
        if self._pending is not None:
            low, high = min(low, self._pending[0]), max(high, self._pending[1])
        self._pending = (low, high)

    def commit(self) -> bool:
        """Let this step's range count; False where nothing was seen, or something that is not finite."""
        pending, self._pending = self._pending, None
        bad, self.not_finite = self.not_finite, False
        if pending is None or bad:
            return False
        low, high = pending
        seen = int(self.count)
        if seen:
            old_low, old_high = float(self.min_val), float(self.max_val)
            if self.method == "min_max":
                low, high = min(low, old_low), max(high, old_high)
            else:
                weight = self.averaging_constant if self.method == "moving_average" else 1.0 / (seen + 1)
                low, high = old_low + (low - old_low) * weight, old_high + (high - old_high) * weight
        self.min_val.fill_(low)
        self.max_val.fill_(high)
        self.count.add_(1)
        return True

    def calculate_qparams(self, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """(scale float32, zero point int32) of the codes; the range always holds zero, exactly representable.

        16 bits are symmetric: scale = max|range| / 32767, zero point 0.
        """
        low, high = min(float(self.min_val), 0.0), max(float(self.max_val), 0.0)
        if self.bits == 16:
            scale = torch.tensor(max(-low, high) / 32767.0, dtype=torch.float32, device=self.min_val.device)
            return scale.clamp(min=2.0**-28), torch.zeros((), dtype=torch.int32, device=self.min_val.device)
        scale = torch.tensor(max((high - low) / 255.0, SMALLEST_SCALE), dtype=torch.float32, device=self.min_val.device)
        zero = min(127, max(-128, round(-128 - low / float(scale))))
        return scale, torch.tensor(zero, dtype=torch.int32, device=self.min_val.device)


def _finite(value: float) -> bool:
    return value - value == 0.0
