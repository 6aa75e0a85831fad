"""What changes with the epoch: parts that read its number, and YOLOX's last epochs."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from hatdet.engine.callbacks.base import Callback
from hatdet.engine.callbacks.pipeline_switch import PipelineSwitch
from hatdet.registry import register

if TYPE_CHECKING:
    from hatdet.engine.loop import Loop

logger = logging.getLogger("hatdet")


@register
class SetEpochInfo(Callback):
    """Tells every part of the model that has an ``epoch`` (TOOD's head) which one begins, from 0."""

    def on_epoch_begin(self, loop: Loop) -> None:
        for module in loop.model.modules():
            if isinstance(getattr(module, "epoch", None), int):
                module.epoch = loop.progress.epoch  # type: ignore[assignment]


@register
class YOLOXModeSwitch(PipelineSwitch):
    """Trains the last epochs with the data set's late transforms, and with an L1 loss of boxes (``use_l1`` of a head).

    As in MMDetection the epoch before the last ``num_last_epochs`` is the first of them.

    Args:
        num_last_epochs: see above.
    """

    def __init__(self, *, num_last_epochs: int = 15) -> None:
        super().__init__(num_last_epochs=num_last_epochs)
        self.num_last_epochs = num_last_epochs + 1

    def on_epoch_begin(self, loop: Loop) -> None:
        super().on_epoch_begin(loop)
        late = loop.progress.epoch >= loop.num_epochs - self.num_last_epochs
        for module in loop.model.modules():
            if late and getattr(module, "use_l1", None) is False:
                logger.info("epoch %d: from here on an L1 loss of boxes", loop.progress.epoch + 1)
                module.use_l1 = True  # type: ignore[assignment]
