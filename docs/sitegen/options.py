"""The options of the shipped configs: the names at the top of a base file, with the comments that stand beside them."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from typing import NamedTuple

from sitegen.paths import ROOT
from sitegen.text import cell, code

FILES = {
    "RTMDet": "configs/_base_/rtmdet.py",
    "YOLOX": "configs/_base_/yolox.py",
    "PicoDet": "configs/_base_/picodet.py",
    "NanoDet-Plus": "configs/_base_/nanodet.py",
    "RetinaNet with VarGNetV2": "configs/detection/retinanet/retinanet_vargnetv2_fpn_mscoco.py",
    "Detectors in MMDetection's words": "configs/mmdetection/small_data_256_int8.py",
    "Classification": "configs/classification/vargnetv2_imagenet.py",
}
HEADING = re.compile(r"^# -{2,} (?P<title>.+?) -{2,}$", re.MULTILINE)
SIMPLE = (ast.Constant, ast.Tuple, ast.List, ast.UnaryOp, ast.BinOp, ast.Call, ast.IfExp, ast.Name, ast.Compare)


class Option(NamedTuple):
    """A name of a config, what it is assigned, the comment beside it, and the heading above it."""

    name: str
    value: str
    comment: str
    section: str


def options(source: str) -> list[Option]:
    """The options of a config file: names that it assigns before its first dict of parts, but for those with ``_``."""
    comments = {
        token.start[0]: token.string.lstrip("# ")
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    }
    headings = {source.count("\n", 0, found.start()) + 1: found["title"] for found in HEADING.finditer(source)}
    lines, made = source.split("\n"), list[Option]()
    for node in ast.parse(source).body:
        if not isinstance(node, ast.Assign) or not isinstance(node.targets[0], ast.Name):
            continue
        name = node.targets[0].id
        if name == "model":
            break
        if name.startswith("_") or not isinstance(node.value, SIMPLE) or _is_dict(node.value):
            continue
        comment = comments.get(node.end_lineno or node.lineno, "") or _above(comments, lines, node.lineno)
        section = next((title for line, title in reversed(headings.items()) if line < node.lineno), "")
        made.append(Option(name, ast.unparse(node.value), comment, section))
    return made


def recipes(source: str) -> dict[str, dict[str, object]]:
    """The ``_recipes_`` of a config file: by name, the values that other names have under it."""
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == "_recipes_":
            return dict(ast.literal_eval(node.value))
    return {}


def _is_dict(value: ast.expr) -> bool:
    return isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id == "dict"


def _above(comments: dict[int, str], lines: list[str], number: int) -> str:
    """A comment that fills the lines just above, unless it is a heading."""
    found: list[str] = []
    while (number := number - 1) in comments:
        if not lines[number - 1].startswith("#") or HEADING.match(lines[number - 1]):
            break
        found.insert(0, comments[number])
    return " ".join(found)


PAGE = """\
# Options

Names at the top of the shipped configs, with their defaults: `--cfg-options NAME=VALUE` on any command line, or an
assignment in a config of your own. They take effect before anything is computed from them, so `epochs=20` moves every
schedule along. What a variant assigns otherwise is in [its file](../configs/index.md); `hatdet print-config CONFIG`
prints what came of it.
"""


def pages() -> dict[str, str]:
    lines = [PAGE]
    for title, path in FILES.items():
        lines += ["", f"## {title}", "", f"`{path}`", ""]
        section = None
        source = (ROOT / path).read_text(encoding="utf-8")
        for name, values in recipes(source).items():
            shown = ", ".join(code(f"{option}={value!r}") for option, value in values.items())
            lines += [f"`recipe={name}`: {shown or 'the defaults below'}", ""]
        for option in options(source):
            if option.section != section:
                section = option.section
                lines += ["", f"**{section[:1].upper()}{section[1:]}**", ""] if section else [""]
                lines += ["| name | default | |", "|---|---|---|"]
            lines.append(f"| `{option.name}` | {code(option.value)} | {cell(option.comment)} |")
    return {"reference/options.md": "\n".join(lines) + "\n"}
