"""How a command tells whether a file scored what the integer model scored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hatdet.engine.callbacks.monitor import is_measured


def headline(values: Mapping[str, float]) -> str:
    """The name of the value that is told of a metric: F1 of points, AP, or its first where it has neither (top1)."""
    return next((name for name in ("F1", "AP") if name in values), next(iter(values), "AP"))


def shown(values: Mapping[str, float], name: str) -> str:
    """A value to the last digit."""
    value = values.get(name)
    return "not measured" if value is None or not is_measured(value) else repr(value)


def compared(
    int_infer: Mapping[str, float], file: tuple[str, Mapping[str, float]], different: Sequence[str]
) -> str:  # fmt: skip
    """``AP of int_infer 0.5, of the file 0.5: equal to the last digit``.

    Args:
        file: what it is called, and its values.
        different: names of the values that differ.
    """
    name = headline(int_infer)
    verdict = f"DIFFERENT in {', '.join(different)}" if different else "equal to the last digit"
    return f"{name} of int_infer {shown(int_infer, name)}, {file[0]} {shown(file[1], name)}: {verdict}"
