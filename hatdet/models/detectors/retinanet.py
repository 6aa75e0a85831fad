"""RetinaNet (arXiv 1708.02002): one network, its losses and its boxes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from hatdet.models.detectors.base import Batch, Detector, DetectorNetwork, Maps
from hatdet.models.fitting import check_input_channels, check_parts
from hatdet.models.losses.focal_loss import FocalLossV2
from hatdet.models.losses.reduce import mean_over_ranks
from hatdet.models.losses.smooth_l1_loss import SmoothL1Loss
from hatdet.models.task_modules.anchor_coverage import AnchorCoverage
from hatdet.models.task_modules.anchors import AnchorGenerator
from hatdet.models.task_modules.encoders import MAX_LOG_RATIO, XYWHBBoxEncoder
from hatdet.models.task_modules.multi_stride_filter import RetinanetMultiStrideFilter
from hatdet.models.task_modules.preprocessor import DataPreprocessor
from hatdet.models.task_modules.retinanet_post_process import AnchorLevel, RetinaNetPostProcess
from hatdet.models.task_modules.target_generator import BBoxTargetGenerator
from hatdet.ops import rounded
from hatdet.registry import register
from hatdet.utils.errors import UserError
from hatdet.utils.input_format import input_order
from hatdet.utils.misfit import MisfitError

InputColor = Literal["yuv444", "bgr", "rgb", "gray"]


class RetinaNetDecoding(nn.Module):
    """Raw maps (cls_0, ..., reg_0, ...) of one image size -> boxes (B, P, 4) and scores (B, P, K), traceable.

    Args:
        anchors: float32 (P, 4) of all levels, finest first.
        box_encoder: decodes the deltas.
        num_classes: K.
    """

    anchors: Tensor

    def __init__(self, *, anchors: Tensor, box_encoder: XYWHBBoxEncoder, num_classes: int) -> None:
        super().__init__()
        self.register_buffer("anchors", anchors.clone())
        self.box_encoder, self.num_classes = box_encoder, num_classes

    def forward(self, *maps: Tensor) -> tuple[Tensor, Tensor]:
        levels = len(maps) // 2
        logits = torch.cat([_rows(m, self.num_classes) for m in maps[:levels]], dim=1)
        deltas = torch.cat([_rows(m, 4) for m in maps[levels:]], dim=1)
        return self.box_encoder.decode(self.anchors, deltas), logits.sigmoid()


@register
class RetinaNet(Detector):
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

    def __init__(
        self,
        *,
        backbone: nn.Module,
        neck: nn.Module,
        head: nn.Module,
        anchors: AnchorGenerator,
        targets: BBoxTargetGenerator | None = None,
        post_process: RetinaNetPostProcess | None = None,
        filter_module: RetinanetMultiStrideFilter | None = None,
        loss_cls: FocalLossV2 | None = None,
        loss_reg: SmoothL1Loss | None = None,
        preprocessor: DataPreprocessor | None = None,
        input_color: InputColor = "yuv444",
        classes: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.neck = neck
        self.bbox_head = head
        self.anchors = anchors
        self.targets = targets
        self.post_process = post_process
        self.filter_module = filter_module
        self.loss_cls = loss_cls
        self.loss_reg = loss_reg
        self.preprocessor = preprocessor or DataPreprocessor(mean=128.0, std=128.0)
        self.input_color = input_color
        self.num_classes = int(head.num_classes)  # type: ignore[arg-type]
        self.num_anchors = int(head.num_anchors)  # type: ignore[arg-type]
        self.int16_output = bool(getattr(head, "int16_output", False))
        self.strides = anchors.strides
        self.output_names = tuple(f"{kind}_{stride}" for kind in ("cls", "reg") for stride in self.strides)
        self.classes = tuple(classes)
        self.source_bits: int | None = None  # of 16-bit pictures, where the data says it (engine/bits.py)
        info = getattr(backbone, "feature_info", None)
        self.size_divisor = max(info.strides) if info is not None else min(32, max(self.strides))
        self._check_parts()
        self.box_encoder = targets.label_encoder.bbox_encoder if targets is not None else XYWHBBoxEncoder()
        self.coverage = AnchorCoverage(targets.matcher.pos_iou) if targets is not None else None

    def _check_parts(self) -> None:
        if self.classes and len(self.classes) != self.num_classes:
            raise ValueError(
                f"head has num_classes={self.num_classes}, but {len(self.classes)} are named: {list(self.classes)}"
            )
        if self.num_anchors != self.anchors.num_anchors:
            raise ValueError(
                f"head has num_anchors={self.num_anchors}, but anchors gives {self.anchors.num_anchors} at a position "
                "(scales times ratios)"
            )
        if self.targets is not None:
            columns = self.targets.label_encoder.class_encoder.num_columns
            if columns != self.num_classes:
                raise ValueError(
                    f"head has num_classes={self.num_classes}, but targets.label_encoder.class_encoder gives {columns} "
                    "columns: its num_classes counts background too, write num_classes=num_classes + 1"
                )
        check_input_channels(self.backbone, self.input_color, self.preprocessor)
        check_parts(self.backbone, self.neck, self.bbox_head, self.strides, "head", "anchors.feat_strides")
        if self.filter_module is not None and tuple(self.filter_module.strides) != self.strides:
            raise MisfitError(
                f"anchors has the strides {self.strides}, but filter_module has the strides "
                f"{tuple(self.filter_module.strides)}; give both the same",
                {"filter_module.strides": list(self.strides)},
            )

    def preprocess(self, img: Tensor) -> Tensor:
        return self.preprocessor(img)  # type: ignore[no-any-return]

    def run_network(self, x: Tensor) -> tuple[Tensor, ...]:
        divisor = self.size_divisor
        if x.shape[2] % divisor or x.shape[3] % divisor:
            raise UserError(
                f"images of {x.shape[2]}x{x.shape[3]} (height x width) do not fit the strides of the backbone: both "
                f"sides must be multiples of {divisor} (the Pad and RandomCrop transforms)"
            )
        if self.training and len(x) * x.shape[2] * x.shape[3] == divisor**2:
            raise UserError(
                f"one image of {x.shape[2]}x{x.shape[3]} leaves one position at stride {divisor}, from which batch "
                "normalization cannot learn: raise the batch size or the image size"
            )
        return self.bbox_head(self.neck(self.backbone(x)))  # type: ignore[no-any-return]

    def network(self) -> nn.Module:
        return DetectorNetwork(backbone=self.backbone, neck=self.neck, bbox_head=self.bbox_head)

    def loss(self, maps: Maps, batch: Batch) -> dict[str, Tensor]:
        """``loss_cls`` and ``loss_bbox`` of raw maps; ``batch`` has gt_boxes (B, M, 4) and gt_labels (B, M), -1 padded.

        Both are divided by the number of positive anchors in the batch (mean over the processes, at least 1).

        Raises:
            UserError: the model was built without targets or losses.
        """
        if self.targets is None or self.loss_cls is None or self.loss_reg is None:
            raise UserError(
                "this RetinaNet has no targets, loss_cls or loss_reg, so it cannot be trained; "
                "give it all three in the config"
            )
        with torch.autocast(maps[0].device.type, enabled=False):
            levels = self._levels(maps)
            anchors = torch.cat([level.anchors for level in levels])
            targets = self.targets(anchors, batch["gt_boxes"], batch["gt_labels"])
            if self.training and self.coverage is not None:
                self.coverage.add(targets)
            logits = torch.cat([level.logits for level in levels], dim=1)
            deltas = torch.cat([level.deltas for level in levels], dim=1)
            avg_factor = mean_over_ranks(targets.positive.sum().to(logits.dtype)).clamp(min=1)
            return {
                "loss_cls": self.loss_cls(logits, targets.classes, avg_factor),
                "loss_bbox": self.loss_reg(deltas[targets.positive], targets.deltas, avg_factor),
            }

    @torch.no_grad()
    def predict(self, maps: Maps, batch: Batch) -> list[dict[str, Tensor]]:
        """Detections; ``batch`` has img_size and scale_factor (B, 2); without them boxes stay as they are.

        Raises:
            UserError: the model was built without post_process.
        """
        post_process = self._post_process()
        with torch.autocast(maps[0].device.type, enabled=False):
            return post_process(
                self._levels(maps, self.filter_module),
                partial(self.box_encoder.decode, exp=rounded.exp),
                img_size=batch.get("img_size"),
                scale_factor=batch.get("scale_factor"),
            )

    def decoding(self, image_size: tuple[int, int]) -> RetinaNetDecoding:
        anchors = torch.cat(self.anchors.grid_anchors(self.map_sizes(image_size)))
        return RetinaNetDecoding(anchors=anchors, box_encoder=self.box_encoder, num_classes=self.num_classes)

    @torch.no_grad()
    def predict_decoded(self, boxes: Tensor, scores: Tensor, batch: Batch) -> list[dict[str, Tensor]]:
        height, width = batch["img"].shape[2:]
        levels, start = [], 0
        for rows, columns in self.map_sizes((height, width)):
            part = slice(start, start + rows * columns * self.num_anchors)
            # Boxes are decoded already: "anchors" stand for them only by their number.
            level = AnchorLevel(scores[:, part], boxes[:, part], boxes[0, part], self._kept(scores[:, part]), True)
            levels.append(level)
            start = part.stop
        return self._post_process()(
            levels, lambda _, found: found, img_size=batch.get("img_size"), scale_factor=batch.get("scale_factor")
        )

    def _kept(self, scores: Tensor) -> Tensor | None:
        """What the filter keeps of a level's scores (B, H * W * A, K)."""
        if self.filter_module is None:
            return None
        positions = scores.reshape(len(scores), -1, self.num_anchors * self.num_classes).amax(dim=2)
        passing = positions >= rounded.sigmoid(torch.tensor(self.filter_module.threshold)).to(positions.device)
        return passing.repeat_interleave(self.num_anchors, dim=1)

    def _post_process(self) -> RetinaNetPostProcess:
        if self.post_process is None:
            raise UserError("this RetinaNet has no post_process, so it gives no boxes; give it one in the config")
        return self.post_process

    def metadata(self) -> dict[str, Any]:
        return {
            "detector": "RetinaNet",
            "classes": list(self.classes),
            "num_classes": self.num_classes,
            **({"source_bits": self.source_bits} if self.source_bits else {}),
            "strides": list(self.strides),
            "num_anchors": self.num_anchors,
            "anchors": [base.tolist() for base in self.anchors.base_anchors],
            "anchor_offset": self.anchors.center_offset,
            "reg_mean": list(self.box_encoder.reg_mean),
            "reg_std": list(self.box_encoder.reg_std),
            "max_log_ratio": MAX_LOG_RATIO,
            "filter_threshold": self.filter_module.threshold if self.filter_module is not None else None,
            "post_process": self.post_process.metadata() if self.post_process is not None else None,
            "output_names": list(self.output_names),
            "mean": list(self.preprocessor.mean),
            "std": list(self.preprocessor.std),
            "bgr_to_rgb": self.preprocessor.bgr_to_rgb,
            "input_color": self.input_color,
            "input_order": input_order(self.input_color, self.preprocessor.bgr_to_rgb),
        }

    def map_sizes(self, image_size: tuple[int, int]) -> list[tuple[int, int]]:
        """(height, width) of each level's maps for images of ``image_size``."""
        return [(math.ceil(image_size[0] / s), math.ceil(image_size[1] / s)) for s in self.strides]

    def _levels(self, maps: Maps, keep: RetinanetMultiStrideFilter | None = None) -> list[AnchorLevel]:
        """Raw maps (B, A * n, H_i, W_i) -> logits (B, P_i, K), deltas (B, P_i, 4) and anchors of each level."""
        count = len(self.strides)
        maps = [m.float() if m.dtype in (torch.float16, torch.bfloat16) else m for m in maps]
        sizes = [tuple(m.shape[2:]) for m in maps[:count]]
        anchors = self.anchors.grid_anchors(sizes, maps[0].device)
        kept: Sequence[Tensor | None] = [None] * count
        if keep is not None:
            kept = [k.flatten(1).repeat_interleave(self.num_anchors, dim=1) for k in keep(maps[:count])]
        return [
            AnchorLevel(_rows(cls_map, self.num_classes), _rows(reg_map, 4), boxes, wanted)
            for cls_map, reg_map, boxes, wanted in zip(maps[:count], maps[count:], anchors, kept, strict=True)
        ]


def _rows(level: Tensor, columns: int) -> Tensor:
    """(B, A * columns, H, W) -> (B, H * W * A, columns)."""
    return level.permute(0, 2, 3, 1).reshape(level.shape[0], -1, columns)
