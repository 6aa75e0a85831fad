"""Names and shapes of published files, written out from their tables: torchvision's and timm's classifiers."""

from __future__ import annotations

import torch
from torch import Tensor

Names = dict[str, tuple[int, ...]]

# kernel, hidden, channels, channels of the squeeze (0: none); a list a stage of timm's. MobileNetV3's tables 1 and 2.
V3_LARGE = [
    [(3, 16, 16, 0)],
    [(3, 64, 24, 0), (3, 72, 24, 0)],
    [(5, 72, 40, 24), (5, 120, 40, 32), (5, 120, 40, 32)],
    [(3, 240, 80, 0), (3, 200, 80, 0), (3, 184, 80, 0), (3, 184, 80, 0)],
    [(3, 480, 112, 120), (3, 672, 112, 168)],
    [(5, 672, 160, 168), (5, 960, 160, 240), (5, 960, 160, 240)],
]
V3_SMALL = [
    [(3, 16, 16, 8)],
    [(3, 72, 24, 0), (3, 88, 24, 0)],
    [(5, 96, 40, 24), (5, 240, 40, 64), (5, 240, 40, 64)],
    [(5, 120, 48, 32), (5, 144, 48, 40)],
    [(5, 288, 96, 72), (5, 576, 96, 144), (5, 576, 96, 144)],
]
V2 = [
    [(3, 32, 16, 0)],
    [(3, 96, 24, 0), (3, 144, 24, 0)],
    [(3, 144, 32, 0), (3, 192, 32, 0), (3, 192, 32, 0)],
    [(3, 192, 64, 0), (3, 384, 64, 0), (3, 384, 64, 0), (3, 384, 64, 0)],
    [(3, 384, 96, 0), (3, 576, 96, 0), (3, 576, 96, 0)],
    [(3, 576, 160, 0), (3, 960, 160, 0), (3, 960, 160, 0)],
    [(3, 960, 320, 0)],
]
LITE0 = [
    [(3, 32, 16, 0)],
    [(3, 96, 24, 0), (3, 144, 24, 0)],
    [(5, 144, 40, 0), (5, 240, 40, 0)],
    [(3, 240, 80, 0), (3, 480, 80, 0), (3, 480, 80, 0)],
    [(5, 480, 112, 0), (5, 672, 112, 0), (5, 672, 112, 0)],
    [(5, 672, 192, 0), (5, 1152, 192, 0), (5, 1152, 192, 0), (5, 1152, 192, 0)],
    [(3, 1152, 320, 0)],
]
Stages = list[list[tuple[int, int, int, int]]]


def norm(name: str, channels: int) -> Names:
    parts = {f"{name}.{part}": (channels,) for part in ("weight", "bias", "running_mean", "running_var")}
    return {**parts, f"{name}.num_batches_tracked": ()}


def conv(name: str, channels: int, inside: int, kernel: int = 1) -> Names:
    return {f"{name}.weight": (channels, inside, kernel, kernel)}


def biased(name: str, channels: int, inside: int) -> Names:
    return {**conv(name, channels, inside), f"{name}.bias": (channels,)}


def linear(name: str, outputs: int, inside: int) -> Names:
    return {f"{name}.weight": (outputs, inside), f"{name}.bias": (outputs,)}


def timm(stages: Stages, stem: int) -> Names:
    """timm's ``mobilenetv2_100``, ``mobilenetv3_*_100``, ``tf_efficientnet_lite0`` up to the last block."""
    names, channels = {**conv("conv_stem", stem, 3, 3), **norm("bn1", stem)}, stem
    for s, stage in enumerate(stages):
        for b, (kernel, hidden, out, squeeze) in enumerate(stage):
            at = f"blocks.{s}.{b}"
            separable = hidden == channels  # no expansion: depthwise first, and two norms
            if not separable:
                names |= conv(f"{at}.conv_pw", hidden, channels) | norm(f"{at}.bn1", hidden)
            names |= conv(f"{at}.conv_dw", hidden, 1, kernel) | norm(f"{at}.bn{1 if separable else 2}", hidden)
            if squeeze:
                names |= biased(f"{at}.se.conv_reduce", squeeze, hidden)
                names |= biased(f"{at}.se.conv_expand", hidden, squeeze)
            last = "conv_pw" if separable else "conv_pwl"
            names |= conv(f"{at}.{last}", out, hidden) | norm(f"{at}.bn{2 if separable else 3}", out)
            channels = out
    return names


def torchvision_v3(stages: Stages, last: int) -> Names:
    """``mobilenet_v3_large`` (last 1280) and ``mobilenet_v3_small`` (last 1024), whole."""
    names, channels, i = {**conv("features.0.0", 16, 3, 3), **norm("features.0.1", 16)}, 16, 0
    for kernel, hidden, out, squeeze in (row for stage in stages for row in stage):
        i, k = i + 1, 0
        at = f"features.{i}.block"
        if hidden != channels:
            names |= conv(f"{at}.0.0", hidden, channels) | norm(f"{at}.0.1", hidden)
            k = 1
        names |= conv(f"{at}.{k}.0", hidden, 1, kernel) | norm(f"{at}.{k}.1", hidden)
        if squeeze:
            k += 1
            names |= biased(f"{at}.{k}.fc1", squeeze, hidden) | biased(f"{at}.{k}.fc2", hidden, squeeze)
        names |= conv(f"{at}.{k + 1}.0", out, hidden) | norm(f"{at}.{k + 1}.1", out)
        channels = out
    wide = 6 * channels
    names |= conv(f"features.{i + 1}.0", wide, channels) | norm(f"features.{i + 1}.1", wide)
    return {**names, **linear("classifier.0", last, wide), **linear("classifier.3", 1000, last)}


def torchvision_resnet(depth: int) -> Names:
    """``resnet18``, ``resnet34`` and ``resnet50``, whole; timm's have the same names."""
    counts = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}[depth]
    names, channels, wider = {**conv("conv1", 64, 3, 7), **norm("bn1", 64)}, 64, 4 if depth >= 50 else 1
    for s, count in enumerate(counts):
        width = 64 * 2**s
        for b in range(count):
            at, out = f"layer{s + 1}.{b}", width * wider
            narrow = ((channels, width, 1), (width, width, 3), (width, out, 1))
            shapes = narrow if wider == 4 else ((channels, out, 3), (out, out, 3))
            for i, (inside, outside, kernel) in enumerate(shapes, start=1):
                names |= conv(f"{at}.conv{i}", outside, inside, kernel) | norm(f"{at}.bn{i}", outside)
            if b == 0 and channels != out:
                names |= conv(f"{at}.downsample.0", out, channels) | norm(f"{at}.downsample.1", out)
            channels = out
    return {**names, **linear("fc", 1000, channels)}


def parameters(names: Names) -> int:
    """The number that a file's publisher states: buffers of norms do not count."""
    buffers = ("running_mean", "running_var", "num_batches_tracked")
    return sum(torch.Size(shape).numel() for name, shape in names.items() if not name.endswith(buffers))


def file(names: Names) -> dict[str, Tensor]:
    """A state dict of those names and shapes, with numbers that a norm can have."""
    generator = torch.Generator().manual_seed(0)
    return {
        name: torch.zeros((), dtype=torch.int64) if not shape else torch.rand(shape, generator=generator) + 0.1
        for name, shape in names.items()
    }
