"""Ranges that observers find, against plain searches that try every candidate: equal to the bit."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from hatdet.quantization.qat.observers import CLIPPERS, OBSERVERS, _in_memory, _sample, quantization_error

BINS = 2048


def sample(x: Tensor) -> Tensor:
    flat = x.reshape(-1)
    return flat[:: max(1, flat.numel() // 65_536)].float()


def error(x: Tensor, low: float, high: float) -> float:
    low, high = min(low, 0.0), max(high, 0.0)
    scale = max((high - low) / 255.0, 1e-12)
    zero = round(-low / scale)
    codes = torch.clamp(torch.round(x / scale) + zero, 0, 255)
    return float(((codes - zero) * scale - x).square().mean())


def whole(x: Tensor) -> tuple[float, float]:
    return float(x.min()), float(x.max())


def percentile(x: Tensor) -> tuple[float, float]:
    values = sample(x).sort().values
    last = values.numel() - 1
    return float(values[round((1 - 0.9999) * last)]), float(values[round(0.9999 * last)])


def mse(x: Tensor) -> tuple[float, float]:
    values = sample(x)
    low, high = whole(values)
    best = min((1.0 - 0.025 * i for i in range(21)), key=lambda share: error(values, low * share, high * share))
    return low * best, high * best


def kl(x: Tensor) -> tuple[float, float]:
    low, high = whole(x)
    top = max(abs(low), abs(high))
    magnitudes = x.float().abs()
    histogram = torch.histc(magnitudes[magnitudes > 0], BINS, 0, top).double() if top > 0 else torch.zeros(1)
    if histogram.sum() < BINS:
        return low, high
    levels = 256 if low >= 0 else 128
    bins = min(range(levels, BINS + 1, levels // 4), key=lambda bins: divergence(histogram, bins, levels))
    return max(low, -top * bins / BINS), min(high, top * bins / BINS)


def divergence(histogram: Tensor, bins: int, levels: int) -> float:
    reference, counts = histogram[:bins].clone(), histogram[:bins]
    reference[-1] += histogram[bins:].sum()
    edges = (torch.arange(bins) * levels) // bins
    total = torch.zeros(levels, dtype=torch.float64).index_add_(0, edges, counts)
    filled = torch.zeros(levels, dtype=torch.float64).index_add_(0, edges, (counts > 0).double())
    candidate = torch.where(counts > 0, (total / filled.clamp(min=1))[edges], 0.0)
    p, q = reference / reference.sum(), candidate / candidate.sum().clamp(min=1e-12)
    mask = p > 0
    return float((p[mask] * (p[mask] / q[mask].clamp(min=1e-9)).log()).sum())


def mix(x: Tensor) -> tuple[float, float]:
    return min((whole(x), percentile(x), mse(x), kl(x)), key=lambda limits: error(sample(x), *limits))


PLAIN = {"min_max": whole, "moving_average": whole, "percentile": percentile, "mse": mse, "kl": kl, "mix": mix}


def maps() -> dict[str, Tensor]:
    """Activations as networks have them, large and small, in both memory formats, and awkward ones."""
    draw = torch.Generator().manual_seed(0)
    noise = torch.randn(2, 24, 61, 47, generator=draw)
    heavy = noise * noise.abs() ** 2
    small = torch.randn(1, 3, 5, 7, generator=draw)
    return {
        "relu": noise.relu(),
        "relu6 of wide": (5 * noise).clamp(0, 6),
        "hardswish": torch.nn.functional.hardswish(3 * noise),
        "heavy tails": heavy,
        "heavy tails, one side": heavy.abs(),
        "outlier": torch.cat([noise.flatten(), torch.tensor([300.0])]),
        "negative": -noise.abs() - 0.5,
        "off zero": noise.abs() + 3,
        "bimodal": torch.where(torch.rand(noise.shape, generator=draw) < 0.01, noise + 40, noise),
        "few values": noise.mul(2).round(),
        "uniform": torch.rand(noise.shape, generator=draw),
        "symmetric": torch.cat([noise.flatten(), -noise.flatten()]),
        "large and tiny": noise * torch.logspace(-12, 12, 24).view(1, -1, 1, 1),
        "zeros": torch.zeros(2, 4, 30, 30),
        "constant": torch.full((70_000,), -3.0),
        "small": small,
        "one value": torch.tensor([2.5]),
        "sparse": torch.where(torch.rand(noise.shape, generator=draw) < 0.002, noise, 0.0),
        "float64": noise.double(),
    }


@pytest.mark.parametrize("name", OBSERVERS)
def test_ranges_are_those_of_the_plain_search(name: str) -> None:
    for kind, x in maps().items():
        forms = [x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x]
        if kind == "heavy tails":
            forms += [x, x[..., ::2], x.transpose(2, 3)]
        for form in forms:
            assert CLIPPERS[name](form) == PLAIN[name](form), (kind, tuple(form.shape), form.stride())


def test_a_batch_of_one_and_one_channel() -> None:
    """Shapes that are contiguous in both memory formats at once."""
    for shape in ((1, 1, 400, 300), (3, 1, 300, 200), (3, 90_000, 1, 1), (140_000, 1, 1, 1)):
        x = torch.randn(shape, generator=torch.Generator().manual_seed(1)).contiguous(memory_format=torch.channels_last)
        assert torch.equal(_sample(x), sample(x)) and CLIPPERS["mse"](x) == mse(x) and CLIPPERS["kl"](x) == kl(x)


def test_samples_of_maps_in_channels_last_are_those_of_contiguous_ones() -> None:
    for shape in ((2, 24, 61, 47), (2, 7, 120, 99), (4, 64, 40, 40), (1, 3, 5, 7)):
        x = torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float32)
        last = x.contiguous(memory_format=torch.channels_last)
        assert torch.equal(_sample(last), sample(x)) and _in_memory(last).data_ptr() == last.data_ptr()
        assert torch.equal(_sample(last.bfloat16()), sample(x.bfloat16()))
        assert torch.equal(_sample(last.requires_grad_()), sample(x)) and not _sample(last).requires_grad


def test_the_error_is_that_of_the_plain_form_and_leaves_its_input_alone() -> None:
    x = 4 * torch.randn(70_000, generator=torch.Generator().manual_seed(1))
    before = x.clone()
    for limits in ((-3.0, 3.0), (0.0, 9.0), (2.0, 5.0), (-20.0, 0.1), (0.0, 0.0)):
        assert (
            quantization_error(x, *limits) == quantization_error(x, *limits, torch.empty_like(x)) == error(x, *limits)
        )
    assert torch.equal(x, before)
