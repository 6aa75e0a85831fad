"""The NanoDet-Plus configs: sizes derived layer by layer, which give the project's figures, and what variants share."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from hatdet.building import Builder
from hatdet.commands.export.run import check_strides
from hatdet.config.load import load_config
from hatdet.profiling.calops import count_ops

CONFIGS = Path(__file__).resolve().parents[3] / "configs" / "nanodet"


@dataclass(frozen=True)
class Size:
    """Parameters of convolutions and of batch norms, and multiply-accumulates."""

    weights: int = 0
    norms: int = 0
    macs: int = 0

    def __add__(self, other: Size) -> Size:
        return Size(self.weights + other.weights, self.norms + other.norms, self.macs + other.macs)


def conv(fan_in: int, fan_out: int, kernel: int, side: int, groups: int = 1) -> Size:
    """A convolution without a bias that gives a map of ``side``, and its batch norm."""
    weights = fan_in // groups * fan_out * kernel**2
    return Size(weights, 2 * fan_out, weights * side**2)


def separable(fan_in: int, fan_out: int, kernel: int, side: int) -> Size:
    return conv(fan_in, fan_in, kernel, side, fan_in) + conv(fan_in, fan_out, 1, side)


def backbone(channels: tuple[int, int, int], sides: list[int], stem: int) -> Size:
    """ShuffleNetV2: 24 channels, then 4, 8, 4 blocks."""
    total, before = conv(3, 24, 3, stem), 24
    for width, blocks, side in zip(channels, (4, 8, 4), sides):
        half, fine = width // 2, 2 * side
        total += separable(before, half, 3, side)
        total += conv(before, half, 1, fine) + separable(half, half, 3, side)
        for _ in range(blocks - 1):
            total += conv(half, half, 1, side) + separable(half, half, 3, side)
        before = width
    return total


def ghosts(width: int, side: int) -> Size:
    """A bottleneck of 2 * width channels to width, and what is beside it."""
    half = width // 2
    modules = conv(2 * width, half, 1, side) + conv(half, half, 3, side, half)
    modules += conv(width, half, 1, side) + conv(half, half, 3, side, half)
    return modules + separable(2 * width, width, 5, side)


def network(channels: tuple[int, int, int], width: int, image: int, classes: int = 80) -> Size:
    stem = image // 2
    sides = list(itertools.accumulate(range(4), lambda side, _: math.ceil(side / 2), initial=image // 4))[1:]
    total = backbone(channels, sides[:3], stem)
    for fan_in, side in zip(channels, sides):
        total += conv(fan_in, width, 1, side)
    for side in (sides[1], sides[0]):
        total += ghosts(width, side)
    for side in sides[1:3]:
        total += separable(width, width, 5, side) + ghosts(width, side)
    total += separable(width, width, 5, sides[3]) + separable(width, width, 5, sides[3])
    for side in sides:
        total += separable(width, width, 5, side) + separable(width, width, 5, side)
        numbers = classes + 4 * 8
        total += Size(width * numbers + numbers, 0, width * numbers * side**2)
    return total


def cut(number: float, digits: int) -> str:
    return f"{math.floor(number * 10**digits) / 10**digits:.{digits}f}"


@pytest.mark.parametrize(
    ("name", "channels", "width", "params", "million", "giga"),
    [
        (
            "m", (116, 232, 464), 96, (1_174_768, 23_156), "1.17",
            {320: (450_712_800, "0.90"), 416: (762_090_840, "1.52")},
        ),
        (
            "m_1.5x", (176, 352, 704), 128, (2_444_368, 33_424), "2.44",
            {320: (879_196_800, "1.75"), 416: (1_486_468_128, "2.97")},
        ),
    ],
)  # fmt: skip
def test_sizes_are_those_published(
    name: str, channels: tuple[int, int, int], width: int, params: tuple[int, int], million: str,
    giga: dict[int, tuple[int, str]],
) -> None:  # fmt: skip
    """The README's table, cut after the second digit: parameters without batch norms, two FLOPs a MAC."""
    model = Builder().build(load_config(CONFIGS / f"nanodet_plus_{name}_300e_coco.py").model, "model")
    for image, (macs, published) in giga.items():
        size = network(channels, width, image)
        assert (size.weights, size.norms, size.macs) == (*params, macs)
        assert (cut(size.weights / 1e6, 2), cut(2 * size.macs / 1e9, 2)) == (million, published)
        report = count_ops(model, (1, 3, image, image))
        assert (report.params, report.macs) == (size.weights + size.norms, size.macs)


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.py")), ids=lambda path: path.stem)
def test_every_stage_of_a_config_is_valid(path: Path) -> None:
    config = load_config(path, {"num_classes": 3, "imgsz": (96, 64), "input_color": "gray"})
    config.validate("model", "float_trainer", "calibration_trainer", "qat_trainer", "int_infer")
    assert config.model["type"] == "NanoDetPlus" and config.model["bbox_head"]["num_classes"] == 3
    assert config.model["input_color"] == "gray"
    assert config.model["bbox_head"]["strides"] == (8, 16, 32, 64) and config.strides == (8, 16, 32)
    check_strides(config, (416, 416))  # the published size has half cells at stride 64
    assert {config[f"{stage}_trainer"]["model"]["type"] for stage in ("float", "calibration", "qat")} == {"NanoDetPlus"}


def test_the_variants_are_one_network() -> None:
    options = {"imgsz": (320, 320)}
    plain, relu6, small, half = (
        load_config(CONFIGS / f"nanodet_plus_{name}.py", options)
        for name in ("m_300e_coco", "m_300e_coco_relu6", "m_relu6_small_data", "m_0.5x_relu6_small_data")
    )
    assert relu6.model == small.model and small.float_trainer["optimizer"]["lr"] == 2e-3
    assert half.model["backbone"].pop("model_size") == "0.5x" and small.model["backbone"].pop("model_size") == "1.0x"
    assert half.model == small.model
    for part in ("backbone", "neck", "bbox_head"):
        assert plain.model[part].pop("activation") == "LeakyReLU" and relu6.model[part].pop("activation") == "ReLU6"
    relu6.model["backbone"]["model_size"] = "1.0x"  # the dict is small's too
    assert plain.model == relu6.model


def test_options_reach_the_parts_and_parts_fit_each_other() -> None:
    given: dict[str, Any] = {"model_size": "0.5x", "head_channels": 32, "upsample": "nearest", "num_classes": 2}
    config = load_config(CONFIGS / "nanodet_plus_m_300e_coco_relu6.py", {**given, "soft_center_radius": 1e6})
    model = Builder().build(config.model, "model")
    assert model.neck.in_channels == (48, 96, 192) and model.neck.upsample.mode == "nearest"
    assert (model.head.in_channels, model.head.num_classes, model.head.level_strides) == (32, 2, (8, 16, 32, 64))
    assert model.head.train_cfg["assigner"].soft_center_radius == 1e6
