"""Parts that are described by a dict and built by whoever gets it (``norm_cfg=dict(type="BN")``)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hatdet import registry
from hatdet.building import Builder
from hatdet.utils.errors import RegistryError

SCOPE = "mmdet"


def in_scope(cfg: Any) -> Any:
    """``cfg`` with the names of types, here and inside, as they are registered: ``FPN`` -> ``mmdet.FPN``."""
    return registry.in_scope(cfg, SCOPE)


def build(cfg: Any, **given: Any) -> Any:
    """What ``cfg`` describes; what is built already, and None, pass.

    Args:
        cfg: a dict with a ``type`` of this scope.
        given: arguments that ``cfg`` leaves out.

    Raises:
        RegistryError: an unknown type or argument.
    """
    if not isinstance(cfg, Mapping):
        return cfg
    if "type" not in cfg:
        raise RegistryError(f"a part needs a type, got dict({', '.join(map(str, cfg))}); add it")
    return Builder().build(in_scope({**given, **cfg}))
