"""Boards by name: memory, NPU, runtime and limits as far as they are public, each with its source or why it is unknown.

The facts stand in ``boards.json`` beside this file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from hatdet.export.targets.table import TARGETS, Target
from hatdet.utils.errors import UserError, did_you_mean

FILE = Path(__file__).with_name("boards.json")
RUNTIMES = {
    "tflite-micro": "TensorFlow Lite Micro",
    "litert": "LiteRT (TensorFlow Lite)",
    "st-edge-ai": "ST Edge AI Core",
    "edgetpu": "LiteRT with the Edge TPU delegate, of a file that edgetpu_compiler made",
}


@dataclass(frozen=True)
class Fact:
    """Something about a board: a value with its source, or None with the reason why it is not known here.

    Attributes:
        value: bytes of a memory, or words.
        about: of a known value its source, else the reason. what: what a number counts.
    """

    value: Any
    about: str
    what: str = ""

    def text(self) -> str:
        """For a terminal, in one line."""
        if self.value is None:
            return f"not known: {self.about}"
        shown = f"{self.value:,} bytes: {self.what}" if isinstance(self.value, int) else str(self.value)
        return f"{shown} [{self.about}]"


@dataclass(frozen=True)
class Board:
    """A row of ``boards.json``.

    Attributes:
        targets: presets of :mod:`hatdet.export.targets.table` that it runs, the usual one first.
        flash, ram: bytes. external: slower memory may hold an arena that ``ram`` does not. npu, layout: words.
        npu_memory: bytes for parameters; None: nothing to say.
        operators: what its compiler maps; None: that is not limited beyond the target's.
    """

    name: str
    title: str
    targets: tuple[str, ...]
    runtime: str
    flash: Fact
    ram: Fact
    npu: Fact
    layout: Fact
    aliases: tuple[str, ...] = ()
    external: bool = False
    npu_memory: Fact | None = None
    eight_bits_only: bool = False
    operators: tuple[str, ...] | None = None
    notes: tuple[str, ...] = field(default_factory=tuple)

    @property
    def micro(self) -> bool:
        """Whether its programs use TensorFlow Lite Micro."""
        return self.runtime == "tflite-micro"

    def facts(self) -> dict[str, Fact]:
        """All of them by name, as they are listed."""
        known = {"flash": self.flash, "RAM": self.ram, "NPU": self.npu, "layout": self.layout}
        return known if self.npu_memory is None else {**known, "NPU memory": self.npu_memory}

    def text(self) -> str:
        """For a terminal."""
        lines = [f"board {self.name}: {self.title}", f"  {'runtime':<11}{RUNTIMES[self.runtime]}"]
        lines += [f"  {'target':<11}{' or '.join(self.targets)}"]
        lines += [f"  {name:<11}{fact.text()}" for name, fact in self.facts().items()]
        return "\n".join([*lines, *(f"  {'note':<11}{note}" for note in self.notes)])

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        facts = {name: {"value": f.value, "about": f.about, "what": f.what} for name, f in self.facts().items()}
        return {"name": self.name, "title": self.title, "targets": list(self.targets), "runtime": self.runtime,
                "facts": facts, "notes": list(self.notes)}  # fmt: skip


@cache
def boards() -> dict[str, Board]:
    """All boards by name."""
    rows = json.loads(FILE.read_text(encoding="utf-8"))
    return {name: _board(name, row) for name, row in rows.items()}


def get_board(name: str) -> Board:
    """The board of that name or alias, in any case of letters.

    Raises:
        UserError: there is none.
    """
    known = {alias: board for board in boards().values() for alias in (board.name, *board.aliases)}
    lowered = name.lower()
    if lowered not in known:
        raise UserError(
            f"unknown board {name!r}{did_you_mean(lowered, known)}; boards are {', '.join(boards())} "
            "(--board list says more); for another one give --target"
        )
    return known[lowered]


def board_target(board: Board, name: str | None) -> Target:
    """The target that a model for this board is made for; ``name``: the one that was asked for, None: the usual.

    Raises:
        UserError: the board does not run that target.
    """
    if name is not None and name not in board.targets:
        raise UserError(
            f"--board {board.name} runs {' or '.join(board.targets)}, not --target {name}; leave --target out"
        )
    return TARGETS[name or board.targets[0]]


def list_text() -> str:
    """All boards with what is known of them."""
    return "\n\n".join(board.text() for board in boards().values())


def _board(name: str, row: Mapping[str, Any]) -> Board:
    memory = row.get("npu_memory")
    return Board(
        name=name,
        title=row["title"],
        targets=tuple(row.get("targets") or [row["target"]]),
        runtime=row["runtime"],
        flash=_fact(row["flash"], "bytes"),
        ram=_fact(row["ram"], "bytes"),
        npu=_fact(row["npu"], "name"),
        layout=_fact(row["layout"], "text"),
        aliases=tuple(row.get("aliases", ())),
        external=bool(row["ram"].get("external", False)),
        npu_memory=_fact(memory, "bytes") if memory is not None else None,
        eight_bits_only=bool(row.get("eight_bits_only", False)),
        operators=tuple(row["operators"]) if "operators" in row else None,
        notes=tuple(row.get("notes", ())),
    )


def _fact(row: Mapping[str, Any], key: str) -> Fact:
    about = row["reason"] if row[key] is None else row["source"]
    return Fact(row[key], about, row.get("what", ""))
