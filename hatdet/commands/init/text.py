"""The config as text, and what is said of the data set beside it."""

from __future__ import annotations

import json
from pathlib import Path

from hatdet.commands.init import choices
from hatdet.commands.init.choices import Choice
from hatdet.commands.init.reading import Survey
from hatdet.engine.processes.recipe import SMALL

BASE = "hatdet:rtmdet/rtmdet_nano_ncadc_relu6_small_data.py"
POINTS_BASE = "hatdet:fomo/fomo_mobilenetv2_035.py"


def config_text(data: Survey, chosen: dict[str, Choice], target: str) -> str:
    """The config file: each line with its reason above it.

    Args:
        chosen: ``model``, ``imgsz``, ``epochs``, ``recipe``, ``batch_size``, ``arithmetic``.
    """
    network = str(chosen["model"].value)
    name, base = ("FOMO", POINTS_BASE) if network == choices.POINTS else (f"RTMDet-{network}", BASE)
    lines = [
        f'"""{_plain(data.root.resolve().name)}: {name} for {target}. Written by `hatdet init`."""',
        "",
        f"# {network}: {chosen['model'].why}",
        f'_base_ = "{base}"',
        *(f"{name} = {value!r}" for name, value in choices.NETWORKS.get(network, {}).items()),
        f"data_root = {_quoted(str(data.root))}",
    ]
    if "classes" in data.settings:
        lines.append("# named, for the splits' annotations do not list the same")
    else:
        lines.append(f"num_classes = {len(data.classes)}  # {_listed(data.classes)}")
    lines += [f"{name} = {value!r}" for name, value in data.settings.items()]
    if target != "tflite":
        lines.append(f"target = {_quoted(target)}")
    lines += [f"# {chosen['arithmetic'].why}", f"arithmetic = {_quoted(str(chosen['arithmetic'].value))}"]
    for name in ("imgsz", "epochs", "batch_size"):
        lines += [f"# {chosen[name].why}", f"{name} = {chosen[name].value!r}"]
    if chosen["recipe"].value != SMALL:
        lines += [f"# {chosen['recipe'].why}", f"recipe = {_quoted(str(chosen['recipe'].value))}"]
    elif len(data.train) >= 10000:
        lines += ["# pictures shining through each other help where there are many", "mixup_prob = 0.15"]
    return "\n".join(lines) + "\n"


def findings(data: Survey, chosen: dict[str, Choice]) -> list[str]:
    """What was found in the data set, what was chosen and why, for the terminal."""
    boxes = sum(len(picture.boxes) for picture in data.train)
    size = max(chosen["imgsz"].value)  # type: ignore[call-overload]
    sides = choices.box_sides(data.train, size)
    middle = sides[len(sides) // 2]
    counts = ", ".join(f"{_plain(name)} {count}" for name, count in list(zip(data.classes, data.counts))[:8])
    lines = [
        f"{data.root}: {data.format}, {len(data.train)} pictures to train with, {len(data.val)} to validate,"
        f" {len(data.classes)} classes",
        f"  {boxes} objects in train: {counts}" + (", ..." if len(data.classes) > 8 else ""),
        f"  half of them are below {middle:.0f} px at an input of {size} x {size}",
    ]
    absent = [name for name, count in zip(data.classes, data.counts) if not count]
    if absent:
        lines.append(f"  no object of {_listed(absent)} in train: nothing can learn these")
    if len(data.train) < 100:
        lines.append("  below 100 pictures, labelling more is cheaper than anything else that helps")
    lines += [f"  {remark}" for remark in data.remarks[:5]]
    if len(data.remarks) > 5:
        lines.append(f"  and {len(data.remarks) - 5} more remarks; the first training prints all")
    lines.append("")
    for name, choice in chosen.items():
        lines.append(f"{name:<11} {choice.value!s:<11} {choice.why}")
    shape = choices.narrow(data.train, size)
    if shape is not None:
        saved = 100 - 100 * shape[0] * shape[1] / size**2
        lines.append(
            f"            (nearly all pictures have one shape: imgsz = {shape} shows the objects as large for"
            f" {saved:.0f} % less)"
        )
    return lines


def next_steps(file: Path) -> list[str]:
    """The commands that follow."""
    return [
        f"python tools/train.py --stage float {file}",
        f"python tools/train.py --stage calibration {file}",
        f"python tools/train.py --stage qat {file}",
        f"python tools/predict.py --stage int_infer {file}",
        f"python tools/export.py {file} --verify 16",
    ]


def _listed(names: tuple[str, ...] | list[str]) -> str:
    return ", ".join(map(_plain, names[:8])) + (f" and {len(names) - 8} more" if len(names) > 8 else "")


def _quoted(text: str) -> str:
    """As a literal in the config's style; what JSON escapes, Python reads the same."""
    return json.dumps(text, ensure_ascii=not text.isprintable())


def _plain(text: str) -> str:
    """A name from outside as part of a comment: nothing in it ends the comment, or the docstring."""
    return "".join(c if c.isprintable() and c not in '"\\' else "_" for c in text)
