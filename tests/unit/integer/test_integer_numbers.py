"""Arithmetic and kernels of the integer model: proofs, limits and layouts, each number by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hatdet.integer import kernels
from hatdet.integer.arithmetic import (
    LARGEST_MULTIPLIER,
    MULTIPLIER_LIMIT,
    activation_limits,
    conv_multiplier,
    multiply_by_quantized_multiplier,
    multiply_by_reduced_multiplier,
    prepare_requantization,
    prepare_requantization16,
    quantize_multiplier,
    reduce_multiplier,
    round_half_away,
    stored_weight_scale,
)
from hatdet.integer.kernels import (
    TensorRequantization,
    accumulate,
    accumulator_bounds,
    convolve,
    lookup,
    lookup_pairs,
    parts_needed,
    requantize_,
    requantize_to_codes,
    worst_bound,
)


# -------------------------------------------------------------------------------------------- arithmetic
def test_limits_of_multipliers() -> None:
    assert MULTIPLIER_LIMIT == 256 and LARGEST_MULTIPLIER == 256 - 2.0**-8
    assert [int(v) for v in quantize_multiplier(2.0**-32)] == [2**30, -31]  # the smallest that is not 0
    assert [int(v) for v in quantize_multiplier(2.0**-32 * 0.99)] == [0, 0]
    assert [int(v) for v in quantize_multiplier(3.0)] == [3 * 2**29, 2]
    for bad in (-1e-30, float("inf"), float("nan")):
        with pytest.raises(ValueError, match="finite and not negative"):
            quantize_multiplier([0.5, bad])


def test_left_shifts_and_both_roundings_by_hand() -> None:
    def product(x: int, m: int, e: int) -> int:
        return int(multiply_by_quantized_multiplier(x, m, e))

    half = 2**30  # 0.5
    assert [product(x, half, 3) for x in (5, -5)] == [20, -20]
    assert [product(x, half, 0) for x in (3, -3, 1, -1)] == [2, -1, 1, 0]  # the first rounding: ties up
    assert [product(x, half, -1) for x in (6, -6, 2, -2, 1, -1)] == [2, -2, 1, -1, 1, 0]  # the second: away from zero
    assert [product(x, 2**31 - 1, -2) for x in (2, -2, 6, -6, 5, -5)] == [1, -1, 2, -2, 1, -1]
    assert product(7, 0, 0) == 0


def test_multipliers_of_convolutions() -> None:
    """In float64, from float32 scales: 0.1f * 0.2f / 0.3f."""
    exact = np.float64(np.float32(0.1)) * np.float64(np.float32(0.2)) / np.float64(np.float32(0.3))
    assert conv_multiplier(0.1, np.array([0.2], np.float32), 0.3).tolist() == [exact]
    scales = np.array([0.5, 127.0, 300.0, 1e30], np.float32)
    assert stored_weight_scale(1.0, scales, 1.0).tolist() == [0.5, 127.0, LARGEST_MULTIPLIER, LARGEST_MULTIPLIER]
    assert stored_weight_scale(2.0, scales, 1.0).tolist()[1:3] == [127.0, LARGEST_MULTIPLIER / 2]
    assert stored_weight_scale(1.0, scales, 4.0).tolist() == [
        0.5,
        127.0,
        300.0,
        float(np.float32(LARGEST_MULTIPLIER * 4)),
    ]
    assert stored_weight_scale(1e-30, scales, 1e30).tolist() == scales.tolist()  # no limit beyond float32


@pytest.mark.parametrize(
    ("multiplier", "bound", "exact", "shiftable"),
    [
        (2.0**-14, 2.0**22, True, True),  # 53 bits hold it
        (2.0**-14, 2.0**22 + 1, False, False),  # one more bit, and 256 codes are not beyond the clamp
        (257.5 / 2**22, 2.0**30, False, False),
        (257.6 / 2**22, 2.0**30, True, True),  # beyond it from 2**22 on
        (200.0, 2.0**30, True, True), (1000.0, 2.0**30, True, True), (0.9, 2.0**24, True, True),
        (2.0**-15, 2.0**22, True, True), (2.0**-16, 2.0**22, True, False),  # the first exponent that is not shifted
        (2.0**-22, 2.0**22, True, False), (2.0**-23, 2.0**22, False, False),
        (2.0**-23, 2.0**21, False, False), (2.0**-23, 2.0**21 - 1, True, True),  # less than a quarter of a code
        (2.0**-31, 2.0**24, True, True),
    ],
)  # fmt: skip
def test_where_float64_is_proved_exact(multiplier: float, bound: float, exact: bool, shiftable: bool) -> None:
    req = prepare_requantization(np.array([multiplier]), np.array([bound]))
    assert (bool(req.exact[0]), bool(req.shiftable[0])) == (exact, shiftable)


def test_what_a_requantization_holds() -> None:
    req = prepare_requantization(np.array([0.75, 0.25, 3.0, 1e6]), np.full(4, 100.0))
    assert req.a.tolist() == [0.75, 0.25, 3.0, LARGEST_MULTIPLIER] and req.e.tolist() == [0, -1, 2, 8]
    assert req.delta.tolist() == [0, 0.25, 0, 0]  # half a unit of the first rounding


def test_sixteen_bits_round_once() -> None:
    r, shift = reduce_multiplier(
        [2**30, 0x7FFEFFFF, 0x7FFF0000, 0x7FFF8000, 2**31 - 1, 2**30 + 2**15, 0], [0, 0, 1, -3, 2, 0, 0]
    )
    assert r.tolist() == [0x4000, 0x7FFF, 0x7FFF, 0x7FFF, 0x7FFF, 0x4001, 0] and shift.tolist() == [
        15,
        15,
        14,
        18,
        13,
        15,
        15,
    ]
    assert multiply_by_reduced_multiplier([3, -3, 1, -1, 4], 0x4000, 15).tolist() == [2, -1, 1, 0, 2]  # ties up
    req = prepare_requantization16(np.array([0.75, 2.0**-6]), np.array([2.0**37 - 1, 5]))
    assert req.a.tolist() == [0.75, 2.0**-6] and req.delta.tolist() == [0, 0]
    assert req.exact.all() and not req.shiftable.any()
    prepare_requantization16(np.array([127.9]), np.array([1.0]))
    for multiplier, bound in ((128.0, 1.0), (0.5, 2.0**37)):
        with pytest.raises(ValueError, match=r"accumulators below 2\*\*37 and multipliers below 2\*\*7"):
            prepare_requantization16(np.array([multiplier]), np.array([bound]))


def test_limits_of_activations() -> None:
    assert activation_limits("none", 1.0, 0, 16) == (-32768, 32767)
    assert activation_limits("relu", 0.5, -200) == (-128, 127) and activation_limits("relu", 0.5, 5) == (5, 127)
    assert activation_limits("relu6", 0.4, -10) == (-10, 5)  # 6 / 0.4f = 15 exactly in float32
    assert activation_limits("relu6", 4.0, 0) == (0, 2)  # 1.5 rounds away from zero
    assert activation_limits("relu6", 1e-3, 0, 16) == (0, 6000)
    assert round_half_away([0.5, -1.5, 2.4999]).tolist() == [1, -2, 2]


# --------------------------------------------------------------------------------------- bounds and parts
def test_the_bound_of_every_partial_sum() -> None:
    """Weights 3, -5 and 2, 0; biases 7 and -11; inputs from -2 to 10."""
    weight, bias = torch.tensor([[3, -5], [2, 0]]).float().view(2, 2, 1, 1), torch.tensor([7, -11])
    # Largest: 3 * 10 + 5 * 2 + 7 = 47; smallest: -3 * 2 - 5 * 10 = -56 (the bias pulls up). Second: 20, and -4 - 11.
    assert accumulator_bounds(weight, bias, -2, 10).tolist() == [56, 20]
    assert accumulator_bounds(weight, -bias, -2, 10).tolist() == [63, 31]
    assert accumulator_bounds(weight, bias, 0, 10).dtype == torch.float64
    assert worst_bound(9, 255) == 127 * 9 * 255


@pytest.mark.parametrize(
    ("channels", "bias", "expected"),
    [
        (16, 0, 0), (516, 0, 0),  # 516 * 127 * 255 = 16 710 660, below 2**24
        (519, 0, 2), (518, 2**24 - 518 * 127 * 255 - 1, 0), (518, 2**24 - 518 * 127 * 255, 1), (1040, 0, 3),
        (1036, 0, 2), (1, 2**24, 1),
    ],
)  # fmt: skip
def test_in_how_many_parts_a_convolution_is_exact(channels: int, bias: int, expected: int) -> None:
    """518 products of 127 * 255 are below 2**24; a bias that does not fit is added afterwards."""
    weight = torch.full((1, channels, 1, 1), 127.0)
    assert parts_needed(weight, torch.tensor([float(bias)]), 0, 255) == expected
    bounds = torch.tensor([2.0**24 - 1], dtype=torch.float64)
    assert parts_needed(weight, torch.tensor([0.0]), 0, 255, bounds) == 0
    if channels == 519:
        assert parts_needed(weight, torch.tensor([0.0]), 0, 255, bounds + 1) == 2


def test_one_channel_beyond_float32_is_said_to_need_two_parts() -> None:
    weight = torch.full((1, 1, 30, 30), 127.0)
    assert parts_needed(weight, torch.tensor([0.0]), -255, 255) == 2


@pytest.mark.parametrize(("groups", "parts"), [(1, 0), (1, 1), (1, 2), (1, 3), (2, 0), (2, 1), (2, 2)])
def test_accumulators_in_parts(groups: int, parts: int) -> None:
    rng = torch.Generator().manual_seed(groups * 10 + parts)
    x = torch.randint(-255, 256, (2, 6, 5, 4), generator=rng).float()
    weight = torch.randint(-127, 128, (4, 6 // groups, 3, 3), generator=rng).float()
    bias = torch.tensor([1.0, -2.0, 2.0**26 + 1 if parts else 3.0, 4.0], dtype=torch.float64)
    found = convolve(x, weight, bias if parts else bias.float(), (2, 1), (1, 0), (1, 1), groups, parts)
    wanted = torch.nn.functional.conv2d(x.double(), weight.double(), bias, (2, 1), (1, 0), (1, 1), groups)
    assert torch.equal(found.double(), wanted)
    assert found.dtype == (torch.float32 if parts == 0 else torch.float64)
    plain = accumulate(lambda x, w, b: torch.nn.functional.conv2d(x, w, b), x[:, :3], weight[:, :3], bias.float())
    assert plain.dtype == torch.float32 and plain.shape == (2, 4, 3, 2)


# ------------------------------------------------------------------------------------------ requantizing
def requantization(*multipliers: float) -> TensorRequantization:
    return TensorRequantization(prepare_requantization(np.array(multipliers), np.full(len(multipliers), 2.0**20)))


def expected(acc: torch.Tensor, multipliers: tuple[float, ...], lo: int, hi: int) -> np.ndarray:
    m, e = (v.reshape(1, -1, 1, 1) for v in quantize_multiplier(np.array(multipliers)))
    return np.clip(multiply_by_quantized_multiplier(acc.numpy().astype(np.int64), m, e), lo, hi)


@pytest.mark.parametrize("chunk", [1, 30, 31, 1 << 17])
@pytest.mark.parametrize(("lo", "hi", "zero"), [(0, 200, 0), (-100, 155, 100), (-255, 0, 255), (0, 120, 7)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_maps_of_any_size_are_requantized_in_pieces(
    monkeypatch: pytest.MonkeyPatch, chunk: int, lo: int, hi: int, zero: int, dtype: torch.dtype
) -> None:
    """Three channels of their own multipliers; pieces of one line, of a whole image, of several."""
    monkeypatch.setattr(kernels, "CHUNK", chunk)
    multipliers = (0.5, 0.25, 0.007)
    for shape in ((1, 3, 1, 1), (2, 3, 2, 5), (3, 3, 5, 2)):
        acc = torch.randint(-30_000, 30_000, shape, generator=torch.Generator().manual_seed(1)).to(dtype)
        wanted = expected(acc, multipliers, lo, hi)
        for memory in (torch.channels_last, torch.contiguous_format):
            given = acc.clone().contiguous(memory_format=memory)
            assert np.array_equal(requantize_(given.clone(), requantization(*multipliers), lo, hi).numpy(), wanted)
            codes = requantize_to_codes(given.clone(), requantization(*multipliers), lo, hi, zero)
            assert codes.dtype == torch.uint8 and np.array_equal(codes.numpy().astype(int) - zero, wanted)


def test_a_float32_accumulator_is_overwritten() -> None:
    acc = torch.tensor([10.0, 20.0]).view(1, 2, 1, 1).contiguous(memory_format=torch.channels_last)
    assert requantize_(acc, requantization(0.5, 0.25), 0, 255).data_ptr() == acc.data_ptr()
    assert acc.flatten().tolist() == [5, 5]
    wide = torch.tensor([10.0, 20.0], dtype=torch.float64).view(1, 2, 1, 1)
    assert requantize_(wide, requantization(0.5, 0.25), 0, 255).dtype == torch.float32 and wide.flatten().tolist() == [
        10,
        20,
    ]


def test_rows_are_as_many_image_lines_as_are_short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "ROW", 30)
    shapes: list[tuple[tuple[int, ...], tuple[int, int]]] = [
        ((2, 3, 4, 5), (4, 30)), ((2, 3, 3, 5), (6, 15)), ((2, 3, 4, 6), (8, 18)), ((1, 3, 1, 1), (1, 3)),
        ((2, 3, 2, 2), (2, 12)),
    ]  # fmt: skip
    for shape, rows in shapes:
        source, repeat = kernels.as_rows(torch.zeros(shape).contiguous(memory_format=torch.channels_last))
        assert tuple(source.shape) == rows and repeat * 3 == rows[1]


def test_few_buffers_are_kept() -> None:
    kernels._buffers.clear()
    first = kernels.buffer_of(7, 0, torch.device("cpu"))
    assert kernels.buffer_of(7, 0, torch.device("cpu")) is first
    assert first.dtype == torch.float64 and first.shape == (7,)
    assert kernels.buffer_of(7, 1, torch.device("cpu")) is not first
    for size in range(63):
        kernels.buffer_of(100 + size, 0, torch.device("cpu"))
    assert len(kernels._buffers) == 65
    kernels.buffer_of(500, 0, torch.device("cpu"), torch.int32)
    assert len(kernels._buffers) == 1


# ------------------------------------------------------------------------------------------------ tables
def test_tables_are_read_at_the_code() -> None:
    """Carried as centred codes in float32, or as code + 128 in uint8 (then the zero is -128)."""
    table, square = torch.arange(256).float(), torch.arange(65536).float()
    codes1, codes2 = torch.tensor([[-128, 0, 127], [5, -7, 1]]), torch.tensor([[127, -128, 3], [0, 9, -1]])
    maps1, maps2 = codes1.view(1, 2, 1, 3), codes2.view(1, 2, 1, 3)
    for zero1, zero2 in ((0, 0), (-128, 3), (127, -5)):
        centred1, centred2 = (maps1 - zero1).float(), (maps2 - zero2).float()
        assert torch.equal(lookup(centred1, table, zero1), (maps1 + 128).float())
        wanted = ((maps1 + 128) * 256 + maps2 + 128).float()
        assert torch.equal(lookup_pairs(centred1, centred2, square, zero1, zero2), wanted)
        channel = centred2[..., :1]
        assert torch.equal(
            lookup_pairs(centred1, channel, square, zero1, zero2), ((maps1 + 128) * 256 + maps2[..., :1] + 128).float()
        )
    bytes1, bytes2 = (maps1 + 128).to(torch.uint8), (maps2 + 128).to(torch.uint8)
    assert torch.equal(lookup(bytes1, table, -128), (maps1 + 128).float())
    assert torch.equal(lookup_pairs(bytes1, bytes2, square, -128, -128), ((maps1 + 128) * 256 + maps2 + 128).float())
