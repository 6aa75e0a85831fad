"""The arithmetic of an opened model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hatdet.inference.surroundings import file_metadata

NONE = ("float32", "qdq")
"""What files without integers of an arithmetic have under ``profile``: the runtime rounds as it likes."""


def arithmetic_of(path: Path, network: Any) -> str:
    """Name of the profile that a model's integers follow; "" of a float model, and of a file that does not say.

    Args:
        path: the checkpoint or file. network: what was made of it.
    """
    own = getattr(network, "arithmetic", "")
    name = own or file_metadata(path).get("profile")
    return "" if name is None or name in NONE else str(name)
