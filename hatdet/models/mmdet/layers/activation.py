"""Activations by their names in configs (``dict(type="LeakyReLU", negative_slope=0.1)``)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from hatdet.utils.errors import RegistryError, did_you_mean


def _hsigmoid(bias: float = 3.0, divisor: float = 6.0, min_value: float = 0.0, max_value: float = 1.0) -> nn.Module:
    if (bias, divisor, min_value, max_value) != (3.0, 6.0, 0.0, 1.0):
        raise RegistryError("HSigmoid is (x + 3) / 6 between 0 and 1 here; leave its arguments out")
    return nn.Hardsigmoid()


def _clip(min: float = -1.0, max: float = 1.0) -> nn.Module:
    return nn.Hardtanh(min, max)


ACTIVATIONS: dict[str, Callable[..., nn.Module]] = {
    **{
        kind.__name__: kind
        for kind in (
            nn.ReLU, nn.LeakyReLU, nn.PReLU, nn.RReLU, nn.ReLU6, nn.ELU, nn.Sigmoid, nn.Tanh, nn.SiLU, nn.Mish,
            nn.GELU, nn.Hardswish, nn.Hardsigmoid,
        )
    },
    "Swish": nn.SiLU,
    "HSwish": nn.Hardswish,
    "HSigmoid": _hsigmoid,
    "Clip": _clip,
    "Clamp": _clip,
}  # fmt: skip
_NEVER_INPLACE = ("Tanh", "PReLU", "Sigmoid", "HSigmoid", "Swish", "GELU", "SiLU", "Clip", "Clamp")


def build_activation(cfg: Mapping[str, Any], inplace: bool = True) -> nn.Module:
    """The activation of ``cfg``; ``inplace`` where its class can.

    Raises:
        RegistryError: an unknown type or argument.
    """
    options = dict(cfg)
    kind = str(options.pop("type")).rpartition(".")[2]
    if kind not in ACTIVATIONS:
        near = did_you_mean(kind, ACTIVATIONS)
        raise RegistryError(f"unknown act_cfg type {kind!r}{near}; one of {', '.join(ACTIVATIONS)}")
    if kind not in _NEVER_INPLACE:
        options.setdefault("inplace", inplace)
    elif kind in ("Swish", "SiLU", "Tanh", "Sigmoid"):
        options.pop("inplace", None)
    try:
        return ACTIVATIONS[kind](**options)
    except TypeError as error:
        raise RegistryError(f"act_cfg {kind}: {error}; leave that argument out") from error
