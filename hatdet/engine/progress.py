"""Where a run stands."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass
class Progress:
    """Counts of finished things; an epoch that is under way is not finished."""

    epoch: int = 0
    step: int = 0
    """batches, over all epochs"""
    step_in_epoch: int = 0
    samples: int = 0
    """images, of this process, over all epochs"""

    def advance(self, batch_size: int) -> None:
        """Count one batch."""
        self.step += 1
        self.step_in_epoch += 1
        self.samples += batch_size

    def next_epoch(self) -> None:
        """Count the epoch."""
        self.epoch += 1
        self.step_in_epoch = 0

    def state_dict(self, steps_per_epoch: int) -> dict[str, int]:
        """Where a resumed run starts: after the last step of an epoch that is the next epoch."""
        state = dataclasses.replace(self)
        if state.step_in_epoch >= steps_per_epoch:
            state.next_epoch()
        return dataclasses.asdict(state)

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Take over what :meth:`state_dict` returned."""
        for field in dataclasses.fields(self):
            setattr(self, field.name, int(state[field.name]))


def set_position(loader: Any, epoch: int, start: int) -> int:
    """Tell the loader's sampler the epoch and the samples to pass over.

    Returns:
        how many samples the caller has to pass over itself, as the sampler cannot.
    """
    sampler = getattr(loader, "sampler", None)
    if hasattr(sampler, "set_epoch"):
        sampler.set_epoch(epoch)  # type: ignore[union-attr]
    if hasattr(sampler, "start"):
        sampler.start = start  # type: ignore[union-attr]
        return 0
    return start
