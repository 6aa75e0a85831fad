"""What the steps of a quantization gave, kept in a file: an interrupted one goes on, and does no step twice."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from hatdet.export.delivery import write_json

Values = Mapping[str, float]


class Steps:
    """Values of steps by name.

    Args:
        path: where they are kept; None: nowhere, every step is done.
        made_from: what tells one quantization from another (the digest of its weights); those of another are dropped.

    Attributes:
        seconds: that each step took, in its last attempt.
    """

    def __init__(self, path: Path | None = None, made_from: str = "") -> None:
        self.path, self.made_from = path, made_from
        self._values: dict[str, Values] = {}
        self.seconds: dict[str, float] = {}
        if path is not None and path.is_file():
            found = json.loads(path.read_text(encoding="utf-8"))
            if found.get("made_from") == made_from:
                self._values, self.seconds = found["values"], found["seconds"]

    @property
    def kept(self) -> bool:
        """Whether an interrupted step may go on from what it left."""
        return self.path is not None

    def value(self, name: str, make: Callable[[], Values]) -> Values:
        """What the step gave, or gives now."""
        if name not in self._values:
            begin = time.perf_counter()
            self._values[name] = dict(make())
            self.seconds[name] = round(time.perf_counter() - begin, 1)
            if self.path is not None:
                content = {"made_from": self.made_from, "values": self._values, "seconds": self.seconds}
                write_json(self.path, content)
        return self._values[name]
