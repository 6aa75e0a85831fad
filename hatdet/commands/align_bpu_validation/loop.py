"""Image after image, with what that takes: said early, and of a set that would take over an hour only a part."""

from __future__ import annotations

import logging

from hatdet.commands.align_bpu_validation.comparison import Alignment
from hatdet.commands.align_bpu_validation.progress import Progress
from hatdet.utils.logging import live_line
from hatdet.utils.pace import Pace, roughly

logger = logging.getLogger("hatdet")
HOUR_S = 3600.0
"""A set that would take longer is sampled, unless it is asked for as a whole."""
LEAST = 4
"""Images of a sample, at least."""
SLOW_S = 60.0
"""One image that takes longer says enough of the others; of faster ones the first does more than them, so three are
looked at."""


def compare(alignment: Alignment, progress: Progress, total: int, whole: bool) -> int:
    """Every image that the progress does not have yet, or the first ones where all would take over an hour.

    Args:
        whole: all of them, however long it takes.

    Returns:
        of how many images the progress knows all now: the first ones of the set.
    """
    count = total if whole or progress.sample is None else min(total, progress.sample)
    done = sum(index < count for index in progress.records)
    if done:
        logger.info("%d of %d images are done already", done, count)
    elif total:
        logger.info("%d images; the first one tells how long each takes", count)
    pace = Pace("aligning", count - done)
    with live_line() as show:
        for index in range(total):
            if index >= count:
                break
            if index not in progress.records:
                progress.add(alignment.image(index))
                pace.step()
            if show is not None:
                show(f"aligning: {index + 1} of {count} images")
            if not whole and progress.sample is None and settled(progress, index):
                count = sample_of(progress, total)
                pace.total = sum(later not in progress.records for later in range(index + 1, count)) + pace.done
                progress.take_sample(count)
    return count


def settled(progress: Progress, index: int) -> bool:
    """Whether the images up to this one tell how long each takes."""
    return index == 2 or (index == 0 and seconds_each(progress) > SLOW_S)


def seconds_each(progress: Progress) -> float:
    """What an image took, at least."""
    return min((float(record.get("seconds", 0.0)) for record in progress.records.values()), default=0.0)


def sample_of(progress: Progress, total: int) -> int:
    """How many of ``total`` images are compared, said where these are not all."""
    each = seconds_each(progress)
    if each * total <= HOUR_S:
        return total
    count = min(total, max(LEAST, int(HOUR_S / each)))
    if count < total:
        logger.info(
            "an image takes about %s, so all %d would take %s: the first %d are compared (--all: all of them; "
            "--num-images N: so many; --runtimes: fewer of them)",
            roughly(each),
            total,
            roughly(each * total),
            count,
        )
    return count
