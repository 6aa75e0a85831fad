"""What every detector has in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from torch import Tensor, nn

from hatdet.models.fitting import COMPLETED, complete_part
from hatdet.utils.errors import UserError
from hatdet.utils.input_format import InputFormat, channels_of

Batch = Mapping[str, Any]
Maps = Sequence[Tensor]


class DetectorNetwork(nn.Module):
    """Backbone, neck (None: there is none) and head in a row: image -> flat tuple (cls_0, ..., reg_0, ...)."""

    def __init__(self, *, backbone: nn.Module, neck: nn.Module | None, bbox_head: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.neck = neck
        self.bbox_head = bbox_head

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        maps = self.backbone(x)
        return self.bbox_head(maps if self.neck is None else self.neck(maps))  # type: ignore[no-any-return]


class Detector(nn.Module, ABC):
    """Images in, losses or boxes out; the network between gives raw maps.

    Training mode: ``model(batch)`` is a dict of scalar losses. Evaluation mode: a list with one dict an
    image: ``boxes`` float32 (n, 4) xyxy in pixels of the original file, ``scores`` (n,), ``labels`` int64
        (n,), best first.
    """

    completed: ClassVar[Mapping[str, tuple[str, ...]]] = COMPLETED
    complete_part = staticmethod(complete_part)

    input_color: str = "bgr"
    """What the channels of ``batch["img"]`` are: ``bgr``, ``rgb``, ``yuv444`` or ``gray`` (one)."""

    classes: tuple[str, ...]
    output_names: tuple[str, ...]

    def forward(self, batch: Batch) -> dict[str, Tensor] | list[dict[str, Tensor]]:
        maps = self.run_network(self.preprocess(batch["img"]))
        return self.loss(maps, batch) if self.training else self.predict(maps, batch)

    @abstractmethod
    def preprocess(self, img: Tensor) -> Tensor:
        """uint8 (B, C, H, W) -> float32 (B, C, H, W), C is ``input_channels``; floating point input passes."""

    @property
    def input_channels(self) -> int:
        """Channels of ``batch["img"]``: 1 (gray) or 3."""
        return channels_of(self.input_color)

    @property
    def input_format(self) -> InputFormat:
        """The uint8 images that :meth:`preprocess` takes and what it does to them."""
        preprocessor: Any = getattr(self, "preprocessor", None)
        if preprocessor is None:
            return InputFormat(self.input_color)
        mean, std = tuple(preprocessor.mean), tuple(preprocessor.std)
        if preprocessor.bgr_to_rgb:  # its numbers are those of the channels after the turn
            mean, std = mean[::-1], std[::-1]
        return InputFormat(self.input_color, mean, std)

    @abstractmethod
    def run_network(self, x: Tensor) -> tuple[Tensor, ...]:
        """float32 (B, C, H, W) -> the raw maps, in the order of ``output_names``."""

    @abstractmethod
    def network(self) -> nn.Module:
        """A view of the network alone, sharing its modules under the same names; torch.fx can trace it."""

    @abstractmethod
    def loss(self, maps: Maps, batch: Batch) -> dict[str, Tensor]:
        """Scalar losses of the raw maps; keys that contain ``loss`` are summed by the trainer."""

    @abstractmethod
    def predict(self, maps: Maps, batch: Batch) -> list[dict[str, Tensor]]:
        """Detections of the raw maps, see the class."""

    @abstractmethod
    def metadata(self) -> dict[str, Any]:
        """Plain values that a deployed model must be shipped with."""

    def decoding(self, image_size: tuple[int, int]) -> nn.Module:
        """What a float file needs to give boxes itself: a module that torch can trace, called with the raw maps of
        images of ``image_size`` (h, w), gives boxes float32 (B, P, 4), xyxy in network pixels, not clipped, and
        scores (B, P, C) in [0, 1].

        Raises:
            UserError: this detector has no such form.
        """
        raise UserError(f"{type(self).__name__} has no in-graph decoding; export its raw maps (without --decode)")

    def predict_decoded(self, boxes: Tensor, scores: Tensor, batch: Batch) -> list[dict[str, Tensor]]:
        """Detections, as :meth:`predict`, of what :meth:`decoding` gives.

        Raises:
            UserError: this detector has no such form.
        """
        raise UserError(f"{type(self).__name__} has no in-graph decoding; evaluate a file that gives its raw maps")
