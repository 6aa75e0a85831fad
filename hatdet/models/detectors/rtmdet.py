"""RTMDet (arXiv 2212.07784): its parts and its losses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from torch import Tensor, nn

from hatdet.models.detectors.dense import DenseDetector
from hatdet.models.losses.iou_loss import GIoULoss
from hatdet.models.losses.quality_focal_loss import QualityFocalLoss
from hatdet.models.losses.reduce import mean_over_ranks
from hatdet.models.task_modules.coders import DistancePointBBoxCoder
from hatdet.models.task_modules.dynamic_soft_label_assigner import DynamicSoftLabelAssigner
from hatdet.models.task_modules.post_process import DetectionPostProcess
from hatdet.models.task_modules.preprocessor import DataPreprocessor
from hatdet.models.task_modules.priors import MlvlPointGenerator
from hatdet.registry import register


@register
class RTMDet(DenseDetector):
    """One-stage detector with a point for each position and dynamic soft label assignment.

    Args:
        backbone: image -> feature maps, e.g. :class:`CSPNeXt`.
        neck: feature maps -> as many maps as the head has strides.
        bbox_head: e.g. :class:`RTMDetSepBNHead`; says ``num_classes``, ``strides``, ``exp_on_reg``.
        preprocessor: uint8 images -> input of the backbone.
        assigner: which prior learns which box.
        loss_cls: loss of the class scores.
        loss_bbox: loss of the boxes.
        post_process: suppression.
        prior_generator: None: the top left corner of each cell, as RTMDet has it.
        bbox_coder: None: distances. They are in strides here, and logarithms with ``exp_on_reg``, whatever it says.
        classes: names in the order of the labels, for metadata; may be set later.
        input_color: ``gray``: images of one channel (``ToTensor(to_gray=True)``).

    Raises:
        ValueError: see :class:`DenseDetector`.
    """

    coder: DistancePointBBoxCoder

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
        post_process: DetectionPostProcess,
        prior_generator: MlvlPointGenerator | None = None,
        bbox_coder: DistancePointBBoxCoder | None = None,
        classes: Sequence[str] = (),
        input_color: Literal["bgr", "gray"] = "bgr",
    ) -> None:
        super().__init__(
            backbone=backbone,
            neck=neck,
            bbox_head=bbox_head,
            preprocessor=preprocessor,
            prior_generator=prior_generator or MlvlPointGenerator(strides=bbox_head.strides),  # type: ignore[arg-type]
            coder=type(bbox_coder or DistancePointBBoxCoder())(exp=bool(bbox_head.exp_on_reg), in_strides=True),
            post_process=post_process,
            classes=classes,
            input_color=input_color,
        )
        self.assigner, self.loss_cls, self.loss_bbox = assigner, loss_cls, loss_bbox

    @property
    def exp_on_reg(self) -> bool:
        """Distances are ``exp(raw) * stride``; may be set to what a checkpoint was trained with."""
        return self.coder.exp

    @exp_on_reg.setter
    def exp_on_reg(self, value: bool) -> None:
        self.coder.exp = value

    def losses(self, priors: Tensor, rows: Sequence[Tensor], gt_boxes: Tensor, gt_labels: Tensor) -> dict[str, Tensor]:
        """``loss_cls`` and ``loss_bbox``, divided by the sum of the soft targets over the batch (mean over the
        processes, at least 1)."""
        logits, regs = rows
        boxes = self.coder.decode(priors, regs.detach())
        assigned = self.assigner(boxes, logits.detach(), priors, gt_boxes, gt_labels)
        avg_factor = mean_over_ranks(assigned.metrics.sum()).clamp(min=1)
        image, prior = (assigned.gt_inds > 0).nonzero(as_tuple=True)
        return {
            "loss_cls": self.loss_cls(logits, assigned.labels, assigned.metrics, avg_factor),
            "loss_bbox": self.loss_bbox(
                self.coder.decode(priors[prior], regs[image, prior]),
                gt_boxes[image, assigned.gt_inds[image, prior] - 1],
                assigned.metrics[image, prior],
                avg_factor,
            ),
        }

    def metadata(self) -> dict[str, Any]:
        known = super().metadata()
        if self.input_color == "bgr":  # RTMDet's files have never said what was not otherwise
            del known["input_color"]
        return known
