"""Other transforms for the last epochs."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from hatdet.engine.callbacks.base import Callback
from hatdet.registry import register
from hatdet.utils.errors import UserError

if TYPE_CHECKING:
    from hatdet.engine.loop import Loop

logger = logging.getLogger("hatdet")


@register
class PipelineSwitch(Callback):
    """Trains the last epochs with the data set's late transforms (RTMDet: without Mosaic and MixUp).

    The sampler carries the number of the pipeline with every sample, so that workers need no restart.

    Args:
        num_last_epochs: how many.
    """

    def __init__(self, *, num_last_epochs: int) -> None:
        if num_last_epochs < 0:
            raise UserError(f"num_last_epochs is {num_last_epochs}; it must be 0 or more")
        self.num_last_epochs = num_last_epochs

    def on_loop_begin(self, loop: Loop) -> None:
        self.sampler = getattr(loop.data_loader, "sampler", None)
        if not hasattr(self.sampler, "pipeline"):
            raise UserError(
                "PipelineSwitch needs a sampler with pipelines (SeededSampler) and a data set with late_transforms; "
                f"the loader has a {type(self.sampler).__name__}"
            )

    def on_epoch_begin(self, loop: Loop) -> None:
        first = loop.num_epochs - self.num_last_epochs
        late = loop.progress.epoch >= first
        if late and not self.sampler.pipeline:  # type: ignore[union-attr]
            logger.info("epoch %d: from here on the late transforms", loop.progress.epoch + 1)
        self.sampler.pipeline = int(late)  # type: ignore[union-attr]
