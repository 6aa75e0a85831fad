"""float32 to bytes: torch's one pass against the plain form, and what happens where it is not to be had."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hatdet.integer import rounding
from hatdet.integer.kernels import CHUNK, as_maps, as_rows
from hatdet.integer.single_multiply import FloatRequantization


def _values() -> torch.Tensor:
    ties = torch.arange(-400, 700) + 0.5
    above = torch.nextafter(ties, torch.full_like(ties, torch.inf))
    below = torch.nextafter(ties, torch.full_like(ties, -torch.inf))
    huge = torch.tensor([2.0**31 - 64, 2.0**31, 2.0**32, 3e38, 127.5 * 2**24])
    return torch.cat([ties, above, below, huge, -huge])


def _in_numpy(values: torch.Tensor, zero: int) -> np.ndarray:
    return np.clip(np.rint(values.double().numpy()) + zero, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("zero", [0, 1, 100, 128, 255])
def test_both_forms_round_half_to_even_and_saturate(zero: int) -> None:
    values = _values()
    want = _in_numpy(values, zero)
    assert np.array_equal(rounding.rounded_bytes(values.clone(), zero).numpy(), want)
    assert np.array_equal(rounding.plain(values.clone(), zero).numpy(), want)


def test_dense_maps_keep_their_memory_order() -> None:
    maps = torch.randn(2, 5, 3, 7).mul(90).contiguous(memory_format=torch.channels_last)
    want = _in_numpy(maps, 12)
    made = rounding.rounded_bytes(maps, 12)
    assert made.is_contiguous(memory_format=torch.channels_last) and np.array_equal(made.numpy(), want)


def test_a_pass_that_rounds_otherwise_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = rounding._quantized
    monkeypatch.setattr(rounding, "_quantized", lambda values, zero: honest(values + 2.0**-12, zero))
    assert not rounding._prove()
    # the order that torch has today, without the rounding that goes before it: a sum that float32 rounds onto a tie
    values = torch.nextafter(torch.tensor([12.5]), torch.tensor([13.0]))
    assert int(honest(values.clone(), 100)) == 112 and int(rounding.plain(values.clone(), 100)) == 113


def test_without_quantized_tensors_the_plain_form_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*_: object) -> torch.Tensor:
        raise NotImplementedError("quantized tensors were removed")

    monkeypatch.setattr(rounding, "_quantized", gone)
    rounding.one_pass.cache_clear()
    try:
        assert not rounding.one_pass()
        values = _values()
        assert np.array_equal(rounding.rounded_bytes(values.clone(), 7).numpy(), _in_numpy(values, 7))
    finally:
        rounding.one_pass.cache_clear()


@pytest.mark.parametrize("one_pass", [True, False])
@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (3, 8, 1, 1), (2, 1, 5, 4), (1, 64, 13, 20), (2, 40, 60, 37)])
@pytest.mark.parametrize(("lo", "hi", "zero"), [(0, 255, 0), (-128, 127, 128), (-60, 100, 77), (0, 131, 0)])
def test_codes_are_the_formula(
    monkeypatch: pytest.MonkeyPatch, one_pass: bool, shape: tuple[int, ...], lo: int, hi: int, zero: int
) -> None:
    monkeypatch.setattr(rounding, "one_pass", lambda: one_pass)
    rng = np.random.default_rng(shape[1])
    acc = rng.integers(-(2**22), 2**22, shape).astype(np.float32)
    scale = (2.0 ** rng.uniform(-17, -12, shape[1])).astype(np.float32)
    scale[0] = 2.0**-13  # ties
    want = np.clip(np.rint(acc * scale[:, None, None]), lo, hi) + zero
    for dtype in (torch.float32, torch.float64):
        for order in (torch.channels_last, torch.contiguous_format):
            given = torch.from_numpy(acc).to(dtype).contiguous(memory_format=order)
            req = FloatRequantization(scale)
            assert np.array_equal(req.codes(given.clone(), lo, hi, zero).numpy(), want)
            assert np.array_equal(req.centred(given.clone(), lo, hi).numpy(), want - zero)


def test_rows_are_whole_pixels_and_not_long() -> None:
    for shape in ((1, 3, 320, 320), (2, 64, 40, 40), (1, 512, 10, 10), (4, 7, 1, 1), (1, 2000, 3, 5), (8, 1, 33, 17)):
        maps = torch.arange(np.prod(shape)).float().view(shape).contiguous(memory_format=torch.channels_last)
        rows, pixels = as_rows(maps)
        assert rows.shape[1] == pixels * shape[1] and rows.numel() == maps.numel() and rows.shape[1] <= CHUNK
        assert torch.equal(as_maps(rows, maps), maps)
        assert torch.equal(rows[0].view(pixels, shape[1]), maps.permute(0, 2, 3, 1).reshape(-1, shape[1])[:pixels])
