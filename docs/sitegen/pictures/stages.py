"""The pictures of the page about the four stages."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from hatdet.integer.arithmetic import conv_multiplier, multiply_by_quantized_multiplier, quantize_multiplier
from hatdet.quantization.qat.observers import clip_min_max, clip_percentile
from sitegen.pictures.svg import INK, ORANGE, PALE, SOFT, TEAL, arrow, bar, box, drawing, line, text

ROAD = {
    "en": (
        "The road: four stages, one file",
        ("1 float", "weights learn", "float32", "AP"),
        ("2 calibration", "ranges are found", "int8", "AP of the integers"),
        ("3 qat", "weights learn rounding", "int8", "AP of the integers"),
        ("4 int_infer", "the integer model", "int8", "AP of the device"),
        "every value is compared: equal",
    ),
    "zh": (
        "四个阶段，一个文件",
        ("1 float", "训练权重", "float32", "AP"),
        ("2 calibration", "确定数值范围", "int8", "整数模型的 AP"),
        ("3 qat", "权重学会被取整", "int8", "整数模型的 AP"),
        ("4 int_infer", "整数模型", "int8", "设备上的 AP"),
        "逐个数值比较：相等",
    ),
}


def road(language: str) -> str:
    """Four boxes, what is computed with in each, what is reported, and the file."""
    title, *stages, equal = ROAD[language]
    shapes: list[str] = []
    for number, stage in enumerate(stages):
        name, does, arithmetic, says = stage
        x = 10 + 178 * number
        integer = arithmetic == "int8"
        shapes.append(box(x, 20, 160, 96, fill=PALE if integer else "#fff", stroke=TEAL if integer else SOFT))
        shapes.append(text(x + 80, 44, str(name), size=16, bold=True))
        shapes.append(text(x + 80, 66, str(does), size=12))
        shapes.append(text(x + 80, 86, str(arithmetic), fill=TEAL if integer else SOFT, bold=True))
        shapes.append(text(x + 80, 106, str(says), size=12, fill=SOFT))
        if number:
            shapes.append(arrow(x - 17, 68, x - 2, 68))
    last = 10 + 178 * 3 + 80
    shapes += [arrow(last, 118, last, 156), box(last - 80, 158, 160, 34, fill="#fff3e0", stroke=ORANGE)]
    shapes.append(text(last, 180, "model_int8.tflite", bold=True))
    shapes.append(text(last - 92, 179, str(equal), anchor="end", fill=ORANGE))
    return drawing(720, 204, shapes, str(title))


CALIBRATION = {
    "en": ("Calibration: the range of the 256 codes", "min_max: one step is {:.3f}", "percentile: one step is {:.3f}"),
    "zh": ("校准：256 个编码覆盖哪个范围", "min_max：一步为 {:.3f}", "percentile：一步为 {:.3f}"),
}


def activations() -> torch.Tensor:
    """What a layer behind a ReLU gives, many small values and few large ones; drawn from a seed."""
    rng = np.random.default_rng(3)
    values = np.concatenate([rng.exponential(0.45, 20_000), rng.uniform(7.0, 9.0, 2)])
    return torch.from_numpy(values.astype(np.float32))


def calibration(language: str) -> str:
    """A histogram (logarithmic) and the ranges of two observers, which are hatdet's own."""
    title, widest, rare = CALIBRATION[language]
    values = activations()
    top = 9.2
    counts, _ = np.histogram(values.numpy(), bins=92, range=(0, top))
    left, wide, ground, high = 30, 660, 150, 115

    def place(value: float) -> float:
        return left + wide * value / top

    scale = high / np.log1p(counts.max())
    step = wide / len(counts)
    shapes = [
        bar(left + step * n, ground - scale * np.log1p(c), step - 1, scale * np.log1p(c), "#80cbc4")
        for n, c in enumerate(counts)
        if c
    ]
    shapes.append(line([(left, ground), (left + wide, ground)], stroke=SOFT))
    for row, (clip, words, colour) in enumerate(((clip_min_max, widest, SOFT), (clip_percentile, rare, ORANGE))):
        end = clip(values)[1]
        y = ground + 22 + 26 * row
        shapes.append(line([(place(0), y - 5), (place(0), y + 5)], stroke=colour, width=2))
        shapes.append(line([(place(0), y), (place(end), y)], stroke=colour, width=3))
        shapes.append(line([(place(end), y - 5), (place(end), y + 5)], stroke=colour, width=2))
        shapes.append(line([(place(end), ground), (place(end), 24)], stroke=colour, dash="4 4"))
        shapes.append(text(place(end) - 8, y - 6, words.format(end / 255), size=12, fill=colour, anchor="end"))
    return drawing(720, 212, shapes, title)


QAT = {
    "en": (
        "QAT: rounded forward, straight back",
        "forward: the codes that ship",
        "backward: the gradient of the line",
        "weight before rounding",
        "code",
    ),
    "zh": ("QAT：前向取整，反向直通", "前向：交付的编码", "反向：按直线求梯度", "取整前的权重", "编码"),
}


def qat(language: str) -> str:
    """A staircase, the line that gradients see, and a weight that training moves over a step."""
    title, forward, backward, across, up = QAT[language]
    left, ground, unit = 70, 190, 46

    def place(x: float, y: float) -> tuple[float, float]:
        return left + 2.2 * unit * x, ground - unit * y * 0.8

    real = np.linspace(0, 4.6, 461)
    stairs = [place(float(x), float(y)) for x, y in zip(real, np.floor(real + 0.5), strict=True)]
    shapes = [
        arrow(left, ground, left + 530, ground, SOFT),
        arrow(left, ground, left, 14, SOFT),
        line([place(0, 0), place(4.6, 4.6)], stroke=ORANGE, dash="5 4"),
        line(stairs, stroke=TEAL, width=2.5),
        text(left + 530, ground + 20, across, size=12, fill=SOFT, anchor="end"),
        text(left - 8, 20, up, size=12, fill=SOFT, anchor="end"),
        text(left + 20, 40, forward, fill=TEAL, anchor="start"),
        text(left + 20, 60, backward, fill=ORANGE, anchor="start"),
    ]
    shapes += [text(left - 10, place(0, code)[1] + 5, str(code), size=12, fill=SOFT, anchor="end") for code in range(5)]
    for value, code in ((2.42, 2), (2.61, 3)):
        x, y = place(value, code)
        shapes.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="{INK}"/>')
        shapes.append(text(x + (-8 if code == 2 else 8), y + (18 if code == 2 else -8), f"{value} → {code}", size=12,
                           anchor="end" if code == 2 else "start"))  # fmt: skip
    return drawing(720, 216, shapes, title)


INTEGERS = {
    "en": (
        "One output value of a convolution, in integers",
        "codes and weights",
        "sum, 32 bits",
        "times the multiplier, rounded",
        "plus zero point, clamped",
    ),
    "zh": ("卷积的一个输出值，全部为整数", "编码与权重", "求和，32 位", "乘以定点乘数并取整", "加零点并截断"),
}


def worked_example() -> dict[str, int | float]:
    """Four codes through a convolution of one position: the numbers of the page and of its picture."""
    codes, weights = np.array([12, -100, 127, 40]), np.array([55, -3, 127, -80])
    zero_x, zero_y, bias = -128, -10, 321
    scale_x, scale_w, scale_y = 1 / 255, 0.004, 0.05
    total = int(((codes - zero_x) * weights).sum()) + bias
    multiplier = float(conv_multiplier(scale_x, np.array([scale_w], np.float32), scale_y)[0])
    m, e = (int(each) for each in quantize_multiplier(multiplier))
    scaled = int(multiply_by_quantized_multiplier(total, m, e))
    code = max(-128, min(127, scaled + zero_y))
    return {"total": total, "multiplier": multiplier, "m": m, "e": e, "scaled": scaled, "code": code, "zero_y": zero_y}


def integers(language: str) -> str:
    """Four boxes with the numbers of :func:`worked_example`."""
    title, *steps = INTEGERS[language]
    found = worked_example()
    values = [
        "(q − Z) · w + b",
        f"{found['total']}",
        f"· {found['m']} · 2^{int(found['e']) - 31} = {found['scaled']}",
        f"{found['scaled']} + ({found['zero_y']}) = {found['code']}",
    ]
    shapes: list[str] = []
    widths, x = (140, 130, 230, 170), 10.0
    for number, (step, value, width) in enumerate(zip(steps, values, widths, strict=True)):
        if number:
            shapes.append(arrow(x - 9, 50, x - 1, 50))
        shapes += [box(x, 16, width, 66), text(x + width / 2, 44, value, bold=True, size=13)]
        shapes.append(text(x + width / 2, 68, step, size=12, fill=SOFT))
        x += width + 10
    return drawing(720, 98, shapes, title)


PICTURES: dict[str, Callable[[str], str]] = {"road": road, "calibration": calibration, "qat": qat, "integers": integers}
LANGUAGES = ("en", "zh")


def files() -> dict[str, str]:
    """All pictures by their place in the site."""
    return {f"pictures/{name}.{lang}.svg": draw(lang) for name, draw in PICTURES.items() for lang in LANGUAGES}
