"""Functions and tensor methods as the modules that do the same, so that every later step sees modules only.

An operator has one name for all its spellings (``recorded_names``).
"""

from __future__ import annotations

from torch import nn

from hatdet.quantization.operators.table import MAKERS
from hatdet.quantization.tracing.applied import Applied
from hatdet.quantization.tracing.refusals import OddArguments


def replacement(applied: Applied) -> nn.Module | None:
    """The module that does what this function or method call does; None where nothing is known about it.

    Raises:
        NoModule: the call is known, and its arguments have no integer form.
    """
    maker = MAKERS.get(applied.call.op)
    try:
        return maker(applied) if maker is not None else None
    except (IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:  # what no module takes
        raise OddArguments(
            f"{applied.call.op} with these arguments ({error}) has no integer form", "give plain numbers as arguments"
        ) from error
