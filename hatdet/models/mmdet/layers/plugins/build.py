"""A plugin and the name of its module, from a dict."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import nn

from hatdet.models.mmdet.building import build, in_scope
from hatdet.models.mmdet.layers.conv import ConvModule
from hatdet.registry import resolve
from hatdet.utils.annotations import signature_of
from hatdet.utils.errors import RegistryError


def build_plugin(cfg: Mapping[str, Any], in_channels: int, postfix: int | str = "") -> tuple[str, nn.Module]:
    """The layer of ``cfg`` for ``in_channels`` channels, and what it is called in its module: ``context_block``.

    Args:
        cfg: ``type``, its arguments, and perhaps ``postfix`` of the name, in the place of the one given.

    Raises:
        RegistryError: an unknown type or argument.
    """
    options = dict(cfg)
    postfix = options.pop("postfix", postfix)
    if "type" not in options:
        raise RegistryError(f"a plugin needs a type, got dict({', '.join(map(str, cfg))}); add it")
    if str(options["type"]).rpartition(".")[2] == "ConvModule":
        del options["type"]
        return f"conv_block{postfix}", ConvModule(**{"in_channels": in_channels, **options})
    kind = resolve(in_scope(options)["type"])
    parameters = signature_of(kind).parameters
    given = {name: in_channels for name in ("in_channels", "channels") if name in parameters}
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", kind.__name__)  # SE_Layer
    name = getattr(kind, "plugin_name", words.lower())
    return f"{name}{postfix}", build(options, **given)
