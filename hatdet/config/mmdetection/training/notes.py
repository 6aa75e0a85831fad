"""What was accepted and means nothing here: said once, in one line."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

logger = logging.getLogger("hatdet")


@dataclass
class Notes:
    """Remarks on a config while it is translated."""

    idle: list[str] = field(default_factory=list)
    """Keys that mean nothing here."""
    lines: list[str] = field(default_factory=list)
    """Keys that mean something else than in MMDetection, each with what."""

    def without_effect(self, *keys: str) -> None:
        """``keys`` mean nothing here, and nothing depends on them."""
        self.idle.extend(key for key in keys if key not in self.idle)

    def say(self, line: str) -> None:
        """One line of its own."""
        if line not in self.lines:
            self.lines.append(line)

    def publish(self, name: str) -> None:
        """Into the log; ``name`` is the config's."""
        if self.idle:
            logger.info("%s: read, without effect here: %s", name, ", ".join(self.idle))
        for line in self.lines:
            logger.info("%s: %s", name, line)
