"""The words and numbers of a decoder's C header."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hatdet.export.opening import wrapped_lines

BODY = Path(__file__).with_name("body.h")
FLOAT_MAX = float(np.finfo(np.float32).max)
CHANNELS = {"BGR": 0, "RGB": 1, "YUV": 2, "GRAY": 3}


def introduction(model: Mapping[str, Any], source: str, workspace: int, constants: int, maths: str) -> str:
    """The comment that the header begins with.

    Args:
        workspace, constants: bytes.
        maths: what of the C library is needed, a line.
    """
    image, outputs = model["input"], model["outputs"]
    lines = "\n".join(
        f" *   {i}  {o['name']:<10} {o['dtype']} [{o['height']}][{o['width']}][{o['channels']}], "
        f"real = {float_literal(o['scale'])} * (code - {_signed(o['zero_point'])})"
        for i, o in enumerate(outputs)
    )
    shape = "keeps its proportions" if image["keep_ratio"] else "is stretched"
    code = "int8_t" if outputs[0]["dtype"] == "int8" else "int16_t"
    count = channels_of(image)
    order = ", ".join(image["channels"]) if count == 3 else "gray"
    pixel = "B, G, R bytes" if count == 3 else "gray bytes; B, G, R bytes through hdx_letterbox_bgr"
    name, stride = ("bgr", "3 * width") if count == 3 else ("gray", "width")
    return f"""/*
 * {comment(source)}
 *
 * From a picture to the input of the network, and from its raw outputs to boxes. C99, no allocation, no state.
 * {maths}Classes: {comment(", ".join(model["classes"]))}.
 *
 * Input: int8 [{image["height"]}][{image["width"]}][{count}], code = pixel - 128, channels {order}.
 * The picture ({pixel}) {shape}, is resized bilinearly (as OpenCV's INTER_LINEAR), stands in the top
 * left corner; the padding is {image["fill"]}.
 * Outputs, in the order of the file:
{lines}
 * They must be those of the file's arithmetic; options of the interpreter choose it:
{wrapped_lines(model, comment, " * ")}
 * Thresholds: {_settings(model)}.
 *
 * Memory: {workspace} bytes of workspace and {24 * model["max_per_img"]} bytes of detections, both the
 * caller's; constants: {constants} bytes of tables.
 *
 * Results are those of hatdet's own post-processing. A code below its level's threshold is dropped as an integer;
 * scores, points, distances and boxes are float, overlaps double, rounded to float. Equal scores come by level,
 * position (row by row), anchor, class. Compile without contraction of products and sums: -ffp-contract=off, which
 * -std=c99 implies.
 *
 * Example:
 *
 *   static hdx_workspace work;
 *   static hdx_detection found[HDX_MAX_DETECTIONS];
 *   static int8_t input[HDX_INPUT_HEIGHT * HDX_INPUT_WIDTH * HDX_INPUT_CHANNELS];
 *
 *   int32_t detect(const uint8_t *{name}, int32_t height, int32_t width) {{
 *       const {code} *outputs[HDX_OUTPUTS];
 *       hdx_letterbox({name}, height, width, {stride}, &work, input);
 *       run_network(input, outputs); // yours: sets the pointers to the raw outputs
 *       return hdx_decode(outputs, height, width, &work, found); // found[0] is the best
 *   }}
 */"""


def channels_of(image: Mapping[str, Any]) -> int:
    return 1 if image["channels"] == "GRAY" else 3


def picture_constants(model: Mapping[str, Any]) -> dict[str, Any]:
    """What the header defines of the input, by name."""
    image = model["input"]
    return {
        "INPUT_HEIGHT": image["height"],
        "INPUT_WIDTH": image["width"],
        "INPUT_CHANNELS": channels_of(image),
        "RESIZE_HEIGHT": f"{image['resize'][0]} /* what the picture fits into */",
        "RESIZE_WIDTH": image["resize"][1],
        "KEEP_RATIO": int(image["keep_ratio"]),
        "FILL": image["fill"],
        **CHANNELS,
        "CHANNELS": f"HDX_{image['channels']}",
    }


def _settings(model: Mapping[str, Any]) -> str:
    if model.get("cells"):
        near = f"cells within {model['fuse']} of a better one of their class left out" if model["fuse"] else "no fusing"
        return f"score > {model['score_thr']}, {near}, best {model['max_per_img']} of an image"
    above, where = (">=" if model.get("reaches") else ">"), ("all levels" if model.get("whole") else "a level")
    overlap = f"IoU > {model['iou_threshold']} in a class"
    if model.get("class_agnostic"):
        overlap = f"IoU > {model['iou_threshold']} in any class"
    elif model.get("by_level"):
        overlap = f"IoU > {model['iou_threshold']} in a level"
    if model.get("soft"):
        overlap = f"{overlap}, softly ({model['soft']})"
    if not model.get("suppresses", True):
        overlap = "no suppression"
    kept = "priors of" if model.get("by_prior") else "of"
    votes = ", boxes by votes" if model.get("vote") else ""
    return (
        f"score {above} {model['score_thr']}, best {model['nms_pre']} {kept} {where}, {overlap}, "
        f"best {model['max_per_img']} of an image{votes}"
    )


def float_literal(value: float) -> str:
    """A float literal that is read back as the same float32; infinity becomes the largest number."""
    number = float(np.float32(min(value, FLOAT_MAX)))
    assert math.isfinite(number)
    text = f"{number:.9g}"
    return f"{text}f" if any(mark in text for mark in ".e") else f"{text}.0f"


def double_literal(value: float) -> str:
    """A double literal that is read back as the same number."""
    text = repr(float(value))
    return text if any(mark in text for mark in ".en") else f"{text}.0"


def _signed(value: int) -> str:
    return str(value) if value >= 0 else f"({value})"


def string_literal(text: str) -> str:
    """A C string literal of any text: UTF-8, with everything unusual in octal."""
    plain = set(b" !#$%&'()*+,-./0123456789:;<=>@ABCDEFGHIJKLMNOPQRSTUVWXYZ[]^_`abcdefghijklmnopqrstuvwxyz{|}~")
    return '"' + "".join(chr(b) if b in plain else f"\\{b:03o}" for b in text.encode("utf-8")) + '"'


def comment(text: str) -> str:
    """Text that cannot end a comment, in one line."""
    return " ".join(text.split()).replace("*/", "* /").replace("/*", "/ *").replace("\\", "/")


def wrapped(values: Sequence[str], width: int = 116) -> str:
    lines, line = [], "   "
    for value in values:
        if len(line) + len(value) + 2 > width:
            lines.append(line)
            line = "   "
        line += f" {value},"
    return "\n".join([*lines, line])
