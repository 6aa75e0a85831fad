"""The names of commands on the line of ``hatdet``, in the order of a project's day, and what a line means."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from hatdet.commands.table import COMMANDS, ELSEWHERE, GROUPS, Command
from hatdet.utils.errors import UserError, nearest

SECTIONS = {
    "Begin": ("init", "demo", "env", "configs", "completion"),
    "Data": ("data", "mscoco-packer", "image-folder-packer", "clean-cache", "convert"),
    "Before training": ("models", "print-config", "calops", "check-model", "convert-checkpoint"),
    "Train": ("train", "tune", "runs", "quantization"),
    "Judge": ("predict", "report", "test", "quant-analysis", "coco-table", "analysis"),
    "Use": ("infer", "serve", "benchmark"),
    "Hand over": ("export", "export-onnx", "compile-perf", "align-bpu-validation", "publish-model"),
}
"""Headings of ``hatdet --help`` and the commands and groups below them."""
COMPLETION = Command("hatdet.commands.program.completion", "print what makes a shell complete this command's lines")
ALIASES = {
    "compare": "runs",
    "pack": "mscoco-packer",
    "detect": "infer",
    "quantize": "quantization",
    "flops": "calops",
    "config": "print-config",
    "check": "check-model",
    "publish": "publish-model",
    "analyze": "analysis",
    "convert checkpoint": "convert-checkpoint",
    "convert voc": "convert pascal-voc",
    "convert crowdhuman": "convert crowdhuman2coco",
    "convert images": "convert images2coco",
    "analysis logs": "analysis analyze-logs",
    "analysis browse": "analysis browse-dataset",
    "analysis errors": "analysis coco-error-analysis",
    "analysis flops": "analysis get-flops",
    "analysis anchors": "analysis optimize-anchors",
}
"""Other names that are understood."""
_SCORING = "`hatdet test CONFIG FILE` scores a model file, `hatdet predict --stage STAGE` a stage of a run"
AMBIGUOUS = dict.fromkeys(("val", "validate", "eval", "evaluate", "score"), _SCORING)
"""Words of other toolboxes that could mean several commands, and which ones."""


class Found(NamedTuple):
    """A command, its full name, and the words that are its own."""

    name: str
    command: Command
    words: list[str]


def dashed(name: str) -> str:
    return name.replace("_", "-")


def commands() -> dict[str, Command]:
    """All commands by their full names, those of groups too: ``analysis analyze-logs``."""
    found = {dashed(name): row for name, row in (*COMMANDS.items(), *ELSEWHERE.items())}
    found["completion"] = COMPLETION
    for group, (_, rows) in GROUPS.items():
        found.update({f"{group} {dashed(name)}": row for name, row in rows.items()})
    return found


def sections() -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Headings, and below each the names with a line for each; a group is one of them."""
    lines = {name: row.help for name, row in commands().items() if " " not in name}
    lines |= {name: f"{group.help[0].lower()}{group.help[1:]} (hatdet {name} --help)" for name, group in GROUPS.items()}
    for heading, names in SECTIONS.items():
        yield heading, [(name, lines.pop(name)) for name in names if name in lines]
    if lines:
        yield "More", list(lines.items())


def find(words: Sequence[str]) -> Found:
    """What a command line means. ``_`` is as good as ``-``, and the names of :data:`ALIASES` are understood.

    Raises:
        UserError: there is no such command; the message names the nearest.
    """
    known = commands()
    first = dashed(words[0])
    first = ALIASES.get(first, first)
    if first in GROUPS:
        return _in_group(first, words[1:], known)
    if first in known:
        return Found(first, known[first], list(words[1:]))
    if first in AMBIGUOUS:
        raise UserError(f"no command {words[0]!r}: {AMBIGUOUS[first]}")
    tops = [*{name.split()[0] for name in known}, *(alias for alias in ALIASES if " " not in alias)]
    hint = _hint(first, tops, [name for name in known if " " in name])
    raise UserError(f"no command {words[0]!r}; {hint}`hatdet --help` lists all commands")


def _in_group(group: str, words: Sequence[str], known: dict[str, Command]) -> Found:
    name = f"{group} {dashed(words[0])}" if words else group
    name = ALIASES.get(name, name)
    if name in known:
        return Found(name, known[name], list(words[1:]))
    inside = [other.split()[1] for other in (*known, *ALIASES) if other.startswith(group + " ")]
    if not words:
        raise UserError(f"hatdet {group} needs a command of its own; `hatdet {group} --help` lists them")
    hint = _hint(dashed(words[0]), inside)
    raise UserError(f"hatdet {group}: no command {words[0]!r}; {hint}`hatdet {group} --help` lists all commands")


def _hint(word: str, names: Sequence[str], nested: Sequence[str] = ()) -> str:
    """A question that names the nearest; a command of a group (``nested``) is found by its own name too."""
    inside = {name.split()[1]: name for name in nested}
    found = [word] if word in inside else nearest(word, [*sorted(names), *inside], n=2)
    return f"did you mean {' or '.join(repr(inside.get(name, name)) for name in found)}? " if found else ""
