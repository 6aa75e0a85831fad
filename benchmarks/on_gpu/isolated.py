"""Rows that end in time: each in a process of its own, whose failure or end is a row too."""

from __future__ import annotations

import multiprocessing
import os
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

LEAST_S = 4.0
"""A row is not begun with less left."""


@dataclass(frozen=True)
class Task:
    """A row to be measured: ``call()`` gives its fields, JSON's types; it may take ``seconds``."""

    name: str
    seconds: float
    call: Callable[[], dict[str, Any]]


class Skipped(Exception):
    """A row that cannot be measured here; says why."""


def run(tasks: Sequence[Task], budget_s: float) -> Iterator[dict[str, Any]]:
    """The rows: ``row``, ``state``, ``seconds`` and what the task gave.

    States: ``ok``; ``differs`` (a check that does not hold: its field ``equal`` is false); ``failed``; ``skipped``;
    ``too long`` for the row's own seconds; ``no time`` left. Every task is forked off this process, which must not have
    used a GPU or threads: what a kernel breaks in one process, the next row does not see.
    """
    end = time.monotonic() + budget_s
    for task in tasks:
        left = end - time.monotonic()
        begin = time.monotonic()
        made = {"state": "no time"} if left < LEAST_S else _apart(task, min(task.seconds, left))
        yield {"row": task.name, "seconds": round(time.monotonic() - begin, 1)} | made


def _apart(task: Task, seconds: float) -> dict[str, Any]:
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_measure, args=(task, sender))
    process.start()
    sender.close()
    try:
        if not receiver.poll(seconds):
            return {"state": "too long"}
        return dict(receiver.recv())
    except EOFError:
        process.join()
        return {"state": "failed", "why": f"the process ended with status {process.exitcode}"}
    finally:
        if process.is_alive():
            process.join(1.0)  # its own end, where it has answered
        if process.is_alive():
            process.kill()
        process.join()
        receiver.close()


def _measure(task: Task, sender: Connection) -> None:
    try:
        fields = task.call()
        state = "ok" if fields.get("equal", True) else "differs"
        sender.send({"state": state} | fields)
    except Skipped as reason:
        sender.send({"state": "skipped", "why": str(reason)})
    except BaseException as error:
        traceback.print_exc()
        first = (str(error).strip().splitlines() or [""])[0]
        sender.send({"state": "failed", "why": f"{type(error).__name__}: {first}"[:300]})
    sender.close()
    os._exit(0)  # no clean-up of threads or of a broken GPU context


def markdown(rows: Sequence[dict[str, Any]]) -> str:
    """A table: name, state, images a second, baseline, ratio, share of time that the GPU waits, remarks."""
    shown = ("row", "state", "images_per_s", "baseline", "ratio", "waits", "seconds")
    lines = ["| " + " | ".join([*shown, "remarks"]) + " |", "|---" * (len(shown) + 1) + "|"]
    for row in rows:
        rest = "; ".join(f"{key} {_text(value)}" for key, value in row.items() if key not in (*shown, "equal"))
        lines.append("| " + " | ".join([*(_text(row.get(key, "")) for key in shown), rest]) + " |")
    return "\n".join(lines)


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return str(value).replace("|", "/")
