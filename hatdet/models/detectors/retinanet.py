"""RetinaNet (arXiv 1708.02002): its parts and its losses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

from torch import Tensor, nn

from hatdet.models.detectors.dense import DenseDetector
from hatdet.models.losses.focal_loss import FocalLossV2
from hatdet.models.losses.reduce import mean_over_ranks
from hatdet.models.losses.smooth_l1_loss import SmoothL1Loss
from hatdet.models.task_modules.anchor_coverage import AnchorCoverage
from hatdet.models.task_modules.anchors import AnchorGenerator
from hatdet.models.task_modules.encoders import XYWHBBoxEncoder
from hatdet.models.task_modules.multi_stride_filter import RetinanetMultiStrideFilter
from hatdet.models.task_modules.post_process import DetectionPostProcess
from hatdet.models.task_modules.preprocessor import DataPreprocessor
from hatdet.models.task_modules.target_generator import BBoxTargetGenerator
from hatdet.registry import register
from hatdet.utils.errors import UserError
from hatdet.utils.misfit import MisfitError

InputColor = Literal["yuv444", "bgr", "rgb", "gray"]


@register
class RetinaNet(DenseDetector):
    """One-stage detector with anchors at every level of a pyramid.

    Args:
        backbone: image -> feature maps, e.g. :class:`VargNetV2` with ``include_top=False``.
        neck: feature maps -> as many levels as the anchors have strides.
        head: e.g. :class:`RetinaNetHead`; says ``num_classes``, ``num_anchors``, ``int16_output``.
        anchors: the boxes that the outputs refer to.
        targets: what each anchor learns; None: a detector that cannot be trained.
        post_process: suppression; None: it gives no boxes, only maps.
        filter_module: positions that are decoded at all; None: all.
        loss_cls: loss of the class scores.
        loss_reg: loss of the encoded boxes.
        preprocessor: uint8 images -> input of the backbone; None: mean 128 and std 128, which is what the integer
            input holds. It must be what the data's ``Normalize`` says.
        input_color: what the channels of ``batch["img"]`` are (``ToTensor``).
        classes: names in the order of the labels, for metadata; may be set later.

    Raises:
        ValueError: parts that do not fit each other: strides, numbers of anchors or of classes.
    """

    head_name: ClassVar[str] = "head"
    strides_name: ClassVar[str] = "anchors.feat_strides"

    def __init__(
        self,
        *,
        backbone: nn.Module,
        neck: nn.Module,
        head: nn.Module,
        anchors: AnchorGenerator,
        targets: BBoxTargetGenerator | None = None,
        post_process: DetectionPostProcess | None = None,
        filter_module: RetinanetMultiStrideFilter | None = None,
        loss_cls: FocalLossV2 | None = None,
        loss_reg: SmoothL1Loss | None = None,
        preprocessor: DataPreprocessor | None = None,
        input_color: InputColor = "yuv444",
        classes: Sequence[str] = (),
    ) -> None:
        info = getattr(backbone, "feature_info", None)
        encoder = targets.label_encoder.bbox_encoder if targets is not None else XYWHBBoxEncoder()
        super().__init__(
            backbone=backbone,
            neck=neck,
            bbox_head=head,
            preprocessor=preprocessor or DataPreprocessor(mean=128.0, std=128.0),
            prior_generator=anchors,
            coder=encoder,
            post_process=post_process,
            gate=filter_module.threshold if filter_module is not None else None,
            size_divisor=max(info.strides) if info is not None else min(32, max(anchors.strides)),
            classes=classes,
            input_color=input_color,
        )
        self.targets, self.loss_cls, self.loss_reg = targets, loss_cls, loss_reg
        self.int16_output = bool(getattr(head, "int16_output", False))
        self._check_parts(int(head.num_anchors), anchors.num_priors[0], filter_module)  # type: ignore[arg-type]
        self.coverage = AnchorCoverage(targets.matcher.pos_iou) if targets is not None else None

    def _check_parts(self, head: int, anchors: int, filter_module: RetinanetMultiStrideFilter | None) -> None:
        if head != anchors:
            raise ValueError(
                f"head has num_anchors={head}, but anchors gives {anchors} at a position (scales times ratios)"
            )
        if self.targets is not None:
            columns = self.targets.label_encoder.class_encoder.num_columns
            if columns != self.num_classes:
                raise ValueError(
                    f"head has num_classes={self.num_classes}, but targets.label_encoder.class_encoder gives {columns} "
                    "columns: its num_classes counts background too, write num_classes=num_classes + 1"
                )
        if filter_module is not None and tuple(filter_module.strides) != self.strides:
            raise MisfitError(
                f"anchors has the strides {self.strides}, but filter_module has the strides "
                f"{tuple(filter_module.strides)}; give both the same",
                {"filter_module.strides": list(self.strides)},
            )

    def losses(self, priors: Tensor, rows: Sequence[Tensor], gt_boxes: Tensor, gt_labels: Tensor) -> dict[str, Tensor]:
        """``loss_cls`` and ``loss_bbox``, divided by the number of positive anchors in the batch (mean over the
        processes, at least 1).

        Raises:
            UserError: the model was built without targets or losses.
        """
        if self.targets is None or self.loss_cls is None or self.loss_reg is None:
            raise UserError(
                "this RetinaNet has no targets, loss_cls or loss_reg, so it cannot be trained; "
                "give it all three in the config"
            )
        logits, deltas = rows
        targets = self.targets(priors, gt_boxes, gt_labels)
        if self.training and self.coverage is not None:
            self.coverage.add(targets)
        avg_factor = mean_over_ranks(targets.positive.sum().to(logits.dtype)).clamp(min=1)
        return {
            "loss_cls": self.loss_cls(logits, targets.classes, avg_factor),
            "loss_bbox": self.loss_reg(deltas[targets.positive], targets.deltas, avg_factor),
        }
