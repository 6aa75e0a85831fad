"""CPU times of calls that take turns, and the table that shows them."""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Row:
    """One line of the benchmark: hatdet's part against a baseline, both as CPU seconds of each repetition."""

    name: str
    hatdet: list[float]
    baseline: list[float]
    baseline_name: str
    target: float | None = None

    @property
    def ratio(self) -> float:
        """Median over median."""
        return statistics.median(self.hatdet) / statistics.median(self.baseline)

    @property
    def over(self) -> bool:
        """Whether the ratio is above its target; a row without one is there to be read."""
        return self.target is not None and self.ratio > self.target

    def as_dict(self) -> dict[str, Any]:
        """For the json file: the samples, their medians (milliseconds) and the ratio."""
        return {
            **asdict(self),
            "hatdet_median_ms": 1e3 * statistics.median(self.hatdet),
            "baseline_median_ms": 1e3 * statistics.median(self.baseline),
            "ratio": self.ratio,
            "over": self.over,
        }


def interleave(
    calls: Mapping[str, Callable[[], object]], repeat: int, warmup: int = 2
) -> dict[str, list[float]]:
    """CPU seconds of each call, in rounds: all calls once, then all once more.

    Turns in one process let a busy machine slow all calls alike, so that ratios stay comparable. The order is
    reversed every other round, so that no call always runs in the cache that the same neighbour left.
    """
    for _ in range(warmup):
        for call in calls.values():
            call()
    times: dict[str, list[float]] = {name: [] for name in calls}
    names = list(calls)
    for i in range(repeat):
        for name in names if i % 2 == 0 else reversed(names):
            begin = time.process_time()
            calls[name]()
            times[name].append(time.process_time() - begin)
    return times


def child_cpu_seconds(code: str) -> float:
    """User and system time of a fresh Python process that runs ``code`` in the repository's root."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"the measured process failed:\n{done.stderr.strip()}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def format_table(rows: Sequence[Row]) -> str:
    """Medians in milliseconds, the ratio and its target, one line a row."""
    lines = [f"{'row':<38}{'hatdet ms':>10}{'baseline ms':>13}{'ratio':>7}{'target':>8}  baseline"]
    for row in rows:
        hatdet, baseline = (1e3 * statistics.median(v) for v in (row.hatdet, row.baseline))
        target = "" if row.target is None else f"{row.target:.2f}"
        lines.append(
            f"{row.name:<38}{hatdet:>10.2f}{baseline:>13.2f}{row.ratio:>7.2f}{target:>8}  "
            f"{row.baseline_name}{'  OVER' if row.over else ''}"
        )
    return "\n".join(lines)
