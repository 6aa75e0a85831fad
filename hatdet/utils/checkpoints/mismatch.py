"""Why weights do not fit a model: the few reasons behind hundreds of names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

Shape = tuple[int, ...]
SHOWN = 3


def reasons(reshaped: Sequence[tuple[str, Shape, Shape]], missing: Sequence[str], extra: Sequence[str]) -> list[str]:
    """The most telling reasons, at most three: other widths and numbers of classes before parts that one side lacks.

    Args:
        reshaped: name, shape in the file, shape in the model. missing: names that the file lacks. extra: that the
            model lacks.
    """
    found = _widths(reshaped)
    parts: list[tuple[int, str]] = []
    for names, text in ((missing, "the file has nothing for"), (extra, "the model has nothing for")):
        for part, inside in _parts(names).items():
            count = len(inside)
            many = f"{count} tensors" if count > 1 else "1 tensor"
            example = f", such as {inside[0]}" if count > 1 and "." not in part else ""
            parts.append((count, f"{text} {part} ({many}{example})"))
    parts.sort(key=lambda pair: -pair[0])
    return (found + [text for _, text in parts])[:SHOWN]


def _widths(reshaped: Sequence[tuple[str, Shape, Shape]]) -> list[str]:
    """Layers of another shape: as a ratio where most of them share one, else the part with its first layer."""
    if not reshaped:
        return []
    ratios = Counter(
        theirs[0] / ours[0]
        for _, theirs, ours in reshaped
        if theirs and ours and theirs[0] and ours[0] and theirs[0] != ours[0]
    )
    lines = []
    ratio, count = ratios.most_common(1)[0] if ratios else (1.0, 0)
    if count > 8 and 2 * count > len(reshaped):
        word = f"{ratio:.4g} times as wide as" if ratio > 1 else f"{1 / ratio:.4g} times narrower than"
        lines.append(f"{count} layers of the file are {word} the model's (widen_factor, or another variant)")
        reshaped = [row for row in reshaped if not _only_wider(row[1], row[2], ratio)]
    by_part: dict[str, list[tuple[str, Shape, Shape]]] = {}
    for row in reshaped:
        by_part.setdefault(row[0].split(".")[0], []).append(row)
    for part, rows in sorted(by_part.items(), key=lambda pair: -len(pair[1]))[:SHOWN]:
        name, theirs, ours = next((row for row in rows if row[1][:1] != row[2][:1]), rows[0])
        classes = ", another num_classes?" if "cls" in name and theirs[1:] == ours[1:] else ""
        more = f", and {len(rows) - 1} more in {part}" if len(rows) > 1 else ""
        lines.append(f"{name} is {_text(theirs)} in the file, {_text(ours)} in the model{classes}{more}")
    return lines


def _only_wider(theirs: Shape, ours: Shape, ratio: float) -> bool:
    """Whether a layer differs in nothing but that many channels, in or out."""
    same = len(theirs) == len(ours)
    return same and all(a == b or (b > 0 and a / b == ratio) for a, b in zip(theirs, ours, strict=True))


def _text(shape: Shape) -> str:
    return "x".join(map(str, shape)) or "a number"


def _parts(names: Sequence[str]) -> dict[str, list[str]]:
    """Modules that hold the names: as deep as all of a top module's names go together, and not deeper than three
    words."""
    found: dict[str, list[str]] = {}
    for top, inside in _grouped(names).items():
        common = _common(inside)
        found[".".join(common[:3]) or top] = [".".join(words) for words in inside]
    return found


def _grouped(names: Sequence[str]) -> dict[str, list[list[str]]]:
    groups: dict[str, list[list[str]]] = {}
    for name in names:
        words = name.split(".")
        groups.setdefault(words[0], []).append(words)
    return groups


def _common(rows: Sequence[Sequence[str]]) -> list[str]:
    common = []
    for words in zip(*rows, strict=False):
        if len(set(words)) > 1:
            break
        common.append(words[0])
    return common
