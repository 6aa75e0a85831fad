"""Normalization layers by their names in configs (``dict(type="BN", requires_grad=True)``)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from hatdet.utils.errors import RegistryError, did_you_mean

NORMS: dict[str, tuple[str, Callable[..., nn.Module]]] = {
    "BN": ("bn", nn.BatchNorm2d),
    "BN1d": ("bn", nn.BatchNorm1d),
    "BN2d": ("bn", nn.BatchNorm2d),
    "SyncBN": ("bn", nn.BatchNorm2d),  # trainers synchronize (sync_bn): a layer of its own is not needed
    "MMSyncBN": ("bn", nn.BatchNorm2d),
    "GN": ("gn", nn.GroupNorm),
    "LN": ("ln", nn.LayerNorm),
    "IN": ("in", nn.InstanceNorm2d),
}
"""Name in a config -> start of the layer's name in a module (``bn1``), and its class."""


def norm_name(cfg: Mapping[str, Any], postfix: int | str = "") -> str:
    """What the layer is called in its module: ``bn1``."""
    return f"{_entry(cfg)[0]}{postfix}"


def build_norm(cfg: Mapping[str, Any], channels: int) -> nn.Module:
    """The layer for ``channels`` channels.

    Args:
        cfg: ``type``, the arguments of the class of torch, and ``requires_grad``: whether weight and bias learn.

    Raises:
        RegistryError: an unknown type or argument.
    """
    options = dict(cfg)
    kind = options.pop("type")
    learns = options.pop("requires_grad", True)
    make = _entry(cfg)[1]
    options.setdefault("eps", 1e-5)
    if make is nn.GroupNorm:
        options["num_channels"] = channels
    try:
        layer = make(**options) if make is nn.GroupNorm else make(channels, **options)
    except TypeError as error:
        raise RegistryError(f"norm_cfg {kind}: {error}; leave that argument out") from error
    for parameter in layer.parameters():
        parameter.requires_grad_(learns)
    return layer


def _entry(cfg: Mapping[str, Any]) -> tuple[str, Callable[..., nn.Module]]:
    kind = str(cfg["type"]).rpartition(".")[2]
    if kind not in NORMS:
        raise RegistryError(f"unknown norm_cfg type {kind!r}{did_you_mean(kind, NORMS)}; one of {', '.join(NORMS)}")
    return NORMS[kind]
