"""The torch kernels against the literal integers, at the places where rounding decides."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hatdet.integer.arithmetic import multiply_by_quantized_multiplier, prepare_requantization, quantize_multiplier
from hatdet.integer.kernels import TensorRequantization, requantize_, requantize_to_codes

MULTIPLIERS = [0.7, 0.5, 0.31, 0.0123, 2.0**-7, 0.0009, 2.0**-14, 7e-5, 3e-5, 1.7e-6, 1.5, 3.7]


def around_thresholds(multiplier: float, bound: int) -> np.ndarray:
    """Accumulators at, before and after every rounding threshold of the outputs -300 ... 300, and the extremes."""
    near = np.round((np.arange(-300, 300) + 0.5) / multiplier)
    near = (near[:, None] + np.arange(-2, 3)).ravel()
    values = np.concatenate([near, np.arange(-40, 41), [-bound, bound]])
    return values[np.abs(values) <= bound].astype(np.int64)


@pytest.mark.parametrize(
    ("lo", "hi", "zero"), [(0, 255, 0), (0, 127, 128), (-100, 155, 100), (-255, 0, 255), (-7, 90, 7)]
)
@pytest.mark.parametrize("bound", [2**24 - 1, 2**22])
def test_requantization_at_every_threshold(lo: int, hi: int, zero: int, bound: int) -> None:
    for multiplier in MULTIPLIERS:
        values = around_thresholds(multiplier, bound)
        m, e = quantize_multiplier(multiplier)
        expected = np.clip(multiply_by_quantized_multiplier(values, m, e), lo, hi)
        channels = 3
        req = TensorRequantization(
            prepare_requantization(np.full(channels, multiplier), np.full(channels, float(bound)))
        )
        acc = torch.from_numpy(values.astype(np.float32)).view(1, 1, 1, -1).expand(2, channels, 1, -1)
        acc = acc.contiguous(memory_format=torch.channels_last)
        codes = requantize_to_codes(acc.clone(memory_format=torch.preserve_format), req, lo, hi, zero)
        assert codes.dtype == torch.uint8
        assert np.array_equal(codes[1, 2, 0].numpy().astype(int) - zero, expected), multiplier
        centred = requantize_(acc.clone(memory_format=torch.preserve_format), req, lo, hi)
        assert np.array_equal(centred[0, 1, 0].numpy(), expected), multiplier


def test_small_multipliers_do_not_take_the_shifted_path() -> None:
    """Adding a zero point to a value with bits below 2**-45 would round it: 2**-15 is the first exponent without."""
    large, small = (prepare_requantization(np.array([a]), np.array([2.0**22])) for a in (2.0**-14, 2.0**-15 * 0.99))
    assert TensorRequantization(large).shiftable and not TensorRequantization(small).shiftable
    assert TensorRequantization(small).all_exact
