"""Numbers of channels that suit the hardware."""

from __future__ import annotations


def divisible(channels: float, divisor: int = 8) -> int:
    """The multiple of ``divisor`` nearest to ``channels`` (at least ``divisor``) that is at least 90 % of it."""
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * channels else rounded
