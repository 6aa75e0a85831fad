"""The functions of the compiled library, of torch tensors."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hatdet.integer.native.requantization import FixedPoint, Fused

Pair = tuple[int, int]
ROWS_IN_CACHE = 1 << 17
"""Bytes of padded input that are taken at a time."""
WORTH_A_THREAD = 1 << 22
"""Products below which another thread costs more than it saves."""
_LOOK_UPS_TOGETHER = 1 << 20


class _Layer(ctypes.Structure):
    """``Layer`` of kernels.c."""

    _fields_ = [
        *((name, ctypes.c_int32) for name in ("channels", "outputs", "groups", "depthwise")),
        *((name, ctypes.c_int32 * 2) for name in ("kernel", "stride", "padding", "dilation")),
        *((name, ctypes.c_int32) for name in ("zero", "lo", "hi", "out", "fixed", "shifts")),
        ("half", ctypes.c_int64),
        *((name, ctypes.c_void_p) for name in ("weight", "bias", "scale")),
        *((name, ctypes.c_void_p) for name in ("left", "multiplier", "add", "away", "right")),
    ]  # fmt: skip


class Kernels:
    """The library.

    Raises:
        AttributeError: it lacks a function.
    """

    def __init__(self, library: Any) -> None:
        number, pointer, size = ctypes.c_int32, ctypes.c_void_p, ctypes.c_int64
        self._convolve = library.hatdet_convolve
        self._convolve.argtypes = [pointer, pointer, pointer, *[size] * 6, number]
        self._convolve.restype = number
        self._look_up = library.hatdet_look_up
        self._look_up.argtypes = [pointer, pointer, pointer, size]
        self._look_up.restype = None
        self._look_up_pairs = library.hatdet_look_up_pairs
        self._look_up_pairs.argtypes = [pointer, pointer, pointer, pointer, size]
        self._look_up_pairs.restype = None
        self.lanes, self.group = int(library.hatdet_lanes()), int(library.hatdet_group())

    @property
    def description(self) -> str:
        return f"{self.lanes * self.group} products at once"

    def __deepcopy__(self, memo: Any) -> Kernels:
        return self  # models that hold an executor are copied

    def look_up(self, x: Tensor, table: Tensor) -> Tensor:
        """``table`` (256 bytes) of every byte; uint8, channels_last."""
        x = x.contiguous(memory_format=torch.channels_last)
        made = torch.empty_like(x)
        self._look_up(x.data_ptr(), table.data_ptr(), made.data_ptr(), x.numel())
        return made

    def look_up_pairs(self, x: Tensor, y: Tensor, table: Tensor) -> Tensor:
        """``table`` (65 536 bytes) of every pair of bytes of maps of one shape; uint8, channels_last."""
        x, y = (v.contiguous(memory_format=torch.channels_last) for v in (x, y))
        made = torch.empty_like(x)
        self._look_up_pairs(x.data_ptr(), y.data_ptr(), table.data_ptr(), made.data_ptr(), x.numel())
        return made


class NativeConv:
    """A convolution of bytes to bytes, its weights packed once.

    y = clamp(rounded(sum w * (x - zero) + bias), lo, hi) + out; a padded position has the byte ``zero``.

    Args:
        weight: (O, I / groups, kh, kw), int8.
        bias: (O,), int32.
        fused: how sums are rounded; it must take their magnitudes.
        zero: the byte of 0 in the input.
        limits: (lo, hi, out): limits relative to ``out``, the byte of 0 in the output.
    """

    def __init__(
        self,
        kernels: Kernels,
        weight: NDArray[np.int8],
        bias: NDArray[np.int32],
        fused: Fused,
        zero: int,
        limits: tuple[int, int, int],
        stride: Pair,
        padding: Pair,
        dilation: Pair,
        groups: int,
    ) -> None:
        outputs, inside, *kernel = weight.shape
        self._kernels, self.outputs = kernels, outputs
        self._products = int(np.prod(weight.shape[1:]))
        self._window = [k + (k - 1) * (d - 1) for k, d in zip(kernel, dilation, strict=True)]
        self.stride, self.padding = stride, padding
        self._depthwise = inside == 1 and groups == outputs
        self._flat = (*kernel, *stride, *padding) == (1, 1, 1, 1, 0, 0)  # every position by itself
        full = bias.astype(np.int64) - zero * weight.astype(np.int64).sum((1, 2, 3))
        wrapped = full.astype(np.uint64).astype(np.uint32).view(np.int32)  # as the sums do
        whole = dilation[1] == 1 and groups == 1
        packed = _pairs_of_rows(weight, kernels.lanes) if self._depthwise else _panels(weight, kernels, groups, whole)
        blocks = 1 if self._depthwise else groups
        numbers = fused.arrays()
        shifts = "left" in numbers and bool(numbers["left"].any())
        arrays = {n: _padded(v, blocks, kernels.lanes) for n, v in (numbers | {"bias": wrapped}).items()}
        arrays["weight"] = packed
        self._arrays = arrays  # what the structure points to stays
        pair = ctypes.c_int32 * 2
        self._layer = _Layer(
            inside * groups, outputs, groups, self._depthwise, pair(*kernel), pair(*stride), pair(*padding),
            pair(*dilation), zero, *limits, isinstance(fused, FixedPoint), shifts, fused.half,
            **{name: array.ctypes.data for name, array in arrays.items()},
        )  # fmt: skip
        self._address = ctypes.addressof(self._layer)

    def __call__(self, x: Tensor) -> Tensor:
        """uint8 (B, I, H, W) -> uint8 (B, O, H', W'), channels_last."""
        x = x.contiguous(memory_format=torch.channels_last)
        batch, channels, height, width = x.shape
        rows, columns = ((x.shape[2 + i] + 2 * self.padding[i] - self._window[i]) // self.stride[i] + 1 for i in (0, 1))
        made = torch.empty((batch, self.outputs, rows, columns), dtype=torch.uint8).contiguous(
            memory_format=torch.channels_last
        )
        threads = self._threads(batch * rows * columns)
        if self._flat:
            batch, height, width, rows, columns = 1, batch * height * width, 1, batch * rows * columns, 1
        band = self._band(channels, width, batch * rows, rows, threads)
        if self._kernels._convolve(
            self._address, x.data_ptr(), made.data_ptr(), batch, height, width, rows, columns, band, threads
        ):
            raise MemoryError(f"no memory for a convolution of maps of {height} x {width}")
        return made

    def _threads(self, positions: int) -> int:
        work = positions * self._products * self.outputs // WORTH_A_THREAD
        return max(1, min(torch.get_num_threads(), work))

    def _band(self, channels: int, width: int, all_rows: int, rows: int, threads: int) -> int:
        """Rows of output that are computed together: their input stays in the cache, and every thread has some."""
        line = (width + 2 * self.padding[1]) * channels * (4 if self._depthwise else 2)
        fitting = (ROWS_IN_CACHE // max(line, 1) - self._window[0]) // self.stride[0] + 1
        if threads > 1:
            fitting = min(fitting, -(-all_rows // (2 * threads)))
        return max(1, min(fitting, rows))


def _panels(weight: NDArray[np.int8], kernels: Kernels, groups: int, whole: bool) -> NDArray[Any]:
    """(O, I, kh, kw) -> (groups, vectors of outputs, segments, elements / GROUP, LANES, GROUP); 0 where none is."""
    lanes, group = kernels.lanes, kernels.group
    outputs, _, rows, columns = weight.shape
    segments = rows if whole else rows * columns
    taps = weight.transpose(0, 2, 3, 1).reshape(groups, outputs // groups, segments, -1)
    made, length = taps.shape[1], taps.shape[3]
    padded = np.pad(taps, ((0, 0), (0, -made % lanes), (0, 0), (0, -length % group)))
    vectors, steps = padded.shape[1] // lanes, padded.shape[3] // group
    panels = padded.reshape(groups, vectors, lanes, segments, steps, group).transpose(0, 1, 3, 4, 2, 5)
    return np.ascontiguousarray(panels, dtype=np.int8 if group == 4 else np.int16)


def _pairs_of_rows(weight: NDArray[np.int8], lanes: int) -> NDArray[Any]:
    """Depthwise (C, 1, kh, kw) -> (pairs of rows, columns, channels, 2), int16; 0 where there is none."""
    channels, _, rows, _ = weight.shape
    padded = np.pad(weight[:, 0], ((0, -channels % lanes), (0, rows % 2), (0, 0)))
    pairs = padded.reshape(padded.shape[0], -1, 2, padded.shape[2]).transpose(1, 3, 0, 2)
    return np.ascontiguousarray(pairs, dtype=np.int16)


def _padded(values: NDArray[Any], blocks: int, lanes: int) -> NDArray[Any]:
    """A number for each output, in ``blocks`` that are whole vectors long each."""
    rows = values.reshape(blocks, -1)
    return np.ascontiguousarray(np.pad(rows, ((0, 0), (0, -rows.shape[1] % lanes))))
