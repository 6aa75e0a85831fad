"""Listing files below a folder."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

LITTER = ("._", ".")
"""Beginnings of names that desktops leave in any folder, and of folders that are nobody's data."""


def walk(root: Path, suffixes: Sequence[str]) -> Iterator[Path]:
    """Files below ``root`` that end so, in the order of their names; hidden ones are left out.

    A link to a folder elsewhere is followed, once: ``images`` is often one.
    """
    home, linked = os.path.realpath(root), set[str]()

    def is_walked(path: str) -> bool:
        if not os.path.islink(path):
            return True
        target = os.path.realpath(path)
        again = target in linked or Path(target).is_relative_to(home) or Path(home).is_relative_to(target)
        linked.add(target)
        return not again

    for folder, names, found in os.walk(root, followlinks=True):
        names[:] = [n for n in sorted(names) if not n.startswith(LITTER) and is_walked(os.path.join(folder, n))]
        for name in sorted(found):
            if not name.startswith(LITTER) and os.path.splitext(name)[1].lower() in suffixes:
                yield Path(folder, name)
