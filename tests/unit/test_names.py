"""Files, modules and what modules define are where documents, docstrings and messages say."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "hatdet"
ROOMS = "|".join(sorted(path.parent.name for path in PACKAGE.glob("*/__init__.py")))
PATHS = re.compile(
    r"(?<![\w./{<-])((?:hatdet|tests|configs|tools|docs|benchmarks|examples)/[\w./-]*\w"
    rf"|(?:{ROOMS})/[\w./-]*\.(?:py|h)\b)(.?)"
)
DOTTED = re.compile(rf"(?<![\w./-])(hatdet(?:\.[A-Za-z_]\w*)+)|`((?:{ROOMS})(?:\.[A-Za-z_]\w*){{2,}})")
ENDINGS = ("json", "csv", "onnx")
INVENTED = {"tools/NAME"}


def texts() -> Iterator[tuple[str, str]]:
    """Every document and every source file that users meet."""
    documents = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("benchmarks/*.md"), ROOT / "Makefile"]
    folders = ("hatdet", "tools", "configs", "benchmarks")
    for path in [*documents, *(path for folder in folders for path in (ROOT / folder).rglob("*.py"))]:
        yield str(path.relative_to(ROOT)), path.read_text(encoding="utf-8")


def is_there(name: str) -> bool:
    """A dotted name: a package, a module, or what one says at the beginning of a line."""
    place, words = ROOT, name.split(".")
    while words and (place / words[0]).is_dir():
        place /= words.pop(0)
    if words and (place / f"{words[0]}.py").is_file():
        place /= f"{words.pop(0)}.py"
    if not words or place.is_dir():
        return not words or words[0].startswith("__") or words[0] in ENDINGS
    return bool(re.search(rf"^(?:def |class )?{words[0]}\b", place.read_text(encoding="utf-8"), re.MULTILINE))


def missing(text: str) -> list[str]:
    """The names in ``text`` of which there is nothing."""
    found = []
    for name, after in PATHS.findall(text):
        if after not in ("*", "<", "{") and not any((root / name).exists() for root in (ROOT, PACKAGE)):
            found.append(name)
    for whole, part in DOTTED.findall(text):
        if not is_there(whole or f"hatdet.{part}"):
            found.append(whole or part)
    return [name for name in found if name not in INVENTED]


def test_every_name_in_the_documents_and_the_sources_is_there() -> None:
    assert {place: names for place, text in texts() if (names := missing(text))} == {}


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("see `hatdet/export/onnx_file.py`, or docs/gone.md.", ["hatdet/export/onnx_file.py", "docs/gone.md"]),
        ("see `engine/bits.py`", ["engine/bits.py"]),
        (":mod:`hatdet.export.tflite_float`", ["hatdet.export.tflite_float"]),
        ("`export.vela.compile_file(bytes)`", ["export.vela.compile_file"]),
        ("`hatdet.export.onnx.file.read_metdata`", ["hatdet.export.onnx.file.read_metdata"]),
        ("`export.onnx.file.read_metadata`, `engine/checkpoints/bits.py`, docs/targets.md, `hatdet/data/`", []),
        ("`config.path`, configs/<detector>/*.py, data/coco", []),
    ],
)
def test_names_that_are_not_there_are_found(text: str, names: list[str]) -> None:
    assert missing(text) == names
