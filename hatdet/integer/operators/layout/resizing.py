"""What nearest and bilinear enlargement have in common: one whole factor for both axes."""

from __future__ import annotations

from collections.abc import Sequence

from hatdet.integer.operators.base import OneInput, Settings
from hatdet.integer.operators.windows.window import Pair
from hatdet.integer.tensors import Shape
from hatdet.utils.errors import UserError

BY_FACTOR = (0, 0)


class ResizeOp(OneInput):
    """Enlarges by ``factor``, or with factor 0 to ``size`` (rows, columns), of which the maps have to be a part."""

    factor: int
    size: Pair

    @classmethod
    def shape_of(cls, shapes: Sequence[Shape], settings: Settings) -> Shape:
        (channels, height, width), factor = shapes[0], factor_of(shapes[0], **settings)
        return channels, height * factor, width * factor

    def check_factor(self, shape: Shape, least: int) -> int:
        """The factor for maps of ``shape``, once it is known to be a whole number of ``least`` and more."""
        if self.factor < least and not (self.factor == 0 and min(self.size) > 0):
            raise self.refusal(f"factor {self.factor}", f"at least {least}")
        return factor_of(shape, self.factor, self.size)


def factor_of(shape: Sequence[int], factor: int, size: Pair = BY_FACTOR) -> int:
    """The factor by which maps (..., H, W) are enlarged.

    Raises:
        UserError: ``size`` is not one whole multiple of the map's.
    """
    if factor:
        return factor
    height, width = (int(n) for n in shape[-2:])
    if size[0] % height or size[0] // height * width != size[1]:
        raise UserError(
            f"maps of {height} x {width} are resized to {size[0]} x {size[1]}, no one whole multiple; use "
            "scale_factor=2, 4 or 8, or an image size for which it is one"
        )
    return size[0] // height
