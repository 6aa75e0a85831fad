"""Which measured models fit a device."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from hatdet.commands.models.rows import NPUS, Row, shipped
from hatdet.export.targets.boards import Board, get_board
from hatdet.export.targets.table import TARGETS


@dataclass(frozen=True)
class Limits:
    """Bytes that a device has for a file and for its working memory; None: not known, or enough for anything.

    Attributes:
        npu: the target's name where an NPU runs the model: the compiled file and its SRAM count then.
    """

    flash: float | None = None
    ram: float | None = None
    npu: str | None = None

    def within(self, flash: float | None, ram: float | None) -> Limits:
        """The tighter of both."""
        return Limits(_least(self.flash, flash), _least(self.ram, ram), self.npu)

    def hold(self, row: Row) -> bool:
        """Whether a model fits."""
        fits = self.flash is None or self.flash_of(row) <= self.flash
        return fits and (self.ram is None or self.ram_of(row) <= self.ram)

    def flash_of(self, row: Row) -> float:
        """Bytes of a model's file on this device; other NPUs take about what the U55-128 does."""
        compiled = self._compiled(row)
        return compiled["flash"] if compiled else row.flash

    def ram_of(self, row: Row) -> float:
        """Bytes of its working memory there."""
        compiled = self._compiled(row)
        return compiled["sram"] if compiled else row.arena if row.arena is not None else row.activations

    def _compiled(self, row: Row) -> dict[str, float] | None:
        return (row.npu.get(self.npu) or row.npu.get(NPUS[0])) if self.npu else None


def board_limits(name: str | Board) -> Limits:
    """What is known of a board; memory that external memory can take the place of is no limit.

    Raises:
        UserError: there is no such board.
    """
    board = get_board(name) if isinstance(name, str) else name
    target = TARGETS[board.targets[0]]
    ram = None if board.external else board.ram.value
    return Limits(board.flash.value, ram, target.name if target.npu else None)


def best(rows: Iterable[Row], limits: Limits, data: str | None = None) -> list[Row]:
    """Those that fit, the highest score of the file first, AP before F1; of several data sets those of ``data`` are
    compared."""
    fitting: Sequence[Row] = [row for row in rows if limits.hold(row) and data in (None, row.data)]
    return sorted(fitting, key=lambda row: (row.metric != "AP", -row.scores["qat"]))


def named(limits: Limits, rows: Iterable[Row]) -> str:
    """The three best measured models that fit, in words; "" if none does."""
    found: dict[str, Row] = {}
    for row in best(rows, limits):
        found.setdefault(row.model, row)
    shown = ", ".join(f"{row.model} at {row.size[1]} px" for row in list(found.values())[:3])
    return f"measured models that fit: {shown}" if shown else ""


def advice(board: Board) -> str:
    """For a model that a board has no room for: the best measured ones that it has room for; "" if there are none."""
    known = named(board_limits(board), shipped())
    return f"{known}; `hatdet models --board {board.name}` lists all" if known else ""


def _least(one: float | None, other: float | None) -> float | None:
    known = [value for value in (one, other) if value is not None]
    return min(known) if known else None
