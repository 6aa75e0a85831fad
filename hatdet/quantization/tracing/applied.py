"""Calls as they were seen: their arguments, and the shapes of what they were applied to.

Sizes that were computed in the forward have been seen for two images (:class:`Sized`): by that a pool over a whole
map, or a map resized to another's size, is known.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from hatdet.quantization.tracing.recorded import Call, Input
from hatdet.quantization.tracing.refusals import SizeDependent

Shapes = tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Sized:
    """A number in a call that differs between images of two sizes."""

    seen: tuple[Any, ...]

    def __str__(self) -> str:
        return " or ".join(_in_words(value) for value in self.seen)


def _in_words(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)}" if value.numel() > 1 else f"{float(value):g}"
    return str(value)


@dataclass(frozen=True)
class Applied:
    """A call and the shapes of its first value, for each of the images that it was seen with."""

    call: Call
    shapes: Shapes

    def arguments(self, *names: str) -> dict[str, Any]:
        """The arguments after the first value, by name."""
        args = self.call.args
        if args and isinstance(args[0], Input):
            args = args[1:]
        return {**dict(zip(names, args, strict=False)), **self.call.kwargs}


def fixed(value: Any, what: str) -> Any:
    """An argument that must not depend on the image's size."""
    parts = value if isinstance(value, (tuple, list)) else (value,)
    if any(isinstance(part, Sized) for part in parts):
        shown = ", ".join(map(str, parts))
        raise SizeDependent(f"{what} by {shown}, which depends on the image's size", "give it as a fixed number")
    return value


def sides(value: Any) -> tuple[Any, Any]:
    """Rows and columns of a size that may be one number."""
    return (value[0], value[-1]) if isinstance(value, (tuple, list)) else (value, value)


def seen(value: Any, index: int) -> Any:
    return value.seen[index] if isinstance(value, Sized) else value


def is_whole_map(size: Any, shapes: Shapes) -> bool:
    """Whether a kernel is the map that it is applied to, whatever the image's size is."""
    wanted = sides(size)
    same = all(tuple(seen(s, i) for s in wanted) == shape[2:] for i, shape in enumerate(shapes))
    return same and any(isinstance(side, Sized) for side in wanted)


def factors(size: Any, shapes: Shapes, ratio: Callable[[int, int], float]) -> list[tuple[float, float]]:
    """The different ratios (rows, columns) of the map and a wanted size, for all images."""
    rows, columns = sides(size)
    found = [
        (ratio(shape[2], seen(rows, i)), ratio(shape[3], seen(columns, i))) for i, shape in enumerate(shapes)
    ]
    return list(dict.fromkeys(found))
