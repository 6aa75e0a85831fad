"""Sections of the decoders' bodies: what only some models need stands in the decoders of these alone."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_MARK = re.compile(r"[ ]*(?:#|/\*) \[(?:if (?P<no>not )?(?P<name>\w+)|(?P<end>end))\](?: \*/)?\n")


def sections_of(body: str, model: Mapping[str, Any]) -> str:
    """``body`` with the sections that ``model`` needs.

    A section stands between the comments ``[if NAME]`` (or ``[if not NAME]``) and ``[end]``, each a line of its own; it
    stays where the model has the key NAME and its value is true. A section may hold others.
    """
    kept: list[str] = []
    open_: list[bool] = []
    for line in body.splitlines(keepends=True):
        mark = _MARK.fullmatch(line)
        if mark is None:
            if all(open_):
                kept.append(line)
        elif mark["end"]:
            open_.pop()
        else:
            open_.append(bool(model.get(mark["name"])) != bool(mark["no"]))
    assert not open_, "every section ends"
    return "".join(kept)
