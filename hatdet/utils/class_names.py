"""Class names: finding the same ones again in another file, in another order, written a little differently."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class KnownClasses:
    """Names in the order of the labels, and the file that says so.

    ``bits``: how many bits of 16-bit pictures its training used (8: it had none); None: it does not say.
    """

    names: tuple[str, ...]
    source: str
    bits: int | None = None

    @property
    def scaled_bits(self) -> int | None:
        """From how many bits 16-bit pictures are scaled, as its training did it; None: it had none, so as they need.

        A version that did not know of them took the upper 8 of 16.
        """
        return None if self.bits == 8 else self.bits or 16

    @classmethod
    def of(cls, state: Mapping[str, Any], source: str) -> KnownClasses | None:
        """Those in a checkpoint (also one that holds an integer graph); None where it does not say."""
        graph = state.get("int_graph")
        for owner in (state, graph if isinstance(graph, Mapping) else {}):
            metadata = owner.get("metadata")
            if isinstance(metadata, Mapping) and (names := metadata.get("classes")):
                bits = metadata.get("source_bits")
                return cls(tuple(str(name) for name in names), source, bits if isinstance(bits, int) else None)
        return None


def folded(name: str) -> str:
    """A name without what people do not see as a difference: case, spaces, Unicode's two spellings."""
    return " ".join(unicodedata.normalize("NFC", name).split()).casefold()


def find(names: Sequence[str], among: Sequence[str]) -> list[int | None]:
    """Where each name stands ``among`` others: the same one, else the only one that differs in case or spaces."""
    exact = {name: position for position, name in enumerate(among)}
    taken = {exact[name] for name in names if name in exact}
    alike: dict[str, list[int]] = {}
    for position, name in enumerate(among):
        if position not in taken:
            alike.setdefault(folded(name), []).append(position)
    counts: dict[str, int] = {}
    for name in names:
        if name not in exact:
            counts[folded(name)] = counts.get(folded(name), 0) + 1
    result: list[int | None] = []
    for name in names:
        near = alike.get(folded(name), [])
        unique = len(near) == 1 and counts.get(folded(name)) == 1
        result.append(exact[name] if name in exact else near[0] if unique else None)
    return result


def placeholders(categories: Sequence[tuple[int, str, str]], used: Iterable[Any]) -> set[int]:
    """Ids of categories (id, name, supercategory) that are no classes: Roboflow's exports begin with one.

    It has the id 0 and no annotation, and other categories name it as their supercategory.
    """
    with_boxes = set(used)
    parents = {parent for category, _, parent in categories if category != 0 and parent}
    return {category for category, name, _ in categories if category == 0 and 0 not in with_boxes and name in parents}


def listed(names: Sequence[str], limit: int = 20) -> str:
    """``"cat, dog"``, at most ``limit`` names."""
    rest = f", ... ({len(names) - limit} more)" if len(names) > limit else ""
    return ", ".join(names[:limit]) + rest


def quoted(names: Sequence[str], limit: int = 8) -> str:
    """``"'cat', 'dog'"``, at most ``limit`` names."""
    rest = f", ... ({len(names) - limit} more)" if len(names) > limit else ""
    return ", ".join(repr(name) for name in names[:limit]) + rest
