"""The PicoDet configs: sizes derived layer by layer, which are the published ones, and what the variants share."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import pytest

from hatdet.building import Builder
from hatdet.config.load import load_config
from hatdet.profiling.calops import count_ops

CONFIGS = Path(__file__).resolve().parents[3] / "configs" / "picodet"
BINS = 4 * 8


@dataclass(frozen=True)
class Size:
    """Parameters, multiply-accumulates, and numbers that batch norms and activations give."""

    params: int = 0
    macs: int = 0
    pointwise: int = 0

    def __add__(self, other: Size) -> Size:
        return Size(self.params + other.params, self.macs + other.macs, self.pointwise + other.pointwise)


def conv(fan_in: int, fan_out: int, kernel: int, side: int, groups: int = 1, act: bool = True) -> Size:
    """A convolution without a bias that gives a map of ``side``, its batch norm (weight, bias), an activation."""
    weights = fan_in // groups * fan_out * kernel**2
    return Size(weights + 2 * fan_out, weights * side**2, (1 + act) * fan_out * side**2)


def last(fan_in: int, fan_out: int, side: int) -> Size:
    """A 1x1 convolution with a bias."""
    return Size(fan_in * fan_out + fan_out, fan_in * fan_out * side**2)


def separable(fan_in: int, fan_out: int, kernel: int, side: int, attention: bool = False) -> Size:
    """A depthwise convolution, of stride 1 or 2, squeeze-and-excitation to a quarter, a pointwise convolution."""
    gate = last(fan_in, fan_in // 4, 1) + last(fan_in // 4, fan_in, 1) if attention else Size()
    return conv(fan_in, fan_in, kernel, side, fan_in) + gate + conv(fan_in, fan_out, 1, side)


def lcnet(c: tuple[int, ...], image: int, attention: bool, whole: bool) -> Size:
    """PP-LCNet with channels ``c`` of stem and stages 2 to 6; the last one if it is ``whole``."""
    side = [image // 2**i for i in range(1, 6)]
    total = conv(3, c[0], 3, side[0]) + separable(c[0], c[1], 3, side[0])
    for before, width, where in ((c[1], c[2], side[1]), (c[2], c[3], side[2])):
        total += separable(before, width, 3, where) + separable(width, width, 3, where)
    total += separable(c[3], c[4], 3, side[3])
    for _ in range(5):
        total += separable(c[4], c[4], 5, side[3])
    if not whole:
        return total
    return total + separable(c[4], c[5], 5, side[4], attention) + separable(c[5], c[5], 5, side[4], attention)


def pan(c: tuple[int, ...], side: list[int], csp: bool, wide: int = 96) -> Size:
    total = Size()
    for width, where in zip(c, side, strict=False):
        total += conv(width, wide, 1, where)
    for where in (side[3], side[3], side[1], side[2]):  # the last level twice, the steps down
        total += separable(wide, wide, 5, where)
    half = wide // 2
    for where in (side[1], side[0], side[1], side[2]):
        if csp:
            total += conv(2 * wide, half, 1, where) + conv(2 * wide, half, 1, where) + conv(2 * half, wide, 1, where)
            total += conv(half, half, 1, where) + separable(half, half, 5, where)
        else:
            total += separable(2 * wide, 2 * wide, 5, where) + separable(2 * wide, wide, 5, where)
    return total


def head(side: list[int], attention: bool, align: bool, classes: int = 80, wide: int = 96) -> Size:
    total = Size()
    for where in side:
        total += separable(wide, wide, 5, where) + separable(wide, wide, 5, where)
        if attention:
            total += last(wide, wide, 1) + conv(wide, wide, 1, where)
        if align:
            total += conv(wide, 1, 5, where) + conv(1, 1, 1, where, act=False)
        total += last(wide, classes, where) + last(wide, BINS, where)
    return total


def esnet(image: int) -> Size:
    """ESNet x0.75: 24 channels, then 96, 192 and 384, with the published inner channels of each block."""
    ratios = iter((0.875, 0.5, 0.5, 0.5, 0.625, 0.5, 0.625, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5))
    total, before = conv(3, 24, 3, image // 2), 24
    for width, blocks, stride in ((96, 3, 8), (192, 7, 16), (384, 3, 32)):
        side, half = image // stride, width // 2
        for block in range(blocks):
            middle = int(width * next(ratios) + 4) // 8 * 8
            part, gate = middle // 2, middle if block else middle // 2
            total += last(gate, gate // 4, 1) + last(gate // 4, gate, 1)
            if block:
                total += conv(half, part, 1, side) + conv(part, part, 3, side, part, act=False)
                total += conv(middle, half, 1, side)
                continue
            total += conv(before, before, 3, side, before, act=False) + conv(before, half, 1, side)
            total += conv(before, part, 1, 2 * side) + conv(part, part, 3, side, part, act=False)
            total += conv(part, half, 1, side) + separable(width, width, 3, side)
        before = width
    return total


XS, S = (8, 16, 24, 48, 88, 176), (16, 24, 48, 96, 192, 384)
"""16, 32, 64, 128, 256 and 512 channels, times 0.35 and 0.75, in multiples of 8."""


def network(name: str, image: int = 320) -> Size:
    fine, npu = "fine" in name, "npu" in name
    side = [-(-image // s) for s in ((4, 8, 16, 32) if fine else (8, 16, 32, 64))]
    if name == "s_esnet":
        return esnet(image) + pan((96, 192, 384), side, True) + head(side, False, False)
    channels = XS if name.startswith("xs") else S
    seen = channels[2:5] if fine else channels[3:]
    return lcnet(channels, image, not npu, not fine) + pan(seen, side, npu) + head(side, not npu, True)


EXACT = {
    "xs": (704_254, 330_749_549),
    "s": (1_186_492, 481_103_149),
    "xs_npu": (481_236, 232_509_325),
    "s_npu": (890_284, 382_790_125),
    "xs_npu_fine": (412_348, 742_299_700),
    "s_npu_fine": (619_756, 887_077_300),
    "s_esnet": (992_715, 350_963_528),
}
"""Parameters, and MACs at 320x320, of 80 classes."""


@pytest.mark.parametrize("name", EXACT)
def test_sizes_are_those_of_the_layers(name: str) -> None:
    size = network(name)
    assert (size.params, size.macs) == EXACT[name]
    model = Builder().build(load_config(CONFIGS / f"picodet_{name}.py", {"num_classes": 80}).model, "model")
    report = count_ops(model, (1, 3, 320, 320))
    assert (report.params, report.macs) == EXACT[name]


@pytest.mark.parametrize(
    ("name", "image", "published"),
    [("xs", 320, (70, 67)), ("xs", 416, (70, 113)), ("s", 320, (118, 97)), ("s", 416, (118, 165))],
)
def test_sizes_are_those_published(name: str, image: int, published: tuple[int, int]) -> None:
    """Hundredths of a million parameters and of GFLOPs, cut off, not rounded: two for a MAC, one for each number that a
    batch norm or an activation of a convolution gives."""
    size = network(name, image)
    flops = 2 * size.macs + size.pointwise
    assert (math.floor(size.params / 1e4), math.floor(flops / 1e7)) == published


def test_the_first_release_has_its_parameters() -> None:
    """0.99 M as published; its 0.73 GFLOPs are 0.70 of the convolutions of the published layers, at two a MAC."""
    size = network("s_esnet")
    assert math.floor(size.params / 1e4) == 99
    assert round(2 * size.macs / 1e9, 2) == 0.70


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.py")), ids=lambda path: path.stem)
def test_every_stage_of_a_config_is_valid(path: Path) -> None:
    config = load_config(path, {"num_classes": 3, "imgsz": (96, 64), "epochs": 9, "input_color": "gray"})
    config.validate("model", "float_trainer", "calibration_trainer", "qat_trainer", "int_infer")
    assert not config.unread
    assert {config[f"{stage}_trainer"]["model"]["type"] for stage in ("float", "calibration", "qat")} == {"PicoDet"}
    starts = "initial_epoch" in config.model["train_cfg"]
    assert config.model["train_cfg"].get("initial_epoch", 3) == 3 and starts == ("esnet" not in path.stem)
    kinds = [[c["type"] for c in config[f"{stage}_trainer"]["callbacks"]] for stage in ("float", "qat")]
    assert [found.count("SetEpochInfo") for found in kinds] == [1, 0]
    model = Builder().build(config.model, "model")
    finest = 4 if "fine" in path.stem else 8
    kinds_of_maps = ("cls", "bbox", "align") if starts else ("cls", "bbox")
    assert model.input_channels == 1
    assert model.output_names[::4] == tuple(f"{kind}_{finest}" for kind in kinds_of_maps)
