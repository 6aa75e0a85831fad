"""Scalars for TensorBoard."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hatdet.engine.callbacks.base import Callback
from hatdet.registry import register
from hatdet.utils import distributed

if TYPE_CHECKING:
    from hatdet.engine.loop import Loop

logger = logging.getLogger("hatdet")


@register
class TensorBoard(Callback):
    """Writes all published scalars as TensorBoard events; does nothing where TensorBoard is not installed.

    Args:
        save_dir: None: ``tensorboard`` in the run's work directory.
    """

    def __init__(self, *, save_dir: str | Path | None = None) -> None:
        self.save_dir = save_dir
        self._writer: Any = None

    def on_loop_begin(self, loop: Loop) -> None:
        folder = self.save_dir or (loop.work_dir and loop.work_dir / "tensorboard")
        if folder is None or not distributed.is_main_process():
            return
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            logger.info("TensorBoard is not installed, so no events are written (pip install tensorboard)")
            return
        # After a resume, what the interrupted run wrote for later steps is hidden.
        self._writer = SummaryWriter(str(folder), purge_step=loop.progress.step + 1)  # type: ignore[no-untyped-call]

    def on_scalars(self, loop: Loop, scalars: Mapping[str, float]) -> None:
        if self._writer is not None:
            for name, value in scalars.items():
                self._writer.add_scalar(name, value, loop.progress.step)

    def close(self, loop: Loop) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None
