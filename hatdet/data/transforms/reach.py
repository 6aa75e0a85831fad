"""How large transforms may draw a picture, and so at what scale its file has to be decoded."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from hatdet.data.transforms.sample import Size, Transform, fit_size

REDUCTIONS = (8, 4, 2)
"""A JPEG can be decoded at one n-th of its width and height, far sooner than it is whole (ITU-T T.81's 8x8 blocks)."""
ROUNDING = 1.01
"""Sizes are whole pixels: the short side of a picture may be scaled this much more than its long one."""


class Reach(NamedTuple):
    """A picture of ``size`` (h, w) drawn as large as the transforms so far ever draw it: on a ``canvas`` (h, w), with
    ``scale`` canvas pixels per pixel of the file (the larger of both directions)."""

    size: Size
    canvas: Size
    scale: float = 1.0

    def resized(self, canvas: Size) -> Reach:
        """After a resize of the canvas."""
        factor = max(canvas[0] / self.canvas[0], canvas[1] / self.canvas[1])
        return Reach(self.size, canvas, self.scale * factor)

    def fitted(self, limit: tuple[float, float], keep_ratio: bool = True) -> Reach:
        """After a resize to what fits into ``limit``."""
        return self.resized(fit_size(self.canvas, limit, keep_ratio))


def unchanged(self: Any, reach: Reach) -> list[Reach]:
    """The method ``reaches`` of a transform that draws nothing larger or smaller."""
    return [reach]


def reaches_after(pipeline: Iterable[Any], ways: list[Reach]) -> list[Reach] | None:
    """All the ways in which transforms may draw a picture; None: one of them does not say."""
    for transform in pipeline:
        if not hasattr(transform, "reaches"):
            return None
        ways = list(dict.fromkeys(way for before in ways for way in transform.reaches(before)))
    return ways


def reduction(pipelines: Iterable[Sequence[Transform]], size: Size) -> int:
    """The largest n of 1, 2, 4, 8 such that a picture of ``size`` (h, w) decoded at one n-th is never enlarged.

    A function of the size and of the transforms' settings alone. Each transform has a method
    ``reaches(Reach) -> list[Reach]`` for it: all the ways in which it may draw a picture of that size, whose largest
    scales count, that of a partner too. One that has none may look at pixels: then the picture is decoded whole.
    """
    largest = 0.0
    for pipeline in pipelines:
        ways = reaches_after(pipeline, [Reach(size, size)])
        if ways is None:
            return 1
        largest = max(largest, *(way.scale for way in ways))
    return next((n for n in REDUCTIONS if n * largest <= ROUNDING), 1)
