"""What the environment says of the processes that torchrun started; needs no torch."""

from __future__ import annotations

import os


def launched_by_torchrun() -> bool:
    """Whether the environment describes a group of more than one process."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1 and "RANK" in os.environ


def is_first_of_group() -> bool:
    """Whether this process is rank 0 by its environment: also before the group is joined and after it is left."""
    return not launched_by_torchrun() or os.environ["RANK"] == "0"
