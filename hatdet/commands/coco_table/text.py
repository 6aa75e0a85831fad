"""The table, as markdown and for the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hatdet.commands.coco_table.expected import hours, shown
from hatdet.commands.coco_table.rows import Plan, Row

HEAD = "| model | input | float AP (AP50) | calibration AP | QAT AP | int8 file AP | values compared, differing | KiB |"
OPEN = "-"


def markdown(rows: Sequence[Row], done: Mapping[str, Mapping[str, Any]]) -> str:
    """The table; rows that are not done yet stay open.

    Args:
        done: by the row's name, what its ``row.json`` holds.
    """
    lines = [HEAD, "|" + "---|" * HEAD.count(" |")]
    for row in rows:
        lines.append(f"| {' | '.join(_cells(row, done.get(row.name)))} |")
    return "\n".join(lines) + "\n"


def _cells(row: Row, found: Mapping[str, Any] | None) -> Iterator[str]:
    yield f"RTMDet-{row.model}"
    yield f"{row.size} x {row.size}"
    if found is None:
        yield from [OPEN] * 6
        return
    metrics = found["metrics"]
    yield f"{metrics['float']['AP']:.4f} ({metrics['float']['AP50']:.4f})"
    yield f"{metrics['calibration']['AP']:.4f}"
    yield f"{metrics['qat']['AP']:.4f}"
    yield repr(metrics["file"]["AP"]) if "file" in metrics else OPEN
    yield f"{found['parity']['compared']}, {_differing(found['parity']['differing'])}"
    yield f"{found['bytes'] / 1024:.0f}"


def _differing(counts: Mapping[str, int] | int) -> str:
    values = set(counts.values()) if isinstance(counts, Mapping) else {counts}
    return str(max(values, default=0))


def planned(plan: Plan, done: Mapping[str, Any], cores: int) -> str:
    """What there is to do, and how long it would take on one H200."""
    lines, total = [], 0.0
    for row in plan.rows:
        if row.name in done:
            lines.append(f"{row.name:<10} done")
            continue
        steps = hours(plan, row, cores)
        total += sum(steps.values())
        first = f"weights {row.weights}" if row.weights else f"{plan.epochs} epochs from random weights"
        cost = ", ".join(f"{step} {shown(value)}" for step, value in steps.items() if value)
        lines.append(f"{row.name:<10} {first}; reckoned on one H200 with {cores} cores: {cost}")
    lines.append(f"to do: {shown(total)}, reckoned, not measured (docs/coco.md says how)")
    return "\n".join(lines)
