"""The detector that ships: the same boxes around an integer graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hatdet.integer.graph import IntGraph
from hatdet.integer.islands import executor_for
from hatdet.quantization.normalization import adopt_metadata
from hatdet.quantization.task_detector import Batch, TaskDetector
from hatdet.utils.checkpoints.checkpoint import save_checkpoint
from hatdet.utils.errors import UserError
from hatdet.utils.input_format import input_channels


class IntegerDetector(TaskDetector):
    """A detector that runs an integer graph; it has no float network."""

    def __init__(self, *, detector: nn.Module, graph: IntGraph, device: torch.device | str = "cpu") -> None:
        super().__init__(detector)
        channels, ours = graph.tensors[graph.inputs[0]].shape[0], input_channels(detector)
        if channels != ours and hasattr(detector, "input_format"):
            raise UserError(
                f"the integer model takes images of {channels} channel(s), the config's detector of {ours}: set "
                "input_color as it was in training"
            )
        adopt_metadata(detector, graph.metadata)
        self.graph = graph
        self.executor = executor_for(graph, device)
        self.train(False)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> IntegerDetector:
        super()._apply(fn, recurse)
        device = fn(torch.zeros(1)).device
        if device != self.executor.device:
            self.executor = executor_for(self.graph, device)
        return self

    @property
    def arithmetic(self) -> str:
        """Name of the profile that its graph is made for."""
        return self.graph.profile.name

    def metadata(self) -> dict[str, Any]:
        return {**super().metadata(), "profile": self.arithmetic}

    def int_graph(self, image_size: tuple[int, int] | None = None) -> IntGraph:
        return self.graph

    def save_artifact(
        self, folder: str | Path, run: Mapping[str, Any] | None = None, config: str | None = None
    ) -> Path:
        """Write the integer graph to ``int_infer-graph.pth.tar`` (weights-only loadable); returns its path.

        Args:
            run: what it was made with, and config: the resolved one as text, kept beside the graph.
        """
        path = Path(folder) / "int_infer-graph.pth.tar"
        beside = {**({"run": dict(run)} if run else {}), **({"config": config} if config else {})}
        save_checkpoint(path, {"int_graph": self.graph.to_state(), **beside})
        return path

    def run_network(self, x: Tensor) -> tuple[Tensor, ...]:
        return self.executor.run_real(x)

    def forward(self, batch: Batch) -> list[dict[str, Tensor]]:
        with torch.no_grad():
            return self.predict(self.run_network(self.preprocess(batch["img"])), batch)
