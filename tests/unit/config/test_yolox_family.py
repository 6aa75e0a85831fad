"""The YOLOX configs: sizes derived layer by layer, which round to the published ones, and what the variants share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from hatdet.building import Builder
from hatdet.config.load import load_config
from hatdet.profiling.calops import count_ops

CONFIGS = Path(__file__).resolve().parents[3] / "configs" / "yolox"


@dataclass(frozen=True)
class Size:
    """Parameters, multiply-accumulates and numbers that batch norms give."""

    params: int = 0
    macs: int = 0
    normed: int = 0

    def __add__(self, other: Size) -> Size:
        return Size(self.params + other.params, self.macs + other.macs, self.normed + other.normed)


def conv(fan_in: int, fan_out: int, kernel: int, side: int, groups: int = 1) -> Size:
    """A convolution without a bias that gives a map of ``side``, and its batch norm (a weight and a bias)."""
    weights = fan_in // groups * fan_out * kernel**2
    return Size(weights + 2 * fan_out, weights * side**2, fan_out * side**2)


def last(fan_in: int, fan_out: int, side: int) -> Size:
    """A 1x1 convolution with a bias."""
    return Size(fan_in * fan_out + fan_out, fan_in * fan_out * side**2)


def network(quarter: float, depthwise: bool, classes: int = 80, image: int = 416) -> Size:
    """YOLOX with ``quarter`` of YOLOX-L's 64, 128, 256, 512, 1024 channels and a third of its blocks (1, 3, 3, 1)."""

    def three(fan_in: int, fan_out: int, side: int) -> Size:
        if depthwise:  # its first half has the input's side; with a step of two that is the output's
            return conv(fan_in, fan_in, 3, side, fan_in) + conv(fan_in, fan_out, 1, side)
        return conv(fan_in, fan_out, 3, side)

    def csp(fan_in: int, fan_out: int, blocks: int, side: int) -> Size:
        half = fan_out // 2
        total = conv(fan_in, half, 1, side) + conv(fan_in, half, 1, side) + conv(2 * half, fan_out, 1, side)
        for _ in range(blocks):
            total += conv(half, half, 1, side) + three(half, half, side)
        return total

    c = [int(n * quarter) for n in (64, 128, 256, 512, 1024)]
    s = [image // 2**i for i in range(1, 6)]
    total = conv(12, c[0], 3, s[0])
    for i, blocks in ((1, 1), (2, 3), (3, 3), (4, 1)):
        total += three(c[i - 1], c[i], s[i]) + csp(c[i], c[i], blocks, s[i])
    total += conv(c[4], c[4] // 2, 1, s[4]) + conv(4 * (c[4] // 2), c[4], 1, s[4])  # three pools beside it
    for high, low in ((4, 3), (3, 2)):
        total += conv(c[high], c[low], 1, s[high]) + csp(2 * c[low], c[low], 1, s[low])
    for low, high in ((2, 3), (3, 4)):
        total += three(c[low], c[low], s[high]) + csp(2 * c[low], c[high], 1, s[high])
    for i in (2, 3, 4):
        total += conv(c[i], c[2], 1, s[i])
        for _ in range(4):  # two for classes, two for boxes
            total += three(c[2], c[2], s[i])
        for numbers in (classes, 4, 1):
            total += last(c[2], numbers, s[i])
    return total


@pytest.mark.parametrize(
    ("name", "quarter", "depthwise", "exact", "published"),
    [
        ("nano", 0.25, True, (912_159, 522_553_408, 8_382_400), ("0.91", "1.08")),
        ("tiny", 0.375, False, (5_055_855, 3_206_268_000, 9_458_592), ("5.06", "6.45")),
    ],
)
def test_sizes_are_those_published(
    name: str, quarter: float, depthwise: bool, exact: tuple[int, int, int], published: tuple[str, str]
) -> None:
    """The paper's table 6; its GFLOPs are twice a count of one a MAC and two a number of a batch norm."""
    size = network(quarter, depthwise)
    assert (size.params, size.macs, size.normed) == exact
    assert (f"{size.params / 1e6:.2f}", f"{2 * (size.macs + 2 * size.normed) / 1e9:.2f}") == published
    model = Builder().build(load_config(CONFIGS / f"yolox_{name}_8xb8_300e_coco.py").model, "model")
    report = count_ops(model, (1, 3, 416, 416))
    assert (report.params, report.macs) == (size.params, size.macs)


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.py")), ids=lambda path: path.stem)
def test_every_stage_of_a_config_is_valid(path: Path) -> None:
    config = load_config(path, {"num_classes": 3, "imgsz": (96, 64), "epochs": 9})
    config.validate("model", "float_trainer", "calibration_trainer", "qat_trainer", "int_infer")
    assert {config[f"{stage}_trainer"]["model"]["type"] for stage in ("float", "calibration", "qat")} == {"mmdet.YOLOX"}
    kinds = [callback["type"] for callback in config.float_trainer["callbacks"]]
    assert kinds.count("YOLOXModeSwitch") == 1 and "PipelineSwitch" not in kinds
    assert [c["num_last_epochs"] for c in config.float_trainer["callbacks"] if c["type"] == "YOLOXModeSwitch"] == [3]


@pytest.mark.parametrize("size", ["nano", "tiny"])
def test_the_variants_are_one_network(size: str) -> None:
    options = {"imgsz": (320, 320)}
    silu, relu6, small = (
        load_config(CONFIGS / f"yolox_{size}_{variant}.py", options)
        for variant in ("8xb8_300e_coco", "8xb8_300e_coco_relu6", "relu6_small_data")
    )
    assert small.model["bbox_head"].pop("initial_distance") == 2.0  # first weights, and below how statistics follow
    assert relu6.model["bbox_head"].pop("initial_distance") is None
    for part in ("backbone", "neck", "bbox_head"):
        assert small.model[part].pop("norm_cfg") == {"type": "BN", "momentum": 0.1, "eps": 0.001}
        assert relu6.model[part].pop("norm_cfg") == {"type": "BN", "momentum": 0.03, "eps": 0.001}
    assert relu6.model == small.model and small.float_trainer["optimizer"]["lr"] == 2e-3
    for part in ("backbone", "neck", "bbox_head"):
        assert silu.model[part].pop("act_cfg") == {"type": "SiLU"}
        assert relu6.model[part].pop("act_cfg") == {"type": "ReLU6"}
        assert silu.model[part].pop("norm_cfg")["momentum"] == 0.03
    assert silu.model["bbox_head"].pop("initial_distance") is None
    assert silu.model == relu6.model
