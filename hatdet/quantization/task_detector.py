"""A float detector's losses and boxes around another network."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from torch import Tensor, nn

Batch = dict[str, Any]
Self = TypeVar("Self", bound="TaskDetector")


class Detector(Protocol):
    """What quantization needs of a detector (docs/contracts.md, section 4)."""

    output_names: tuple[str, ...]

    def network(self) -> nn.Module: ...
    def preprocess(self, img: Tensor) -> Tensor: ...
    def loss(self, maps: tuple[Tensor, ...], batch: Batch) -> dict[str, Tensor]: ...
    def predict(self, maps: tuple[Tensor, ...], batch: Batch) -> list[dict[str, Tensor]]: ...
    def metadata(self) -> dict[str, Any]: ...


class TaskDetector(nn.Module, ABC):
    """Losses and boxes of a float detector around another network; the float network's parameters are not its own."""

    def __init__(self, detector: nn.Module) -> None:
        super().__init__()
        self._task = (detector,)  # in a tuple: its parameters are the trunk's or stale, never this module's

    @property
    def task(self) -> Any:
        """The float detector, for ``preprocess``, ``loss``, ``predict`` and ``metadata``."""
        return self._task[0]

    def _apply(self: Self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        self._task[0]._apply(fn, recurse)
        return super()._apply(fn, recurse)

    def preprocess(self, img: Tensor) -> Tensor:
        return self.task.preprocess(img)

    def loss(self, maps: tuple[Tensor, ...], batch: Batch) -> dict[str, Tensor]:
        return self.task.loss(maps, batch)

    def predict(self, maps: tuple[Tensor, ...], batch: Batch) -> list[dict[str, Tensor]]:
        return self.task.predict(maps, batch)

    def metadata(self) -> dict[str, Any]:
        return self.task.metadata()

    @abstractmethod
    def run_network(self, x: Tensor) -> tuple[Tensor, ...]:
        """Normalized images (B, 3, H, W) -> the raw maps."""

    def forward(self, batch: Batch) -> Any:
        maps = self.run_network(self.preprocess(batch["img"]))
        return self.loss(maps, batch) if self.training else self.predict(maps, batch)
