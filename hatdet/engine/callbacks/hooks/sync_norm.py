"""Running statistics that are the same in all processes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from hatdet.engine.callbacks.base import Callback
from hatdet.registry import register
from hatdet.utils import distributed

if TYPE_CHECKING:
    from hatdet.engine.loop import Loop


@register
class SyncNorm(Callback):
    """Averages the running statistics of normalizations over the processes at the end of an epoch.

    Without it the first process's count. Stands before `Validation`.
    """

    @torch.no_grad()
    def on_epoch_end(self, loop: Loop) -> None:
        if distributed.get_world_size() == 1:
            return
        for module in loop.model.modules():
            if isinstance(module, nn.modules.batchnorm._NormBase):
                for buffer in module.buffers(recurse=False):
                    if buffer.is_floating_point():
                        buffer.copy_(distributed.reduce_mean(buffer))
