"""What nearest and bilinear resizing have in common."""

from __future__ import annotations

from typing import Any, cast

from torch import nn

from hatdet.integer.operators.layout.resizing import BY_FACTOR
from hatdet.integer.operators.layout.slice import FIRST, LAST
from hatdet.quantization.operators.base import Form
from hatdet.quantization.operators.layout.slice import SliceMap
from hatdet.quantization.tracing.applied import Applied, Sized, factors, fixed, sides
from hatdet.quantization.tracing.recorded import Call, Input
from hatdet.quantization.tracing.refusals import NoModule, SizeDependent, pair

NEAREST = ("nearest", "nearest-exact")
"""Modes that are the same for whole factors."""


def interpolate(applied: Applied) -> nn.Module:
    a = applied.arguments("size", "scale_factor", "mode", "align_corners", "recompute_scale_factor", "antialias")
    size, factor, mode = a.get("size"), a.get("scale_factor"), a.get("mode", "nearest")
    if a.get("antialias"):
        raise NoModule("interpolation with antialias", "leave antialias out")
    if size is not None:
        if not any(isinstance(side, Sized) for side in sides(size)):
            return nn.Upsample(size, None, mode, a.get("align_corners"))
        ratios = factors(size, applied.shapes, lambda here, wanted: wanted / here)
        if len(ratios) > 1 or not all(f.is_integer() or (1 / f).is_integer() for f in ratios[0]):
            raise SizeDependent(
                "interpolation to a size that is no whole multiple of the map's", "use one whole factor for both axes"
            )
        factor = ratios[0][0] if ratios[0][0] == ratios[0][1] else ratios[0]
    factor = fixed(tuple(factor) if isinstance(factor, list) else factor, "interpolation")
    if factor in (1, (1, 1)) and mode in ("nearest", "bilinear", "nearest-exact", "bicubic"):
        return nn.Identity()
    return nn.Upsample(None, factor, mode, a.get("align_corners"))


def upsample(applied: Applied) -> nn.Module:
    """``F.upsample_nearest``, ``F.upsample_bilinear``."""
    a = applied.arguments("size", "scale_factor")
    bilinear = applied.call.op.endswith("bilinear")
    options = {"mode": "bilinear", "align_corners": True} if bilinear else {"mode": "nearest"}
    return interpolate(Applied(Call("interpolate", (Input(0),), {**a, **options}), applied.shapes))


class ResizeForm(Form):
    modules = (nn.Upsample,)
    subclasses = (nn.Upsample,)

    def check(self, module: nn.Module) -> None:
        assert isinstance(module, nn.Upsample)
        factor = module.scale_factor
        if module.size is not None:
            return  # a map of another size is refused where the image's size is known
        found = set(factor) if isinstance(factor, (tuple, list)) else {factor}
        if len(found) != 1 or not (float(cast(float, next(iter(found)))).is_integer() or shrinkage(module) > 1):
            raise NoModule(f"upsampling by {factor}", "use one whole factor for both axes, or 1/2, 1/4 or 1/8")

    def canonical(self, module: nn.Module) -> list[tuple[str, nn.Module]]:
        assert isinstance(module, nn.Upsample)
        step = shrinkage(module)
        return [("", module)] if step == 1 else _smaller(module.mode, step)

    def settings(self, module: nn.Module | None) -> dict[str, Any]:
        assert isinstance(module, nn.Upsample)
        if module.size is not None:
            return {"factor": 0, "size": pair(module.size)}
        return {"factor": int(_factor(module)), "size": BY_FACTOR}


def _factor(module: nn.Upsample) -> float:
    factor = module.scale_factor
    return float(cast(float, factor[0] if isinstance(factor, tuple) else factor))


def shrinkage(module: nn.Upsample) -> int:
    """Rows and columns that become one where it makes maps smaller by 2, 4 or 8; else 1."""
    return 1 if module.size is not None else {0.5: 2, 0.25: 4, 0.125: 8}.get(_factor(module), 1)


def _smaller(mode: str, step: int) -> list[tuple[str, nn.Module]]:
    """What torch computes of every ``step`` rows and columns: nearest takes the first, nearest-exact one in the middle,
    bilinear (half-pixel centres) the mean of the two in the middle. Rows that are left over at the end of a map are not
    read."""
    middle, half = step // 2, (step // 2 - 1)
    if mode == "bilinear":
        inner = _from_to(half, -half, 1)
        return ([("_middle", inner)] if half else []) + [("", nn.AvgPool2d(2, step))]
    if mode == "nearest-exact":
        return [("", _from_to(middle, 1 - middle, step))]
    return [("", _from_to(0, 1 - step, step))]


def _from_to(first: int, last: int, step: int) -> nn.Module:
    begin, end = (0, 1, first), (1, 1, last)
    return SliceMap((FIRST, begin, begin), (LAST, end, end), (step, step))
