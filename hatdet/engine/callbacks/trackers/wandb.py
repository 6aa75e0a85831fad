"""Weights & Biases."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hatdet.engine.callbacks.trackers.tracker import Tracker
from hatdet.registry import register


@register
class WandB(Tracker):
    """Writes a run to Weights & Biases (``pip install 'hatdet[wandb]'``).

    Args:
        project: None: what the variable WANDB_PROJECT says, else "hatdet".
        mode: "online", "offline" (``wandb sync`` sends it later), "disabled"; None: what WANDB_MODE says, else online.
        save_dir: where its files go; None: WANDB_DIR, else ``wandb`` in the current folder.
    """

    module, extra = "wandb", "wandb"

    def __init__(self, *, project: str | None = None, mode: str | None = None, save_dir: str | None = None) -> None:
        super().__init__()
        self.project, self.mode, self.save_dir = project, mode, save_dir
        self._run: Any = None

    def begin(self, name: str, settings: dict[str, Any]) -> str:
        import os

        import wandb

        known: dict[str, Any] = {"id": self.run_id, "resume": "allow"} if self.run_id is not None else {}
        self._run = wandb.init(
            project=self.project or os.environ.get("WANDB_PROJECT") or "hatdet",
            name=name,
            config=settings,
            mode=self.mode,  # type: ignore[arg-type]
            dir=self.save_dir,
            **known,
        )
        return str(self._run.id)

    def write(self, scalars: Mapping[str, float], step: int) -> None:
        self._run.log(dict(scalars), step=step)

    def end(self, finished: bool) -> None:
        self._run.finish(exit_code=0 if finished else 1)
