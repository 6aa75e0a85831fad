"""Sections of the decoders' bodies: what only some models need stands in the decoders of these alone."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_SECTION = re.compile(
    r"^[ ]*(?:#|/\*) \[if (?P<no>not )?(?P<name>\w+)\](?: \*/)?\n(?P<text>.*?)^[ ]*(?:#|/\*) \[end\](?: \*/)?\n",
    re.DOTALL | re.MULTILINE,
)


def sections_of(body: str, model: Mapping[str, Any]) -> str:
    """``body`` with the sections that ``model`` needs.

    A section stands between the comments ``[if NAME]`` (or ``[if not NAME]``) and ``[end]``, each a line of its own; it
    stays where the model has the key NAME and its value is true. Sections do not nest.
    """
    return _SECTION.sub(lambda m: m["text"] if bool(model.get(m["name"])) != bool(m["no"]) else "", body)
