"""Which of the backbone's maps a pyramid uses, and how many it gives."""

from __future__ import annotations

from collections.abc import Sequence


def end_of_levels(in_channels: Sequence[int], num_outs: int, start_level: int, end_level: int) -> int:
    """One past the last map that is used.

    Raises:
        ValueError: levels that do not exist, or a number of outputs that these levels cannot have.
    """
    count = len(in_channels)
    if not 0 <= start_level < count or not -1 <= end_level < count:
        raise ValueError(
            f"start_level={start_level}, end_level={end_level}, but in_channels has {count} maps; "
            f"choose from 0 to {count - 1}"
        )
    end = count if end_level == -1 else end_level + 1
    used = end - start_level
    if used < 1 or num_outs < used or (end < count and num_outs > used):
        allowed = f"{used} or more" if end == count else f"{used}"
        raise ValueError(f"num_outs={num_outs}, but start_level and end_level use {used} maps; write {allowed}")
    return end


def continued(in_strides: Sequence[int], start: int, end: int, num_outs: int) -> tuple[int, ...]:
    """Strides of the maps used, then doubling."""
    strides = list(in_strides[start:end])
    while len(strides) < num_outs:
        strides.append(2 * strides[-1])
    return tuple(strides)


def check_scales(num_scales: int, in_channels: Sequence[int], out_channels: Sequence[int]) -> None:
    """Check that a neck is told of as many maps as it has scales.

    Raises:
        ValueError: it is not.
    """
    if not num_scales == len(in_channels) == len(out_channels):
        raise ValueError(
            f"num_scales={num_scales}, but in_channels has {len(in_channels)} numbers and out_channels "
            f"{len(out_channels)}; write as many"
        )
