"""How long something takes: in words, and a line now and then while it goes on."""

from __future__ import annotations

import logging
import time

logger = logging.getLogger("hatdet")
SILENCE_S = 10.0
"""No line comes sooner after the one before."""


def roughly(seconds: float) -> str:
    """``8 s``, ``25 min``, ``3 h 20 min``: as exact as an estimate is."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    hours, minutes = divmod(5 * round(minutes / 5), 60)
    if hours < 48:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    return f"{hours / 24:.1f} days"


class Pace:
    """Says how many of ``total`` are done and about how long the others take, where that is worth a line.

    Args:
        what: of what there are so many, ``images``. doing: how a line begins.
    """

    def __init__(self, doing: str, total: int, what: str = "images") -> None:
        self.doing, self.total, self.what = doing, total, what
        self.begin = self.said = time.monotonic()
        self.done = 0

    @property
    def each(self) -> float:
        """Seconds that one took so far, on average."""
        return (time.monotonic() - self.begin) / max(1, self.done)

    def step(self) -> None:
        """One more is done."""
        self.done += 1
        left = self.total - self.done
        if left > 0 and time.monotonic() - self.said >= SILENCE_S:
            self.said = time.monotonic()
            rest = roughly(left * self.each)
            logger.info("%s: %d of %d %s, about %s left", self.doing, self.done, self.total, self.what, rest)
