"""The forms of a GPU's convolutions give the integer sums; tried on the CPU, where they are the same code."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from hatdet.integer import gpu

GEOMETRIES = [
    # channels, outputs, kernel, stride, padding, dilation, groups
    (7, 5, (1, 1), (1, 1), (0, 0), (1, 1), 1),
    (7, 5, (1, 1), (2, 3), (0, 0), (1, 1), 1),
    (7, 5, (1, 1), (1, 1), (1, 2), (1, 1), 1),
    (3, 8, (3, 3), (2, 2), (1, 1), (1, 1), 1),
    (6, 4, (3, 5), (1, 2), (2, 0), (2, 1), 1),
    (6, 6, (5, 5), (1, 1), (2, 2), (1, 1), 6),
    (4, 8, (3, 3), (2, 1), (1, 0), (1, 1), 4),
]


@pytest.mark.parametrize("channels, outputs, kernel, stride, padding, dilation, groups", GEOMETRIES)
@pytest.mark.parametrize("together", [1 << 27, 1])
def test_sums_are_exact(
    channels: int,
    outputs: int,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    groups: int,
    together: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(gpu, "_UNFOLDED", together)
    draw = torch.Generator().manual_seed(0)
    x = torch.randint(-255, 256, (3, channels, 9, 11), generator=draw).float()
    weight = torch.randint(-127, 128, (outputs, channels // groups, *kernel), generator=draw).float()
    bias = torch.randint(-(10**6), 10**6, (outputs,), generator=draw).float()
    geometry = (stride, padding, dilation, groups)
    assert gpu.fits(weight, groups)
    for b in (bias, None):
        made = gpu.convolve(x, weight, b, *geometry)
        wanted = F.conv2d(x.double(), weight.double(), None if b is None else b.double(), *geometry)
        assert made.dtype == torch.float32 and torch.equal(made.double(), wanted)
        assert made.is_contiguous(memory_format=torch.channels_last)


def test_settings_are_as_before() -> None:
    """After a call, and inside of autocast."""
    before = torch.backends.cuda.matmul.fp32_precision, torch.backends.cudnn.enabled
    x = torch.full((1, 300, 2, 2), 255.0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        made = gpu.convolve(x, torch.full((1, 300, 1, 1), 127.0), None, (1, 1), (0, 0), (1, 1), 1)
        assert torch.is_autocast_enabled("cpu")
    assert made.dtype == torch.float32 and float(made[0, 0, 0, 0]) == 300 * 255 * 127
    assert (torch.backends.cuda.matmul.fp32_precision, torch.backends.cudnn.enabled) == before


def test_kernels_in_groups_have_no_form() -> None:
    assert not gpu.fits(torch.zeros(4, 2, 3, 3), 2)
