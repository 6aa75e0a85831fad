"""What nearest and bilinear resizing have in common."""

from __future__ import annotations

from typing import Any, cast

from torch import nn

from hatdet.quantization.operators.base import Form
from hatdet.quantization.tracing.applied import Applied, Sized, factors, fixed, sides
from hatdet.quantization.tracing.recorded import Call, Input
from hatdet.quantization.tracing.refusals import NoModule, SizeDependent


def interpolate(applied: Applied) -> nn.Module:
    a = applied.arguments("size", "scale_factor", "mode", "align_corners", "recompute_scale_factor", "antialias")
    size, factor, mode = a.get("size"), a.get("scale_factor"), a.get("mode", "nearest")
    if a.get("antialias"):
        raise NoModule("interpolation with antialias", "leave antialias out")
    if size is not None:
        ratios = factors(size, applied.shapes, lambda here, wanted: wanted / here)
        if not any(isinstance(side, Sized) for side in sides(size)):
            raise NoModule(
                "interpolation to a size", "write scale_factor=2: the factor then holds for images of any size"
            )
        if len(ratios) > 1 or not all(f.is_integer() for f in ratios[0]):
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
            raise NoModule("upsampling to a size", "write scale_factor=2: the factor then holds for images of any size")
        found = set(factor) if isinstance(factor, (tuple, list)) else {factor}
        if len(found) != 1 or not float(cast(float, next(iter(found)))).is_integer():
            raise NoModule(f"upsampling by {factor}", "use one whole factor for both axes")

    def settings(self, module: nn.Module | None) -> dict[str, Any]:
        assert isinstance(module, nn.Upsample)
        factor = module.scale_factor
        return {"factor": int(cast(float, factor[0] if isinstance(factor, tuple) else factor))}
