"""Functions and tensor methods as the modules that do the same, so that every later step sees modules only.

An operator has one name for all its spellings (``recorded_names``). Sizes that were computed in the forward have been
seen for two images (:class:`Sized`): by that a pool over a whole map, or a map resized to another's size, is known.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from hatdet.quantization.tracing.recorded import Call, Input
from hatdet.quantization.tracing.refusals import NoModule, OddArguments, SizeDependent, clamp

ADDITIONS = frozenset(["add"])
PRODUCTS = frozenset(["mul", "multiply"])
CONCATENATIONS = frozenset(["cat", "concat", "concatenate"])
ARITHMETIC = ADDITIONS | PRODUCTS | CONCATENATIONS
Shapes = tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Sized:
    """A number in a call that differs between images of two sizes."""

    seen: tuple[Any, ...]

    def __str__(self) -> str:
        return " or ".join(map(str, self.seen))


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


def replacement(applied: Applied) -> nn.Module | None:
    """The module that does what this function or method call does; None where nothing is known about it.

    Raises:
        NoModule: the call is known, and its arguments have no integer form.
    """
    maker = _MAKERS.get(applied.call.op)
    try:
        return maker(applied) if maker is not None else None
    except (IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:  # what no module takes
        raise OddArguments(
            f"{applied.call.op} with these arguments ({error}) has no integer form", "give plain numbers as arguments"
        ) from error


def _fixed(value: Any, what: str) -> Any:
    """An argument that must not depend on the image's size."""
    parts = value if isinstance(value, (tuple, list)) else (value,)
    if any(isinstance(part, Sized) for part in parts):
        shown = ", ".join(map(str, parts))
        raise SizeDependent(f"{what} by {shown}, which depends on the image's size", "give it as a fixed number")
    return value


def _sides(value: Any) -> tuple[Any, Any]:
    """Rows and columns of a size that may be one number."""
    return (value[0], value[-1]) if isinstance(value, (tuple, list)) else (value, value)


def _seen(value: Any, index: int) -> Any:
    return value.seen[index] if isinstance(value, Sized) else value


def is_whole_map(size: Any, shapes: Shapes) -> bool:
    """Whether a kernel is the map that it is applied to, whatever the image's size is."""
    sides = _sides(size)
    same = all(tuple(_seen(s, i) for s in sides) == shape[2:] for i, shape in enumerate(shapes))
    return same and any(isinstance(side, Sized) for side in sides)


def _clamp(applied: Applied) -> nn.Module:
    a = applied.arguments("min", "max")
    for limit in a.values():
        if isinstance(limit, Tensor) and limit.numel() > 1:
            raise NoModule("a clamp by a tensor of limits", "use ReLU (0 and up) or ReLU6 (0 to 6)")
    return clamp(_fixed(a.get("min"), "a clamp"), _fixed(a.get("max"), "a clamp"))


def _hardtanh(applied: Applied) -> nn.Module:
    a = applied.arguments("min_val", "max_val")
    return clamp(_fixed(a.get("min_val", -1.0), "a clamp"), _fixed(a.get("max_val", 1.0), "a clamp"))


def _threshold(applied: Applied) -> nn.Module:
    a = applied.arguments("threshold", "value")
    if a["threshold"] == 0 and a["value"] == 0:
        return nn.ReLU()
    raise NoModule(f"a threshold at {a['threshold']}", "use ReLU")


def _max_pool(applied: Applied) -> nn.Module:
    a = applied.arguments("kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices")
    if is_whole_map(a["kernel_size"], applied.shapes):
        raise NoModule("max pooling over a whole map", "use the average of the whole map, AdaptiveAvgPool2d(1)")
    return nn.MaxPool2d(
        _fixed(a["kernel_size"], "max pooling"),
        _fixed(a.get("stride") or None, "max pooling"),
        _fixed(a.get("padding", 0), "max pooling"),
        a.get("dilation", 1),
        a.get("return_indices", False),
        a.get("ceil_mode", False),
    )


def _average_pool(applied: Applied) -> nn.Module:
    a = applied.arguments("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override")
    padding = a.get("padding", 0)
    if is_whole_map(a["kernel_size"], applied.shapes) and _sides(padding) == (0, 0) and not a.get("divisor_override"):
        return nn.AdaptiveAvgPool2d(1)
    what = "average pooling"
    return nn.AvgPool2d(
        _fixed(a["kernel_size"], what), _fixed(a.get("stride") or None, what), _fixed(padding, what),
        a.get("ceil_mode", False), a.get("count_include_pad", True), a.get("divisor_override"),
    )  # fmt: skip


def _adaptive_average_pool(applied: Applied) -> nn.Module:
    size = applied.arguments("output_size")["output_size"]
    if not any(isinstance(side, Sized) for side in _sides(size)):
        return nn.AdaptiveAvgPool2d(size)
    factors = _factors(size, applied.shapes, lambda here, wanted: here / wanted)
    if factors == [(1.0, 1.0)]:
        return nn.Identity()
    if len(factors) == 1 and factors[0][0].is_integer() and factors[0][1].is_integer():
        return nn.AvgPool2d(tuple(int(f) for f in factors[0]))  # type: ignore[arg-type]
    raise SizeDependent("pooling to a size that is no whole part of the map's", "use AvgPool2d with a fixed kernel")


def _factors(size: Any, shapes: Shapes, ratio: Callable[[int, int], float]) -> list[tuple[float, float]]:
    """The different ratios (rows, columns) of the map and a wanted size, for all images."""
    sides = _sides(size)
    found = [
        (ratio(shape[2], _seen(sides[0], i)), ratio(shape[3], _seen(sides[1], i))) for i, shape in enumerate(shapes)
    ]
    return list(dict.fromkeys(found))


def _mean(applied: Applied) -> nn.Module:
    a = applied.arguments("dim", "keepdim")
    dim, keep = a.get("dim", a.get("axis")), a.get("keepdim", a.get("keepdims"))
    if isinstance(dim, (tuple, list)) and sorted(d % 4 for d in dim) == [2, 3] and keep:
        return nn.AdaptiveAvgPool2d(1)
    raise NoModule(f"a mean over dim={dim}", "only the mean of whole maps, mean((2, 3), keepdim=True), is supported")


def _interpolate(applied: Applied) -> nn.Module:
    a = applied.arguments("size", "scale_factor", "mode", "align_corners", "recompute_scale_factor", "antialias")
    size, factor, mode = a.get("size"), a.get("scale_factor"), a.get("mode", "nearest")
    if a.get("antialias"):
        raise NoModule("interpolation with antialias", "leave antialias out")
    if size is not None:
        factors = _factors(size, applied.shapes, lambda here, wanted: wanted / here)
        fixed = not any(isinstance(side, Sized) for side in _sides(size))
        if fixed:
            raise NoModule(
                "interpolation to a size", "write scale_factor=2: the factor then holds for images of any size"
            )
        if len(factors) > 1 or not all(f.is_integer() for f in factors[0]):
            raise SizeDependent(
                "interpolation to a size that is no whole multiple of the map's", "use one whole factor for both axes"
            )
        factor = factors[0][0] if factors[0][0] == factors[0][1] else factors[0]
    factor = _fixed(tuple(factor) if isinstance(factor, list) else factor, "interpolation")
    if factor in (1, (1, 1)) and mode in ("nearest", "bilinear", "nearest-exact", "bicubic"):
        return nn.Identity()
    return nn.Upsample(None, factor, mode, a.get("align_corners"))


def _upsample(applied: Applied) -> nn.Module:
    """``F.upsample_nearest``, ``F.upsample_bilinear``."""
    a = applied.arguments("size", "scale_factor")
    bilinear = applied.call.op.endswith("bilinear")
    options = {"mode": "bilinear", "align_corners": True} if bilinear else {"mode": "nearest"}
    return _interpolate(Applied(Call("interpolate", (Input(0),), {**a, **options}), applied.shapes))


def _pad(applied: Applied) -> nn.Module:
    a = applied.arguments("pad", "mode", "value")
    if a.get("mode", "constant") != "constant" or (a.get("value") or 0) != 0:
        raise NoModule(f"padding with mode {a.get('mode')!r} and value {a.get('value')}", "pad with zeros")
    pad = list(_fixed(a["pad"], "padding")) if isinstance(a["pad"], (tuple, list)) else []
    while len(pad) > 4 and pad[-2:] == [0, 0]:
        pad = pad[:-2]
    if len(pad) not in (2, 4) or not all(isinstance(n, int) for n in pad):
        raise NoModule(f"padding by {a['pad']}", "pad rows and columns by fixed numbers")
    return nn.ZeroPad2d(tuple(pad + [0] * (4 - len(pad)))) if any(pad) else nn.Identity()  # type: ignore[arg-type]


_MAKERS: dict[str, Callable[[Applied], nn.Module]] = {
    "relu": lambda _: nn.ReLU(),
    "relu6": lambda _: nn.ReLU6(),
    "hardtanh": _hardtanh,
    "threshold": _threshold,
    "clamp": _clamp,
    "clip": _clamp,
    "clamp_min": _clamp,
    "clamp_max": lambda applied: clamp(None, applied.arguments("max")["max"]),
    "sigmoid": lambda _: nn.Sigmoid(),
    "special_expit": lambda _: nn.Sigmoid(),
    "hardsigmoid": lambda _: nn.Hardsigmoid(),
    "hardswish": lambda _: nn.Hardswish(),
    "silu": lambda _: nn.SiLU(),
    "max_pool2d": _max_pool,
    "max_pool2d_with_indices": _max_pool,
    "avg_pool2d": _average_pool,
    "adaptive_avg_pool2d": _adaptive_average_pool,
    "mean": _mean,
    "interpolate": _interpolate,
    "upsample": _interpolate,
    "upsample_nearest": _upsample,
    "upsample_bilinear": _upsample,
    "pad": _pad,
}
