"""Functions and tensor methods as the modules that do the same, so that every later step sees modules only."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx, nn

ADDITIONS = (operator.add, operator.iadd, torch.add, "add", "add_")
PRODUCTS = (operator.mul, operator.imul, torch.mul, torch.multiply, "mul", "mul_")
CONCATENATIONS = (torch.cat, torch.concat, torch.concatenate)
PASSING = (F.dropout, F.dropout2d, "contiguous", "clone")
"""What changes no value at inference."""

IN_PLACE = (operator.iadd, operator.imul, torch.relu_, F.relu_)


class NoModule(Exception):
    """A call without an integer form: ``args`` are what it is and what to use instead."""


def replacement(node: fx.Node) -> nn.Module | None:
    """The module that does what this function or method call does; None where nothing is known about it.

    Raises:
        NoModule: the call is known, and its arguments have no integer form.
    """
    maker = _MAKERS.get(node.target) if node.op in ("call_function", "call_method") else None
    return maker(node) if maker is not None else None


def arguments(node: fx.Node, *names: str) -> dict[str, Any]:
    """Arguments of a call after its first, by name."""
    return {**dict(zip(names, node.args[1:], strict=False)), **node.kwargs}


def is_in_place(node: fx.Node, module: nn.Module | None) -> bool:
    """Whether a call overwrites its first argument."""
    if module is not None:
        return bool(getattr(module, "inplace", False))
    if node.op == "call_method":
        return str(node.target).endswith("_") and not str(node.target).endswith("__")
    return node.target in IN_PLACE or bool(node.kwargs.get("inplace", False))


def clamp(low: Any, high: Any) -> nn.Module:
    """ReLU or ReLU6 for these limits."""
    if low == 0 and (high is None or high == math.inf):
        return nn.ReLU()
    if low == 0 and high == 6:
        return nn.ReLU6()
    raise NoModule(f"a clamp to [{low}, {high}]", "use ReLU (0 and up) or ReLU6 (0 to 6)")


def _clamp(node: fx.Node) -> nn.Module:
    a = arguments(node, "min", "max")
    return clamp(a.get("min"), a.get("max"))


def _hardtanh(node: fx.Node) -> nn.Module:
    a = arguments(node, "min_val", "max_val")
    return clamp(a.get("min_val", -1.0), a.get("max_val", 1.0))


def _max_pool(node: fx.Node) -> nn.Module:
    a = arguments(node, "kernel_size", "stride", "padding", "dilation", "ceil_mode")
    return nn.MaxPool2d(
        a["kernel_size"],
        a.get("stride"),
        a.get("padding", 0),
        a.get("dilation", 1),
        ceil_mode=a.get("ceil_mode", False),
    )


def _average_pool(node: fx.Node) -> nn.Module:
    a = arguments(node, "kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override")
    return nn.AvgPool2d(
        a["kernel_size"], a.get("stride"), a.get("padding", 0), a.get("ceil_mode", False),
        a.get("count_include_pad", True), a.get("divisor_override"),
    )  # fmt: skip


def _adaptive_average_pool(node: fx.Node) -> nn.Module:
    return nn.AdaptiveAvgPool2d(arguments(node, "output_size")["output_size"])


def _mean(node: fx.Node) -> nn.Module:
    a = arguments(node, "dim", "keepdim")
    dim = a.get("dim")
    if isinstance(dim, (tuple, list)) and sorted(d % 4 for d in dim) == [2, 3] and a.get("keepdim"):
        return nn.AdaptiveAvgPool2d(1)
    raise NoModule(f"a mean over dim={dim}", "only the mean of whole maps, mean((2, 3), keepdim=True), is supported")


def _interpolate(node: fx.Node) -> nn.Module:
    a = arguments(node, "size", "scale_factor", "mode", "align_corners", "recompute_scale_factor", "antialias")
    if a.get("antialias"):
        raise NoModule("interpolation with antialias", "leave antialias out")
    if a.get("size") is not None:
        raise NoModule("interpolation to a size", "write scale_factor=2: the factor then holds for images of any size")
    return nn.Upsample(None, a.get("scale_factor"), a.get("mode", "nearest"), a.get("align_corners"))


def _pad(node: fx.Node) -> nn.Module:
    a = arguments(node, "pad", "mode", "value")
    if a.get("mode", "constant") != "constant" or (a.get("value") or 0) != 0:
        raise NoModule(f"padding with mode {a.get('mode')!r} and value {a.get('value')}", "pad with zeros")
    pad = list(a["pad"]) if isinstance(a["pad"], (tuple, list)) else []
    if len(pad) not in (2, 4) or not all(isinstance(n, int) for n in pad):
        raise NoModule(f"padding by {a['pad']}", "pad rows and columns by fixed numbers")
    return nn.ZeroPad2d(tuple(pad + [0] * (4 - len(pad))))  # type: ignore[arg-type]


_MAKERS: dict[Any, Callable[[fx.Node], nn.Module]] = {
    **dict.fromkeys((F.relu, torch.relu, torch.relu_, F.relu_, "relu", "relu_"), lambda _: nn.ReLU()),
    F.relu6: lambda _: nn.ReLU6(),
    **dict.fromkeys((F.hardtanh, F.hardtanh_), _hardtanh),
    **dict.fromkeys((torch.clamp, torch.clip, torch.clamp_, "clamp", "clamp_", "clip", "clip_"), _clamp),
    **dict.fromkeys((torch.clamp_min, "clamp_min", "clamp_min_"), _clamp),
    **dict.fromkeys((F.sigmoid, torch.sigmoid, "sigmoid", "sigmoid_"), lambda _: nn.Sigmoid()),
    F.hardsigmoid: lambda _: nn.Hardsigmoid(),
    F.hardswish: lambda _: nn.Hardswish(),
    F.silu: lambda _: nn.SiLU(),
    **dict.fromkeys((F.max_pool2d, torch.max_pool2d), _max_pool),
    F.avg_pool2d: _average_pool,
    **dict.fromkeys((F.adaptive_avg_pool2d, torch.nn.functional.adaptive_avg_pool2d), _adaptive_average_pool),
    **dict.fromkeys((torch.mean, "mean"), _mean),
    F.interpolate: _interpolate,
    F.pad: _pad,
}
