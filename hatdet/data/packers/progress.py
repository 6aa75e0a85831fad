"""A progress bar in a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from hatdet.utils.starting.program import spoken

_T = TypeVar("_T")


def say(line: str) -> None:
    """Print a line, commands in it as users type them; warnings on stderr. A path may hold bytes no terminal takes."""
    stream = sys.stderr if line.startswith("warning:") else sys.stdout
    print(spoken(line).encode("utf-8", "backslashreplace").decode(), file=stream, flush=True)


def track(items: Iterable[_T], total: int, title: str, quiet: bool = False) -> Iterator[_T]:
    """Pass ``items`` on and show how many of ``total`` went by, on stderr."""
    if quiet:
        yield from items
    elif sys.stderr.isatty():
        yield from _bar(items, total, title)
    else:
        yield from _lines(items, total, title)


def _bar(items: Iterable[_T], total: int, title: str) -> Iterator[_T]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(title, total=total)
        for item in items:
            yield item
            progress.advance(task)


def _lines(items: Iterable[_T], total: int, title: str) -> Iterator[_T]:
    """A line every ten seconds, and one at the end."""
    start = last = time.monotonic()
    count = 0
    for item in items:
        yield item
        count += 1
        now = time.monotonic()
        if now - last >= 10:
            last = now
            rate = count / (now - start)
            rest = (total - count) / rate
            print(f"{title}: {count}/{total}, {rate:.0f} images/s, {rest:.0f} s left", file=sys.stderr)
    print(f"{title}: {count}/{total} in {time.monotonic() - start:.1f} s", file=sys.stderr, flush=True)
