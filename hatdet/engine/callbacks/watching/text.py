"""Lines about a training, of numbers that are given: pure functions."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence

COLUMNS = 80
BAR = 24


def duration(seconds: float) -> str:
    """``0:01:05``; of more than a day ``1 day, 0:01:05``."""
    return str(datetime.timedelta(seconds=round(seconds)))


def short_name(name: str) -> str:
    """``loss_cls`` and ``cls_loss`` as ``cls``; ``loss`` stays."""
    return name.removeprefix("loss_").removesuffix("_loss") or name


def terms(means: Mapping[str, float], digits: int) -> list[str]:
    """``["loss 2.094", "cls 0.855", "bbox 1.239"]``"""
    return [f"{short_name(name)} {value:.{digits}f}" for name, value in means.items()]


def fitted(parts: Sequence[str], columns: int = COLUMNS) -> str:
    """Parts in order, two blanks apart, up to the first with which the line would be longer than ``columns``."""
    line = parts[0]
    for part in parts[1:]:
        if len(line) + 2 + len(part) > columns:
            break
        line += f"  {part}"
    return line


def bar(done: int, total: int, width: int = BAR) -> str:
    """``━━━━━━──────  12/24``"""
    full = round(width * done / total) if total else width
    return f"{'━' * full}{'─' * (width - full)}  {done}/{total}"
