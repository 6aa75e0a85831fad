"""Torch kernels of the integer model, batched, shared by QAT's forward and by the executor.

Between operators a tensor is carried as float32 holding the integers ``code - zero_point`` ("centred codes"), in
channels_last memory: then a zero-padded float32 convolution on rounded weights *is* the integer convolution, as long as
no partial sum reaches 2**24 (:func:`accumulator_bounds` decides, nothing is assumed).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from hatdet.integer import gpu
from hatdet.integer.arithmetic import (
    EXACT_FLOAT32,
    Requantization,
    multiply_by_quantized_multiplier,
    multiply_rounding_once,
)
from hatdet.integer.native.requantization import FixedPoint

CHUNK = 1 << 17
"""Values requantized at a time: the float64 buffer stays in the cache, so the passes over it are nearly free."""

ROW = 1 << 12
"""Values of a row, at most, unless an image line has more."""

Convolution = Callable[[Tensor, Tensor, Tensor | None], Tensor]
"""Of an input, a weight and perhaps a bias."""

_buffers: dict[tuple[int, int, str, torch.dtype], Tensor] = {}


def accumulator_bounds(weight: Tensor, bias: Tensor, x_lo: int, x_hi: int) -> Tensor:
    """Largest magnitude of any partial sum of a convolution, for each output channel (float64, shape (O,)).

    ``weight`` (O, ...) and ``bias`` (O,) hold integers; inputs are centred codes in [x_lo, x_hi] with x_lo <= 0 <=
    x_hi. Every partial sum, in whatever order, lies between the sum of all negative and the sum of all positive terms.
    """
    flat = weight.reshape(weight.shape[0], -1)
    positive = flat.clamp(min=0).sum(1, dtype=torch.float64)
    negative = flat.sum(1, dtype=torch.float64) - positive
    b = bias.to(torch.float64)
    top = positive * x_hi + negative * x_lo + b.clamp(min=0)
    bottom = positive * x_lo + negative * x_hi + b.clamp(max=0)
    return torch.maximum(top, -bottom)


def worst_bound(fan_in: int, span: int) -> float:
    """Bound of the convolution sum of any int8 weights: sum of |w| <= 127 * fan_in, inputs of magnitude <= span."""
    return 127.0 * fan_in * span


def convolve(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    groups: int,
    parts: int = 0,
) -> Tensor:
    """Integer accumulators of a convolution of centred codes ``x`` (B, C, H, W), see :func:`accumulate`."""

    def function(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return F.conv2d(x, weight, bias, stride, padding, dilation, groups)

    if x.device.type == "cpu" or not gpu.fits(weight, groups) or (groups > 1 and parts > 1):
        return accumulate(function, x, weight, bias, groups, parts)

    def exact(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return gpu.convolve(x, weight, bias, stride, padding, dilation, groups)

    return in_parts(exact, x, weight, bias, parts)


def accumulate(
    function: Convolution,
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    groups: int = 1,
    parts: int = 0,
) -> Tensor:
    """Integer accumulators, as floats: ``function`` of centred codes ``x`` (B, C, H, W), integer weights and biases.

    ``parts`` = 0: in float32 at once (float32 result). More: the input channels are cut into so many parts,
    each exact in float32 without the bias, summed in float64 (float64 result). See :func:`parts_needed`. Other devices
    than the CPU compute in float64 here: their float32 convolutions may round, see :mod:`hatdet.integer.gpu`.
    """
    if x.device.type != "cpu":
        return function(x.double(), weight.double(), bias.double()).round_()
    if parts > 1 and groups != 1:
        return function(x.double(), weight.double(), bias.double())
    return in_parts(function, x, weight, bias, parts)


def in_parts(function: Convolution, x: Tensor, weight: Tensor, bias: Tensor, parts: int) -> Tensor:
    """:func:`accumulate` where ``function`` is exact in float32 as long as the sums of a part are."""
    if parts == 0:
        return function(x, weight, bias.to(x.dtype))
    total = bias.double().view(1, -1, 1, 1)
    for xs, ws in zip(x.chunk(parts, 1), weight.chunk(parts, 1), strict=True):
        total = total + function(xs, ws, None).double()
    return total.contiguous(memory_format=torch.channels_last)


def parts_needed(weight: Tensor, bias: Tensor, x_lo: int, x_hi: int, bounds: Tensor | None = None) -> int:
    """In how many parts the input channels must be cut so that each part's float32 convolution is exact.

    0: none, the bias fits in too. 1: only the bias is too large, and is added afterwards.
    """
    if bounds is None:
        bounds = accumulator_bounds(weight, bias, x_lo, x_hi)
    if float(bounds.max()) < EXACT_FLOAT32:
        return 0
    zero = torch.zeros_like(bias)
    for parts in range(1, weight.shape[1] + 1):
        pieces = weight.chunk(parts, 1)
        if len(pieces) == parts and all(
            float(accumulator_bounds(p, zero, x_lo, x_hi).max()) < EXACT_FLOAT32 for p in pieces
        ):
            return parts
    return 2


class TensorRequantization:
    """A :class:`~hatdet.integer.arithmetic.Requantization` laid out for a device and an image width."""

    def __init__(self, req: Requantization, device: torch.device | str = "cpu") -> None:
        self.req = req
        self.scale = torch.from_numpy(req.a).to(device)
        self.delta = torch.from_numpy(req.delta).to(device)
        self.all_exact = bool(req.exact.all())
        self.shiftable = bool(req.shiftable.all())
        self._rows: dict[tuple[int, bool], tuple[Tensor, Tensor]] = {}

    def rows(self, repeat: int, signed: bool) -> tuple[Tensor, Tensor]:
        """(multipliers, additive constants) repeated ``repeat`` times, for rows of channels-last values.

        The constant is 1/2 + delta for accumulators that are never negative, else the delta alone.
        """
        key = (repeat, signed)
        if key not in self._rows:
            constant = self.delta if signed else self.delta + 0.5
            self._rows[key] = (self.scale.repeat(repeat), constant.repeat(repeat))
        return self._rows[key]

    @property
    def fused(self) -> FixedPoint | None:
        """For the kernels in C, to outputs of 8 bits; None: they do not multiply so."""
        if self.req.multiply not in (multiply_by_quantized_multiplier, multiply_rounding_once):
            return None
        return FixedPoint(self.req.m, self.req.e, once=self.req.multiply is multiply_rounding_once)

    def centred(self, acc: Tensor, lo: int, hi: int) -> Tensor:
        """:func:`requantize_`."""
        return requantize_(acc, self, lo, hi)

    def codes(self, acc: Tensor, lo: int, hi: int, zero: int) -> Tensor:
        """:func:`requantize_to_codes`."""
        return requantize_to_codes(acc, self, lo, hi, zero)


def requantize_(acc: Tensor, req: TensorRequantization, lo: int, hi: int) -> Tensor:
    """Accumulators (B, C, H, W), channels_last, to centred output codes clamped to [lo, hi], as float32.

    A float32 ``acc`` is overwritten with the result. ``lo`` and ``hi`` are relative to the output's zero point.
    """
    if not req.all_exact:
        return _requantize_literal(acc, req, lo, hi)
    acc = acc if acc.permute(0, 2, 3, 1).is_contiguous() else acc.contiguous(memory_format=torch.channels_last)
    source, repeat = as_rows(acc)
    inner = source.shape[1]
    target = source if acc.dtype == torch.float32 else torch.empty_like(source, dtype=torch.float32)
    signed = lo < 0
    a, constant = req.rows(repeat, signed)
    step = source.shape[0] if acc.is_cuda else max(1, CHUNK // inner)
    buffer = buffer_of(min(step, source.shape[0]) * inner, 0, acc.device)
    spare = buffer_of(min(step, source.shape[0]) * inner, 1, acc.device) if signed else None
    half = torch.full((), 0.5, dtype=torch.float64, device=acc.device)  # filled there: nothing waits for a copy
    for start in range(0, source.shape[0], step):
        piece = source[start : start + step]
        buf = buffer[: piece.numel()].view_as(piece)
        buf.copy_(piece)
        if spare is None:
            torch.addcmul(constant, buf, a, out=buf)
        else:
            tie = spare[: piece.numel()].view_as(piece)
            torch.addcmul(half, _signs(buf, tie), constant, out=tie)
            torch.addcmul(tie, buf, a, out=buf)
        buf.floor_().clamp_(lo, hi)
        target[start : start + step] = buf
    return acc if target is source else as_maps(target, acc)


def requantize_to_codes(acc: Tensor, req: TensorRequantization, lo: int, hi: int, zero: int) -> Tensor:
    """As :func:`requantize_`, but a new uint8 tensor of ``centred code + zero``, channels_last (CPU)."""
    signed = lo < 0
    if not (req.shiftable if signed else req.all_exact) or not acc.permute(0, 2, 3, 1).is_contiguous():
        shifted = requantize_(acc, req, lo, hi) + float(zero)
        return shifted.to(torch.int32).to(torch.uint8)
    source, repeat = as_rows(acc)
    inner = source.shape[1]
    target = torch.empty(source.shape, dtype=torch.uint8)
    a, constant = req.rows(repeat, signed)
    step = max(1, CHUNK // inner)
    buffer = buffer_of(min(step, source.shape[0]) * inner, 0, acc.device)
    spare = buffer_of(min(step, source.shape[0]) * inner, 1, acc.device) if signed else buffer
    half = torch.tensor(0.5 + zero, dtype=torch.float64)
    whole = buffer_of(min(step, source.shape[0]) * inner, 2, acc.device, torch.int32)
    for start in range(0, source.shape[0], step):
        piece = source[start : start + step]
        buf = buffer[: piece.numel()].view_as(piece)
        buf.copy_(piece)
        if signed:
            tie = spare[: piece.numel()].view_as(piece)
            torch.addcmul(half, _signs(buf, tie), constant, out=tie)
            torch.addcmul(tie, buf, a, out=buf).clamp_(lo + zero, hi + zero)
        else:
            torch.addcmul(constant, buf, a, out=buf).clamp_(lo, hi)
        codes = whole[: piece.numel()].view_as(piece).copy_(buf)  # nothing is negative here: truncation is the floor
        target[start : start + step] = codes if signed or not zero else codes.add_(zero)
    return as_maps(target, acc)


def _signs(values: Tensor, out: Tensor) -> Tensor:
    """-1, 0 or 1 for integers; several times faster than torch.sign or copysign."""
    return torch.clamp(values, -1.0, 1.0, out=out)


def as_rows(acc: Tensor) -> tuple[Tensor, int]:
    """Channels-last maps as rows of whole pixels: a view (rows, values), and the pixels in a row.

    A row is as many image lines as make some thousand values: broadcasting over channels is cheap in long rows, and
    what is repeated along a row has to come from memory at every call when it is longer than the caches care for.
    """
    batch, channels, height, width = acc.shape
    line = width * channels
    lines = next((n for n in range(min(ROW // max(1, line), height), 1, -1) if height % n == 0), 1)
    size = lines * line
    return acc.as_strided((batch * height // lines, size), (size, 1)), lines * width


def as_maps(rows: Tensor, like: Tensor) -> Tensor:
    """Inverse of :func:`as_rows`; strides are those of channels_last also where sizes of 1 leave them open."""
    batch, channels, height, width = like.shape
    return rows.as_strided((batch, channels, height, width), (height * width * channels, 1, width * channels, channels))


def _requantize_literal(acc: Tensor, req: TensorRequantization, lo: int, hi: int) -> Tensor:
    """The same in int64, word for word: for multipliers outside the range of the float64 proof."""
    values = acc.detach().cpu().to(torch.float64).numpy().astype(np.int64)
    m, e = (v.reshape(1, -1, 1, 1) for v in (req.req.m, req.req.e))
    y = np.clip(req.req.multiply(values, m, e), lo, hi).astype(np.float32)
    return torch.from_numpy(y).to(acc.device).contiguous(memory_format=torch.channels_last)


def buffer_of(size: int, slot: int, device: torch.device, dtype: torch.dtype = torch.float64) -> Tensor:
    key = (size, slot, str(device), dtype)
    if key not in _buffers:
        if len(_buffers) > 64:
            _buffers.clear()
        _buffers[key] = torch.empty(size, dtype=dtype, device=device)
    return _buffers[key]


def lookup_pairs(x1: Tensor, x2: Tensor, table: Tensor, zero1: int, zero2: int) -> Tensor:
    """``table[q1 + 128, q2 + 128]`` for centred codes; ``table`` float32 of 65 536 entries (centred outputs).

    Sizes of 1 stand for all positions of the other tensor.
    """
    offset = (zero1 + 128) * 256 + zero2 + 128
    if x1.dtype == torch.uint8:
        index = x1.to(torch.int32).mul_(256)
        index = (index.add_(x2) if torch.broadcast_shapes(x1.shape, x2.shape) == x1.shape else index + x2).add_(offset)
    else:
        index = torch.add(x2, x1, alpha=256).add_(offset).to(torch.int32)
    out = table.index_select(0, index.permute(0, 2, 3, 1).reshape(-1))
    batch, channels, height, width = index.shape
    return out.view(batch, height, width, channels).permute(0, 3, 1, 2)


def lookup(x: Tensor, table: Tensor, zero: int) -> Tensor:
    """``table[q + 128]`` for centred codes; ``table`` float32 of 256 entries (centred outputs), or of as many for each
    channel, one after another."""
    index = x.to(torch.int32).add_(zero + 128)
    if table.numel() > 256:
        index.add_(torch.arange(0, table.numel(), 256, dtype=torch.int32, device=x.device).view(1, -1, 1, 1))
    out = table.index_select(0, index.permute(0, 2, 3, 1).reshape(-1))
    batch, channels, height, width = x.shape
    return out.view(batch, height, width, channels).permute(0, 3, 1, 2)
