"""What every dense detector does: a head that says something at each position of each level of a pyramid."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from hatdet.models.detectors.base import Batch, Detector, DetectorNetwork, Maps
from hatdet.models.fitting import check_input_channels, check_parts
from hatdet.models.task_modules.coders import BoxCoder
from hatdet.models.task_modules.decoding import DecodeRule, InGraphDecoder
from hatdet.models.task_modules.post_process import DetectionPostProcess
from hatdet.models.task_modules.preprocessor import DataPreprocessor
from hatdet.models.task_modules.priors import PriorGenerator
from hatdet.ops import rounded
from hatdet.utils.errors import UserError
from hatdet.utils.input_format import input_order


class DenseDetector(Detector):
    """A detector is its parts and its losses; the rest follows from what they say.

    Args:
        backbone: image -> feature maps.
        neck: feature maps -> as many maps as there are strides.
        bbox_head: those -> flat tuple of raw maps, kind after kind (``kinds``), see :class:`DecodeRule`; says
            ``num_classes``.
        preprocessor: uint8 images -> input of the backbone.
        prior_generator: what the positions of the maps stand for; says the strides.
        coder: how the box values say a box.
        post_process: suppression; None: the detector gives no boxes, only maps.
        gate: see :class:`DecodeRule`.
        size_divisor: sides of images are multiples of it; None: of the largest stride.
        classes: names in the order of the labels, for metadata; may be set later.
        input_color: what the channels of ``batch["img"]`` are.

    Raises:
        ValueError: as many names as the head has classes are needed, or none; the maps that each part gives must be
            those that the next one takes (channels and strides, where the parts say them).
    """

    kinds: ClassVar[tuple[str, ...]] = ("cls", "reg")
    """Kinds of raw maps in their order; a third one is the factor of the scores."""
    head_name: ClassVar[str] = "bbox_head"
    """The head's argument, and below the option with the strides, for messages."""
    strides_name: ClassVar[str] = "bbox_head.strides"

    def __init__(
        self,
        *,
        backbone: nn.Module,
        neck: nn.Module,
        bbox_head: nn.Module,
        preprocessor: DataPreprocessor,
        prior_generator: PriorGenerator,
        coder: BoxCoder,
        post_process: DetectionPostProcess | None,
        gate: float | None = None,
        size_divisor: int | None = None,
        classes: Sequence[str] = (),
        input_color: str = "bgr",
    ) -> None:
        super().__init__()
        self.num_classes = int(bbox_head.num_classes)  # type: ignore[arg-type]
        if classes and len(classes) != self.num_classes:
            raise ValueError(
                f"{self.head_name} has num_classes={self.num_classes}, but {len(classes)} are named: {list(classes)}"
            )
        self.strides = prior_generator.strides
        check_input_channels(backbone, input_color, preprocessor)
        check_parts(backbone, neck, bbox_head, self.strides, self.head_name, self.strides_name)
        self.backbone = backbone
        self.neck = neck
        self.bbox_head = bbox_head
        self.preprocessor = preprocessor
        self.prior_generator, self.coder, self.post_process, self.gate = prior_generator, coder, post_process, gate
        self.size_divisor = size_divisor or max(self.strides)
        self.output_names = tuple(f"{kind}_{stride}" for kind in self.kinds for stride in self.strides)
        self.classes = tuple(classes)
        self.source_bits: int | None = None  # of 16-bit pictures, where the data says it (engine/checkpoints/bits.py)
        self.input_color = input_color

    @property
    def rule(self) -> DecodeRule:
        """How the raw maps become boxes and scores."""
        return DecodeRule(self.prior_generator, self.coder, self.num_classes, len(self.kinds) > 2, self.gate)

    def preprocess(self, img: Tensor) -> Tensor:
        return self.preprocessor(img)  # type: ignore[no-any-return]

    def run_network(self, x: Tensor) -> tuple[Tensor, ...]:
        divisor = self.size_divisor
        if x.shape[2] % divisor or x.shape[3] % divisor:
            raise UserError(
                f"images of {x.shape[2]}x{x.shape[3]} (height x width) do not fit the network's strides: both sides "
                f"must be multiples of {divisor} (imgsz, and the Pad and RandomCrop transforms)"
            )
        if self.training and len(x) * x.shape[2] * x.shape[3] == divisor**2:
            raise UserError(
                f"one image of {x.shape[2]}x{x.shape[3]} leaves one position at stride {divisor}, from which batch "
                "normalization cannot learn: raise the batch size or the image size (batch_size, imgsz)"
            )
        return self.bbox_head(self.neck(self.backbone(x)))  # type: ignore[no-any-return]

    def network(self) -> nn.Module:
        return DetectorNetwork(backbone=self.backbone, neck=self.neck, bbox_head=self.bbox_head)

    def loss(self, maps: Maps, batch: Batch) -> dict[str, Tensor]:
        """:meth:`losses` of raw maps; ``batch`` has gt_boxes (B, M, 4) and gt_labels (B, M), -1 padded."""
        with torch.autocast(maps[0].device.type, enabled=False):
            return self.losses(*self.flatten(maps), batch["gt_boxes"], batch["gt_labels"])

    @abstractmethod
    def losses(self, priors: Tensor, rows: Sequence[Tensor], gt_boxes: Tensor, gt_labels: Tensor) -> dict[str, Tensor]:
        """Scalar losses in float32.

        Args:
            priors: (P, 4).
            rows: what the maps say of each prior, kind after kind: (B, P, n).
            gt_boxes: (B, M, 4), xyxy in network pixels.
            gt_labels: int64 (B, M), -1 where padded.
        """

    def flatten(self, maps: Maps) -> tuple[Tensor, list[Tensor]]:
        """Raw maps -> priors (P, 4) and rows (B, P, n), kind after kind."""
        half = (torch.float16, torch.bfloat16)  # 16 bits are too coarse for the IoUs of an assignment
        rows = self.rule.rows([m.float() if m.dtype in half else m for m in maps])
        return self.prior_generator.grid_priors(self._sizes(maps), maps[0].device), rows

    @torch.no_grad()
    def predict(self, maps: Maps, batch: Batch) -> list[dict[str, Tensor]]:
        """Detections; ``batch`` has img_size and scale_factor (B, 2); without them boxes stay as they are.

        Raises:
            UserError: the model was built without post_process.
        """
        rule, counts = self.rule, self.prior_generator.counts(self._sizes(maps))
        with torch.autocast(maps[0].device.type, enabled=False):
            priors, rows = self.flatten(maps)
            return self._post_process()(
                rows[0],
                rule.coder.decode(priors, rows[1], rounded.exp),
                counts,
                img_size=batch.get("img_size"),
                scale_factor=batch.get("scale_factor"),
                factors=rows[2] if rule.score_factor else None,
                passing=rule.open(rows[0], counts),
            )

    def decoding(self, image_size: tuple[int, int]) -> nn.Module:
        return InGraphDecoder(rule=self.rule, priors=self.prior_generator.grid_priors(self.map_sizes(image_size)))

    @torch.no_grad()
    def predict_decoded(self, boxes: Tensor, scores: Tensor, batch: Batch) -> list[dict[str, Tensor]]:
        height, width = batch["img"].shape[2:]
        counts = self.prior_generator.counts(self.map_sizes((height, width)))
        passing = self.rule.open(scores, counts, scored=True)
        if passing is not None:
            scores = scores.masked_fill(~passing[..., None], 0.0)  # no score is above a threshold of 0 or more
        return self._post_process().from_scores(
            scores, boxes, counts, img_size=batch.get("img_size"), scale_factor=batch.get("scale_factor")
        )

    def _post_process(self) -> DetectionPostProcess:
        if self.post_process is None:
            raise UserError(
                f"this {type(self).__name__} has no post_process, so it gives no boxes; give it one in the config"
            )
        return self.post_process

    def metadata(self) -> dict[str, Any]:
        return {
            "detector": type(self).__name__,
            "classes": list(self.classes),
            "num_classes": self.num_classes,
            **({"source_bits": self.source_bits} if self.source_bits else {}),
            "strides": list(self.strides),
            **self.coding_metadata(),
            "output_names": list(self.output_names),
            "post_process": self.post_process.metadata() if self.post_process is not None else None,
            "mean": list(self.preprocessor.mean),
            "std": list(self.preprocessor.std),
            "bgr_to_rgb": self.preprocessor.bgr_to_rgb,
            "input_color": self.input_color,
            "input_order": input_order(self.input_color, self.preprocessor.bgr_to_rgb),
        }

    def coding_metadata(self) -> dict[str, Any]:
        """The part of :meth:`metadata` that says how the raw maps become boxes and scores."""
        return self.rule.metadata()

    def map_sizes(self, image_size: tuple[int, int]) -> list[tuple[int, int]]:
        """(height, width) of each level's maps for images of ``image_size``."""
        return [(math.ceil(image_size[0] / s), math.ceil(image_size[1] / s)) for s in self.strides]

    def _sizes(self, maps: Maps) -> list[tuple[int, int]]:
        return [(m.shape[2], m.shape[3]) for m in maps[: len(self.strides)]]
