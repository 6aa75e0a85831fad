"""Activation observers by name: how the range of a tensor is read from calibration or training batches.

An observer turns each tensor it sees into a clipping range. Tensors that share one quantization (the inputs of a
concatenation, say) share one observer: within a step their ranges are united, and only :meth:`RangeObserver.commit`,
at the end of the step, lets the step count, so the scale never changes between two operators of one forward pass.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.ao.quantization.observer import ObserverBase

_SAMPLE = 1 << 16
_BINS = 2048
_CHUNK = 1 << 18  # values that are binned at once: they stay in the cache
_SHARES = tuple(1.0 - 0.025 * i for i in range(21))


def _in_memory(x: Tensor) -> Tensor:
    """All values as a vector, in an order that needs no copy of maps in channels_last."""
    channels_last = x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last)
    return (x.permute(0, 2, 3, 1) if channels_last else x).reshape(-1)


@functools.lru_cache(maxsize=64)
def _places(shape: tuple[int, int, int, int], step: int, device: torch.device) -> Tensor:
    """Where every ``step``-th value, in the order of (B, C, H, W), lies in the memory of a map in channels_last."""
    _, channels, height, width = shape
    image, channel, y, x = np.unravel_index(np.arange(0, math.prod(shape), step), shape)
    return torch.from_numpy(((image * height + y) * width + x) * channels + channel).to(device)


def _sample(x: Tensor) -> Tensor:
    """A regular sub-sample of at least ``_SAMPLE`` values: deterministic, no random state touched."""
    x = x.detach()
    step = max(1, x.numel() // _SAMPLE)
    if step > 1 and x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last):
        return _in_memory(x).index_select(0, _places(tuple(x.shape), step, x.device)).float()
    return x.reshape(-1)[::step].float().contiguous()


def _limits(x: Tensor) -> tuple[float, float]:
    x = x.detach()
    return float(x.amin()), float(x.amax())  # each vectorized, which torch.aminmax is not


def clip_min_max(x: Tensor) -> tuple[float, float]:
    """The whole range."""
    return _limits(x)


def clip_percentile(x: Tensor, share: float = 0.9999) -> tuple[float, float]:
    """The range without the outermost ``1 - share`` of the values at each side that is not zero."""
    return _percentile(_sample(x), share)


def _percentile(values: Tensor, share: float = 0.9999) -> tuple[float, float]:
    last = values.numel() - 1
    # numpy's sort of float32 is vectorized.
    ordered = np.sort(values.numpy()) if values.device.type == "cpu" else values.sort().values
    return float(ordered[round((1 - share) * last)]), float(ordered[round(share * last)])


def quantization_error(x: Tensor, low: float, high: float, scratch: Tensor | None = None) -> float:
    """Mean squared error of 8-bit quantization of ``x`` with the range [low, high] (zero included).

    Args:
        scratch: overwritten; of the size of ``x``.
    """
    low, high = min(low, 0.0), max(high, 0.0)
    scale = max((high - low) / 255.0, 1e-12)
    zero = round(-low / scale)
    codes = torch.div(x, scale, out=scratch).round_().add_(zero).clamp_(0, 255)
    return float(codes.sub_(zero).mul_(scale).sub_(x).square_().mean())


def clip_mse(x: Tensor) -> tuple[float, float]:
    """The shrunken range (50 to 100 % of the whole one) with the least squared error."""
    return _least_squares(_sample(x))


def _least_squares(values: Tensor) -> tuple[float, float]:
    """Shrinks the range step by step, until what is cut off alone is worse than the best range so far."""
    low, high = _limits(values)
    scratch = torch.empty_like(values)
    best, chosen = quantization_error(values, low, high, scratch), 1.0
    for share in _SHARES[1:]:
        if _cut_error(values, low * share, high * share, scratch) > 1.001 * best:  # with room for rounding
            break
        error = quantization_error(values, low * share, high * share, scratch)
        if error < best:
            best, chosen = error, share
    return low * chosen, high * chosen


def _cut_error(x: Tensor, low: float, high: float, scratch: Tensor) -> float:
    """What quantization with that range, or with any part of it, makes of mean squared error at least: its values end
    within a step of the range."""
    low, high = min(low, 0.0), max(high, 0.0)
    step = (high - low) / 255.0
    cut = torch.clamp(x, low - step, high + step, out=scratch).sub_(x)
    return float(torch.dot(cut, cut)) / x.numel()


def clip_kl(x: Tensor) -> tuple[float, float]:
    """The threshold whose 128-level (256 for one-sided data) histogram is nearest in Kullback-Leibler divergence.

    Zeros are left out: they have a code of their own at any scale, and after a ReLU they would hide everything else.

    Source: S. Migacz, "8-bit inference with TensorRT" (GTC 2017).
    """
    low, high = _limits(x)
    top = max(abs(low), abs(high))
    histogram = _histogram(x.detach(), top) if top > 0 else np.zeros(_BINS)
    if histogram.sum() < _BINS:  # too few values for a distribution
        return low, high
    levels = 256 if low >= 0 else 128
    found = _divergences(histogram, levels)
    near = np.flatnonzero(found <= found.min() + 1e-9)  # rounding may order these otherwise
    bins = levels + int(near[0]) * (levels // 4)
    if len(near) > 1:
        bins = min((levels + int(i) * (levels // 4) for i in near), key=lambda b: _divergence(histogram, b, levels))
    limit = top * bins / _BINS
    return max(low, -limit), min(high, limit)


def _histogram(x: Tensor, top: float) -> NDArray[np.float64]:
    """Counts of the magnitudes that are not zero in ``_BINS`` bins from 0 to ``top``, as ``torch.histc`` has them."""
    counts = torch.zeros(_BINS + 1, dtype=torch.int64, device=x.device)
    for part in _in_memory(x).split(_CHUNK):
        places = part.float().abs().mul_(_BINS).div_(top).to(torch.int32)
        counts += torch.bincount(places, minlength=_BINS + 1)
    counts[_BINS - 1] += counts[_BINS]  # ``top`` itself
    counts[0] -= x.numel() - torch.count_nonzero(x)
    return counts[:_BINS].double().cpu().numpy()


def _divergence(histogram: NDArray[np.float64], bins: int, levels: int) -> float:
    """KL divergence of the first ``bins`` (the rest clipped into the last) from their ``levels``-level version."""
    reference = histogram[:bins].copy()
    reference[-1] += histogram[bins:].sum()
    counts = histogram[:bins]
    edges = (np.arange(bins) * levels) // bins
    total = np.bincount(edges, counts, levels)
    filled = np.bincount(edges, counts > 0, levels)
    candidate = np.where(counts > 0, (total / filled.clip(min=1))[edges], 0.0)
    p, q = reference / reference.sum(), candidate / max(candidate.sum(), 1e-12)
    some = p > 0
    return float((p[some] * np.log(p[some] / q[some].clip(min=1e-9))).sum())


def _divergences(histogram: NDArray[np.float64], levels: int) -> NDArray[np.float64]:
    """:func:`_divergence` for ``levels``, 5/4 ``levels``, ... bins, all from running sums.

    With counts r of the reference (N in all) and q the same for all filled bins of a level, the sum of
    r / N * log(r / N / q) parts into the sum of r log r over bins and that of r log q over levels.
    """
    bins, starts = _levels(levels)
    counts, filled, entropy = (
        np.concatenate(([0.0], np.cumsum(values)))
        for values in (histogram, histogram > 0, histogram * np.log(histogram.clip(min=1)))
    )
    whole, inside, last = counts[-1], counts[bins], histogram[bins - 1]
    total = np.diff(counts[starts])
    mean = total / np.diff(filled[starts]).clip(min=1) / inside.clip(min=1e-12)[:, None]
    logs = np.log(mean.clip(min=1e-9))
    at_end = last + whole - inside  # the last bin, and what is clipped into it
    own = entropy[bins - 1] + at_end * np.log(at_end.clip(min=1))
    other = (total * logs).sum(1) + (whole - inside) * np.where(last > 0, logs[:, -1], np.log(1e-9))
    return (own - other) / whole - np.log(whole)


@functools.cache
def _levels(levels: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Thresholds in bins (T,), and where each of the levels begins (T, levels + 1)."""
    bins = np.arange(levels, _BINS + 1, levels // 4)
    return bins, -(-np.arange(levels + 1) * bins[:, None] // levels)


def clip_mix(x: Tensor) -> tuple[float, float]:
    """The best of the other methods for this very tensor: the one with the least squared error."""
    values = _sample(x)
    ranges = [_limits(x), _percentile(values), _least_squares(values), clip_kl(x)]
    scratch = torch.empty_like(values)
    return min(ranges, key=lambda limits: quantization_error(values, limits[0], limits[1], scratch))


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
        limits = _limits(x)
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
