"""FOMO ("Faster Objects, More Objects"): which cells of a grid hold the centre of an object, and of which class.

Made from public descriptions of Edge Impulse's FOMO: MobileNetV2 cut at stride 8, a 1x1 convolution and a 1x1
classifier, a softmax over background and the classes, cross entropy in which an object weighs 100 times as much as
background. There are no box sizes: a detection is a cell, and the middle of it a point.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from hatdet.models.detectors.base import Batch, DetectorNetwork, Maps
from hatdet.models.detectors.dense import DenseDetector
from hatdet.models.fitting import backbone_info, complete_part
from hatdet.models.losses.weighted_cross_entropy import WeightedCrossEntropy
from hatdet.models.task_modules.cells import CellPostProcess, cell_boxes, cell_targets
from hatdet.models.task_modules.preprocessor import DataPreprocessor
from hatdet.models.task_modules.priors import MlvlPointGenerator
from hatdet.ops import rounded
from hatdet.registry import register
from hatdet.utils.errors import UserError


@register
class FOMO(DenseDetector):
    """A class for each cell of one map, trained on the centres of the objects.

    The one raw map has the logits of background and of each class, (B, 1 + num_classes, H, W); the softmax over them,
    in float64 and rounded once, is part of decoding, so the network is convolutions from end to end.

    Args:
        backbone: image -> one feature map, e.g. :class:`MobileNetV2` with ``out_indices=(2,)``, ``expand_last=True``.
        bbox_head: e.g. :class:`FOMOHead`; says ``num_classes`` and ``strides``.
        preprocessor: uint8 images -> input of the backbone.
        loss_cls: of the logits.
        post_process: which cells are detections.
        neck: feature maps -> one map; None: the backbone's own.
        classes: names in the order of the labels, for metadata; may be set later.
        input_color: what the channels of ``batch["img"]`` are; ``gray``: one.

    Raises:
        ValueError: see :class:`DenseDetector`.
    """

    kinds: ClassVar[tuple[str, ...]] = ("cls",)
    points: ClassVar[bool] = True
    """Boxes are cells; what a detection says is its middle."""
    post_process: CellPostProcess  # type: ignore[assignment]

    def __init__(
        self,
        *,
        backbone: nn.Module,
        bbox_head: nn.Module,
        preprocessor: DataPreprocessor,
        loss_cls: WeightedCrossEntropy,
        post_process: CellPostProcess,
        neck: nn.Module | None = None,
        classes: Sequence[str] = (),
        input_color: Literal["bgr", "rgb", "gray"] = "bgr",
    ) -> None:
        super().__init__(
            backbone=backbone,
            neck=neck if neck is not None else nn.Identity(),
            bbox_head=bbox_head,
            preprocessor=preprocessor,
            prior_generator=MlvlPointGenerator(strides=bbox_head.strides, offset=0.5),  # type: ignore[arg-type]
            coder=None,  # type: ignore[arg-type]
            post_process=post_process,  # type: ignore[arg-type]
            classes=classes,
            input_color=input_color,
        )
        self.loss_cls = loss_cls

    def network(self) -> nn.Module:
        neck = None if isinstance(self.neck, nn.Identity) else self.neck
        return DetectorNetwork(backbone=self.backbone, neck=neck, bbox_head=self.bbox_head)

    @staticmethod
    def complete_part(
        name: str, cfg: Mapping[str, Any], missing: Mapping[str, Any], argument: Callable[[str], Any]
    ) -> dict[str, Any]:
        """As every detector's; without a neck the head takes the channels of the backbone's last map."""
        info = backbone_info(argument("backbone")) if name == "bbox_head" and argument("neck") is None else None
        if info is None:
            return complete_part(name, cfg, missing, argument)
        free = missing.get("in_channels", 0) in (None, inspect.Parameter.empty)
        return {"in_channels": info.channels[-1]} if free else {}

    def losses(self, priors: Tensor, rows: Sequence[Tensor], gt_boxes: Tensor, gt_labels: Tensor) -> dict[str, Tensor]:
        """``loss_cls`` of logits ``rows[0]`` (B, P, 1 + K) at the cells with the middles ``priors`` (P, 4)."""
        stride = self.strides[0]
        width, height = (int(side) for side in ((priors[-1, :2] + stride / 2) / stride).tolist())
        return {"loss_cls": self.loss_cls(rows[0], cell_targets(gt_boxes, gt_labels, (height, width), stride))}

    def flatten(self, maps: Maps) -> tuple[Tensor, list[Tensor]]:
        logits = maps[0].float().permute(0, 2, 3, 1).flatten(1, 2)
        return self.prior_generator.grid_priors(self._sizes(maps), maps[0].device), [logits]

    @torch.no_grad()
    def predict(self, maps: Maps, batch: Batch) -> list[dict[str, Tensor]]:
        """Detections; ``batch`` has img_size and scale_factor (B, 2); without them boxes stay as they are."""
        _, (logits,) = self.flatten(maps)
        return self._found(rounded.softmax(logits)[..., 1:], self._sizes(maps)[0], batch)

    def decoding(self, image_size: tuple[int, int]) -> nn.Module:
        return CellDecoder(boxes=cell_boxes(self.map_sizes(image_size)[0], self.strides[0]))

    @torch.no_grad()
    def predict_decoded(self, boxes: Tensor, scores: Tensor, batch: Batch) -> list[dict[str, Tensor]]:
        height, width = batch["img"].shape[2:]
        return self._found(scores, self.map_sizes((height, width))[0], batch)

    def _found(self, scores: Tensor, size: tuple[int, int], batch: Batch) -> list[dict[str, Tensor]]:
        known = {name: batch.get(name) for name in ("img_size", "scale_factor")}
        return self.post_process(scores, size, self.strides[0], **known)

    def coding_metadata(self) -> dict[str, Any]:
        return {"cells": True}

    def decoder_tables(self, outputs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """What decoders outside the toolbox need (``hatdet/export/decoder/cells``).

        Args:
            outputs: of the integer network: ``name``, ``shape`` (1, h, w, channels), ``dtype``, ``scale``,
                ``zero_point``.

        Raises:
            UserError: an output of 16 bits.
        """
        (output,) = outputs
        if output["dtype"] != "int8":
            raise UserError(
                f"a decoder of FOMO looks numbers up by int8 codes, output {output['name']} has more; set "
                "int16_output=False"
            )
        real = (torch.arange(-128, 128, dtype=torch.float32) - output["zero_point"]) * output["scale"]
        settings = {name: value for name, value in self.post_process.metadata().items() if name != "type"}
        return {
            "cells": True,
            "stride": self.strides[0],
            "exponentials": rounded.exponentials(real).tolist(),
            **settings,
        }


class CellDecoder(nn.Module):
    """Raw map of one image size -> boxes (B, P, 4), the squares of the cells, and scores (B, P, K), traceable.

    Args:
        boxes: float32 (P, 4).
    """

    boxes: Tensor

    def __init__(self, *, boxes: Tensor) -> None:
        super().__init__()
        self.register_buffer("boxes", boxes.clone())

    def forward(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        scores = logits.permute(0, 2, 3, 1).flatten(1, 2).softmax(dim=-1)[..., 1:]
        return self.boxes.expand(scores.shape[0], -1, -1), scores
