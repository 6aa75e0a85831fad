"""RTMDet (arXiv 2212.07784): one network, its losses and its boxes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from hatdet.models.detectors.base import Batch, Detector, DetectorNetwork, Maps
from hatdet.models.fitting import check_input_channels, check_parts
from hatdet.models.losses.iou_loss import GIoULoss
from hatdet.models.losses.quality_focal_loss import QualityFocalLoss
from hatdet.models.losses.reduce import mean_over_ranks
from hatdet.models.task_modules.coders import DistancePointBBoxCoder
from hatdet.models.task_modules.dynamic_soft_label_assigner import DynamicSoftLabelAssigner
from hatdet.models.task_modules.post_process import RTMDetPostProcess
from hatdet.models.task_modules.preprocessor import DataPreprocessor
from hatdet.models.task_modules.priors import MlvlPointGenerator
from hatdet.ops import rounded
from hatdet.registry import register
from hatdet.utils.errors import UserError
from hatdet.utils.input_format import input_order


class RTMDetDecoding(nn.Module):
    """Raw maps (cls_0, ..., reg_0, ...) of one image size -> boxes (B, P, 4) and scores (B, P, C), traceable.

    Args:
        priors: float32 (P, 4), points and strides of all levels, finest first.
        exp_on_reg: distances are ``exp(reg) * stride``.
    """

    priors: Tensor

    def __init__(self, *, priors: Tensor, exp_on_reg: bool) -> None:
        super().__init__()
        self.register_buffer("priors", priors.clone())
        self.exp_on_reg = exp_on_reg

    def forward(self, *maps: Tensor) -> tuple[Tensor, Tensor]:
        flat = [m.permute(0, 2, 3, 1).flatten(1, 2) for m in maps]
        levels = len(flat) // 2
        logits, regs = torch.cat(flat[:levels], dim=1), torch.cat(flat[levels:], dim=1)
        distances = (regs.exp() if self.exp_on_reg else regs) * self.priors[:, 2:3]
        points = self.priors[:, :2]
        boxes = torch.cat((points - distances[..., :2], points + distances[..., 2:]), dim=-1)
        return boxes, logits.sigmoid()


@register
class RTMDet(Detector):
    """One-stage detector with a point for each position and dynamic soft label assignment.

    Args:
        backbone: image -> feature maps, e.g. :class:`CSPNeXt`.
        neck: feature maps -> as many maps as the head has strides.
        bbox_head: e.g. :class:`RTMDetSepBNHead`; says ``num_classes``, ``strides``, ``exp_on_reg``,
            ``output_names``.
        preprocessor: uint8 images -> input of the backbone.
        assigner: which prior learns which box.
        loss_cls: loss of the class scores.
        loss_bbox: loss of the boxes.
        post_process: suppression.
        prior_generator: None: the top left corner of each cell, as RTMDet has it.
        bbox_coder: None: distances.
        classes: names in the order of the labels, for metadata; may be set later.
        input_color: ``gray``: images of one channel (``ToTensor(to_gray=True)``).

    Raises:
        ValueError: as many names as the head has classes are needed, or none; the maps that each part gives must be
            those that the next one takes (channels and strides, where the parts say them).
    """

    def __init__(
        self,
        *,
        backbone: nn.Module,
        neck: nn.Module,
        bbox_head: nn.Module,
        preprocessor: DataPreprocessor,
        assigner: DynamicSoftLabelAssigner,
        loss_cls: QualityFocalLoss,
        loss_bbox: GIoULoss,
        post_process: RTMDetPostProcess,
        prior_generator: MlvlPointGenerator | None = None,
        bbox_coder: DistancePointBBoxCoder | None = None,
        classes: Sequence[str] = (),
        input_color: Literal["bgr", "gray"] = "bgr",
    ) -> None:
        super().__init__()
        num_classes = int(bbox_head.num_classes)  # type: ignore[arg-type]
        if classes and len(classes) != num_classes:
            raise ValueError(f"bbox_head has num_classes={num_classes}, but {len(classes)} are named: {list(classes)}")
        check_input_channels(backbone, input_color, preprocessor)
        check_parts(backbone, neck, bbox_head, bbox_head.strides, "bbox_head", "bbox_head.strides")  # type: ignore[arg-type]
        self.backbone = backbone
        self.neck = neck
        self.bbox_head = bbox_head
        self.preprocessor = preprocessor
        self.loss_cls = loss_cls
        self.loss_bbox = loss_bbox
        self.assigner = assigner
        self.post_process = post_process
        self.strides: tuple[int, ...] = tuple(bbox_head.strides)  # type: ignore[arg-type]
        self.exp_on_reg = bool(bbox_head.exp_on_reg)
        self.output_names = tuple(bbox_head.output_names)  # type: ignore[arg-type]
        self.prior_generator = prior_generator or MlvlPointGenerator(strides=self.strides)
        self.bbox_coder = bbox_coder or DistancePointBBoxCoder()
        self.num_classes = num_classes
        self.classes = tuple(classes)
        self.source_bits: int | None = None  # of 16-bit pictures, where the data says it (engine/bits.py)
        self.input_color = input_color

    def preprocess(self, img: Tensor) -> Tensor:
        return self.preprocessor(img)  # type: ignore[no-any-return]

    def run_network(self, x: Tensor) -> tuple[Tensor, ...]:
        stride = max(self.strides)
        if x.shape[2] % stride or x.shape[3] % stride:
            raise UserError(
                f"images of {x.shape[2]}x{x.shape[3]} (height x width) do not fit the strides {self.strides}: "
                f"both sides must be multiples of {stride} (imgsz, and the Pad and RandomCrop transforms)"
            )
        if self.training and len(x) * x.shape[2] * x.shape[3] == stride**2:
            raise UserError(
                f"one image of {x.shape[2]}x{x.shape[3]} leaves one position at stride {stride}, from which batch "
                "normalization cannot learn: raise batch_size or imgsz"
            )
        return self.bbox_head(self.neck(self.backbone(x)))  # type: ignore[no-any-return]

    def network(self) -> nn.Module:
        return DetectorNetwork(backbone=self.backbone, neck=self.neck, bbox_head=self.bbox_head)

    def loss(self, maps: Maps, batch: Batch) -> dict[str, Tensor]:
        """``loss_cls`` and ``loss_bbox`` of raw maps; ``batch`` has gt_boxes (B, M, 4) and gt_labels (B, M),
        -1 padded.

        Both are divided by the sum of the soft targets over the batch (mean over the processes, at least 1).
        """
        with torch.autocast(maps[0].device.type, enabled=False):
            cls_logits, regs = self._flatten(maps)
            priors = self._priors(maps)
            gt_boxes, gt_labels = batch["gt_boxes"], batch["gt_labels"]
            assigned = self.assigner(
                self.decode(priors, regs.detach()), cls_logits.detach(), priors, gt_boxes, gt_labels
            )
            avg_factor = mean_over_ranks(assigned.metrics.sum()).clamp(min=1)
            image, prior = (assigned.gt_inds > 0).nonzero(as_tuple=True)
            return {
                "loss_cls": self.loss_cls(cls_logits, assigned.labels, assigned.metrics, avg_factor),
                "loss_bbox": self.loss_bbox(
                    self.decode(priors[prior], regs[image, prior]),
                    gt_boxes[image, assigned.gt_inds[image, prior] - 1],
                    assigned.metrics[image, prior],
                    avg_factor,
                ),
            }

    @torch.no_grad()
    def predict(self, maps: Maps, batch: Batch) -> list[dict[str, Tensor]]:
        """Detections; ``batch`` has img_size and scale_factor (B, 2); without them boxes stay as they are."""
        with torch.autocast(maps[0].device.type, enabled=False):
            cls_logits, regs = self._flatten(maps)
            return self.post_process(
                cls_logits,
                self.decode(self._priors(maps), regs, rounded.exp),
                [m.shape[2] * m.shape[3] for m in maps[: len(self.strides)]],
                img_size=batch.get("img_size"),
                scale_factor=batch.get("scale_factor"),
            )

    def decoding(self, image_size: tuple[int, int]) -> RTMDetDecoding:
        priors = self.prior_generator.grid_priors(self._map_sizes(image_size))
        return RTMDetDecoding(priors=priors, exp_on_reg=self.exp_on_reg)

    @torch.no_grad()
    def predict_decoded(self, boxes: Tensor, scores: Tensor, batch: Batch) -> list[dict[str, Tensor]]:
        height, width = batch["img"].shape[2:]
        return self.post_process.from_scores(
            scores,
            boxes,
            [h * w for h, w in self._map_sizes((height, width))],
            img_size=batch.get("img_size"),
            scale_factor=batch.get("scale_factor"),
        )

    def _map_sizes(self, image_size: tuple[int, int]) -> list[tuple[int, int]]:
        return [(image_size[0] // stride, image_size[1] // stride) for stride in self.strides]

    def decode(self, priors: Tensor, regs: Tensor, exp: Callable[[Tensor], Tensor] = torch.exp) -> Tensor:
        """Boxes (..., 4) xyxy in network pixels of raw regression outputs (..., 4) at ``priors`` (..., 4)."""
        distances = (exp(regs) if self.exp_on_reg else regs) * priors[..., 2:3]
        return self.bbox_coder.decode(priors[..., :2], distances)

    def metadata(self) -> dict[str, Any]:
        return {
            "detector": "RTMDet",
            "classes": list(self.classes),
            "num_classes": self.num_classes,
            **({"source_bits": self.source_bits} if self.source_bits else {}),
            "strides": list(self.strides),
            "exp_on_reg": self.exp_on_reg,
            "prior_offset": self.prior_generator.offset,
            "output_names": list(self.output_names),
            "post_process": self.post_process.metadata(),
            "mean": list(self.preprocessor.mean),
            "std": list(self.preprocessor.std),
            "bgr_to_rgb": self.preprocessor.bgr_to_rgb,
            "input_order": input_order(self.input_color, self.preprocessor.bgr_to_rgb),
            **({"input_color": "gray"} if self.input_color == "gray" else {}),
        }

    def _priors(self, maps: Maps) -> Tensor:
        sizes = [m.shape[2:] for m in maps[: len(self.strides)]]
        return self.prior_generator.grid_priors(sizes, maps[0].device)

    def _flatten(self, maps: Maps) -> tuple[Tensor, Tensor]:
        """Raw maps (B, C, H_i, W_i) -> logits (B, P, C) and regression outputs (B, P, 4)."""
        levels = len(self.strides)
        half = (torch.float16, torch.bfloat16)  # 16 bits are too coarse for the IoUs of an assignment
        flat = [(m.float() if m.dtype in half else m).permute(0, 2, 3, 1).flatten(1, 2) for m in maps]
        return torch.cat(flat[:levels], dim=1), torch.cat(flat[levels:], dim=1)
