"""Forms: how a kind of file says an operator. Each writer has a table of them, by the operator's class.

A form is a function of the writer and the operator. In its place may stand a :class:`Refusal`, so that every table has
every operator (a test goes over all of them).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar

from hatdet.integer.graph import IntGraph
from hatdet.integer.operators.table import OP_TYPES
from hatdet.utils.errors import UserError

Writer = TypeVar("Writer")
Form = Callable[[Writer, Any], None]
Forms = Mapping[type, Form[Writer]]


class NoForm(UserError):
    """A kind of file cannot say an operator; another may."""


@dataclass(frozen=True)
class Refusal:
    """Why a file has no form of an operator, and what to use instead."""

    reason: str
    instead: str

    def __call__(self, writer: object, op: Any) -> NoReturn:
        kind = getattr(op, "function", "") or op.kind
        raise NoForm(f"operator {op.name!r} ({kind}) {self.reason}; {self.instead}")


ISLAND = Refusal("is kept in float, and the file holds integers", "train and export with keep_float=[]")
NO_SCALES = Refusal("changes a scale alone", "a float graph has none of it")


def by_function(forms: Mapping[str, Form[Writer]]) -> Form[Writer]:
    """The form of an operator that stands for several functions: the one for its ``function``."""
    return lambda writer, op: forms[op.function](writer, op)


def check_ends(graph: IntGraph) -> None:
    """Refuse a graph that has not one input, or an output that nothing computes."""
    if len(graph.inputs) != 1:
        raise UserError(
            f"the exported model has one input, this graph has {len(graph.inputs)}: {graph.inputs}; "
            "give the network one input"
        )
    for name in graph.outputs:
        if name in graph.inputs:
            raise UserError(f"output {name!r} is the input itself; an exported model must compute its outputs")


def translate(writer: Writer, ops: Iterable[Any], forms: Forms[Writer]) -> None:
    """Say the operators one after another."""
    for op in ops:
        forms[OP_TYPES[op.kind]](writer, op)
