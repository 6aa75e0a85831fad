"""Listing files below a folder."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

LITTER = ("._", ".")
"""Beginnings of names that desktops leave in any folder, and of folders that are nobody's data."""


def walk(root: Path, suffixes: Sequence[str]) -> Iterator[Path]:
    """Files below ``root`` that end so, in the order of their names; hidden ones are left out."""
    for folder, names, found in os.walk(root):
        names[:] = sorted(name for name in names if not name.startswith(LITTER))
        for name in sorted(found):
            if not name.startswith(LITTER) and os.path.splitext(name)[1].lower() in suffixes:
                yield Path(folder, name)
