"""YOLOX: a decoupled head of each level, SimOTA (arXiv 2107.08430)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hatdet.models.mmdet import exact
from hatdet.models.mmdet.building import build
from hatdet.models.mmdet.heads.assignment import assign
from hatdet.models.mmdet.heads.base import DenseHead, Detections, Levels, Losses, PictureMeta, Truth
from hatdet.models.mmdet.heads.coding import Address, Coding
from hatdet.models.mmdet.heads.common import featmap_sizes, reduce_mean
from hatdet.models.mmdet.heads.prediction import Candidates, finish
from hatdet.models.mmdet.heads.towers import concatenated, kind_after_kind, part, tower
from hatdet.models.mmdet.layers.init import bias_init_with_prob, initialize
from hatdet.registry import register
from hatdet.utils.annotations import Spec

BINARY_SUM = {"type": "CrossEntropyLoss", "use_sigmoid": True, "reduction": "sum", "loss_weight": 1.0}
NORM = {"type": "BN", "momentum": 0.03, "eps": 0.001}
SWISH = {"type": "Swish"}
KAIMING = {
    "type": "Kaiming", "layer": "Conv2d", "a": math.sqrt(5), "distribution": "uniform", "mode": "fan_in",
    "nonlinearity": "leaky_relu",
}  # fmt: skip


@register(scope="mmdet")
class YOLOXHead(DenseHead):
    """Raw maps: ``cls`` (B, classes, H, W) logits, ``bbox`` (B, 4, H, W), ``obj`` (B, 1, H, W) logits.

    The centre of a box is (cell + bbox[:2]) strides, its width and height exp(bbox[2:]) strides; its class is the
    best one, its score sigmoid(cls) * sigmoid(obj).

    Args:
        num_classes: of foreground.
        in_channels: of the feature maps.
        feat_channels: of the stacks.
        stacked_convs: how many in each.
        strides: of the levels in pixels.
        use_depthwise: depthwise and pointwise convolutions.
        dcn_on_last_conv: the last of each stack is deformable (DCNv2).
        conv_bias: of the stacks; ``auto``: where no normalization follows.
        conv_cfg, norm_cfg, act_cfg: of the stacks.
        loss_cls, loss_bbox, loss_obj, loss_l1: built losses, sums; the last counts while ``use_l1`` is True.
        train_cfg: built ``assigner``, perhaps ``sampler``.
        test_cfg: ``score_thr``, ``nms``.
        init_cfg: first weights.
        initial_distance: hatdet's own: from the middle of a cell to each side of its box, in strides, as an untrained
            head predicts it. None: about half a stride around the cell's corner, as in the reference.

    Raises:
        ValueError: ``conv_bias`` or ``initial_distance`` that mean nothing.

    Attributes:
        use_l1: also learn the four numbers themselves, as training does in its last epochs.
    """

    kinds = ("cls", "bbox", "obj")
    use_sigmoid_cls = True

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        feat_channels: int = 256,
        stacked_convs: int = 2,
        strides: Sequence[int] = (8, 16, 32),
        use_depthwise: bool = False,
        dcn_on_last_conv: bool = False,
        conv_bias: bool | str = "auto",
        conv_cfg: Spec | None = None,
        norm_cfg: Spec | None = NORM,
        act_cfg: Spec | None = SWISH,
        loss_cls: nn.Module | None = None,
        loss_bbox: nn.Module | None = None,
        loss_obj: nn.Module | None = None,
        loss_l1: nn.Module | None = None,
        train_cfg: dict[str, Any] | None = None,
        test_cfg: Spec | None = None,
        init_cfg: Spec | list[dict[str, Any]] | None = KAIMING,
        initial_distance: float | None = None,
    ) -> None:
        super().__init__()
        if initial_distance is not None and initial_distance <= 0:
            raise ValueError(f"initial_distance must be above 0, got {initial_distance}")
        if conv_bias != "auto" and not isinstance(conv_bias, bool):
            raise ValueError(f"conv_bias is {conv_bias!r}; write True, False or 'auto'")
        self.num_classes = self.cls_out_channels = num_classes
        self.in_channels, self.feat_channels, self.stacked_convs = in_channels, feat_channels, stacked_convs
        self.strides, self.train_cfg, self.test_cfg = list(strides), train_cfg, test_cfg
        self.prior_generator = build({"type": "MlvlPointGenerator"}, strides=self.strides, offset=0)
        self.loss_cls, self.loss_obj = part(loss_cls, BINARY_SUM), part(loss_obj, BINARY_SUM)
        self.loss_bbox = part(
            loss_bbox, {"type": "IoULoss", "mode": "square", "eps": 1e-16, "reduction": "sum", "loss_weight": 5.0}
        )
        self.use_l1 = False
        self.loss_l1 = part(loss_l1, {"type": "L1Loss", "reduction": "sum", "loss_weight": 1.0})

        def stack() -> nn.Sequential:
            return nn.Sequential(
                *tower(
                    in_channels, feat_channels, stacked_convs, conv_cfg=conv_cfg, norm_cfg=norm_cfg, act_cfg=act_cfg,
                    bias=conv_bias, last_conv_cfg={"type": "DCNv2"} if dcn_on_last_conv else None,
                    separable=use_depthwise,
                )
            )  # fmt: skip

        def last(channels: int) -> nn.ModuleList:
            return nn.ModuleList([nn.Conv2d(feat_channels, channels, 1) for _ in self.strides])

        self.multi_level_cls_convs = nn.ModuleList([stack() for _ in self.strides])
        self.multi_level_reg_convs = nn.ModuleList([stack() for _ in self.strides])
        self.multi_level_conv_cls, self.multi_level_conv_reg, self.multi_level_conv_obj = map(last, (num_classes, 4, 1))
        initialize(self, init_cfg)
        for conv in (*self.multi_level_conv_cls, *self.multi_level_conv_obj):
            nn.init.constant_(conv.bias, bias_init_with_prob(0.01))  # type: ignore[arg-type]
        if initial_distance is not None:
            size = math.log(2 * initial_distance)
            for conv in self.multi_level_conv_reg:
                nn.init.normal_(conv.weight, std=0.01)  # type: ignore[arg-type]
                with torch.no_grad():
                    conv.bias.copy_(torch.tensor([0.5, 0.5, size, size]))  # type: ignore[operator, union-attr]

    def forward(self, feats: Sequence[Tensor]) -> tuple[Tensor, ...]:
        levels = []
        for i, x in enumerate(feats):
            of_class, of_box = self.multi_level_cls_convs[i](x), self.multi_level_reg_convs[i](x)
            levels.append(
                (
                    self.multi_level_conv_cls[i](of_class), self.multi_level_conv_reg[i](of_box),
                    self.multi_level_conv_obj[i](of_box),
                )
            )  # fmt: skip
        return kind_after_kind(levels)

    def _priors(self, maps: Levels) -> Tensor:
        """Corner of each cell and stride: (n, 4)."""
        return torch.cat(
            self.prior_generator.grid_priors(
                featmap_sizes(maps), dtype=maps[0].dtype, device=maps[0].device, with_stride=True
            )
        )

    @staticmethod
    def decode(priors: Tensor, values: Tensor) -> Tensor:
        """Cells (n, 4) and numbers (..., n, 4) -> boxes (..., n, 4)."""
        centres = values[..., :2] * priors[:, 2:] + priors[:, :2]
        halves = exact.exp(values[..., 2:]) * priors[:, 2:] / 2
        return torch.cat((centres - halves, centres + halves), dim=-1)

    def loss_by_feat(self, *maps: Levels, truths: Sequence[Truth], metas: Sequence[PictureMeta]) -> Losses:
        cls_scores, bbox_preds, objectnesses = maps
        priors = self._priors(cls_scores)
        logits, values = concatenated(cls_scores, self.num_classes), concatenated(bbox_preds, 4)
        objects = concatenated(objectnesses, 1)
        boxes = self.decode(priors, values)
        found = [
            self._targets(priors, classes, places, there, truth)
            for classes, places, there, truth in zip(
                logits.detach(), boxes.detach(), objects.detach(), truths, strict=True
            )
        ]
        positive, classes, wanted = (torch.cat(list(kind)) for kind in zip(*found, strict=True))
        count = max(reduce_mean(positive.sum().float()).item(), 1.0)
        loss_obj = self.loss_obj(objects.reshape(-1, 1), positive[:, None].to(objects.dtype)) / count
        if not len(wanted):
            losses = {"loss_cls": logits.sum() * 0, "loss_bbox": boxes.sum() * 0, "loss_obj": loss_obj}
            return {**losses, "loss_l1": values.sum() * 0} if self.use_l1 else dict(losses)
        losses = {
            "loss_cls": self.loss_cls(logits.flatten(0, 1)[positive], classes) / count,
            "loss_bbox": self.loss_bbox(boxes.flatten(0, 1)[positive], wanted) / count,
            "loss_obj": loss_obj,
        }
        if self.use_l1:
            l1 = self._l1_targets(wanted, priors.repeat(len(truths), 1)[positive])
            losses["loss_l1"] = self.loss_l1(values.flatten(0, 1)[positive], l1) / count
        return dict(losses)

    @torch.no_grad()
    def _targets(
        self, priors: Tensor, logits: Tensor, boxes: Tensor, objects: Tensor, truth: Truth
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Which priors (n,) of a picture find something, with what sure class (k, classes), and what box (k, 4)."""
        if not len(truth):
            none = torch.zeros(len(priors), dtype=torch.bool, device=priors.device)
            return none, logits.new_zeros((0, self.num_classes)), boxes.new_zeros((0, 4))
        assert self.train_cfg is not None
        predictions = {
            "bboxes": boxes,
            "scores": (logits.sigmoid() * objects.sigmoid()).sqrt(),
            "priors": torch.cat((priors[:, :2] + priors[:, 2:] * 0.5, priors[:, 2:]), dim=1),  # at the cells' centres
        }
        found = assign(
            self.train_cfg["assigner"], self.train_cfg.get("sampler"), predictions, truth, num_classes=self.num_classes
        )
        positive = found.positive
        assert found.overlaps is not None
        classes = F.one_hot(found.labels[positive], self.num_classes) * found.overlaps[positive][:, None]
        return positive, classes, found.boxes[positive]

    @staticmethod
    def _l1_targets(boxes: Tensor, priors: Tensor, eps: float = 1e-8) -> Tensor:
        """The numbers (k, 4) that :meth:`decode` makes these boxes of."""
        centres, sizes = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
        return torch.cat(((centres - priors[:, :2]) / priors[:, 2:], torch.log(sizes / priors[:, 2:] + eps)), dim=1)

    def boxes_and_scores(self, *maps: Levels) -> tuple[Tensor, Tensor]:
        cls_scores, bbox_preds, objectnesses = maps
        scores = exact.sigmoid(concatenated(cls_scores, self.num_classes))
        scores = scores * exact.sigmoid(concatenated(objectnesses, 1))
        return self.decode(self._priors(cls_scores), concatenated(bbox_preds, 4)), scores

    def coding(self) -> Coding:
        places = Address(0, 0, self.num_classes), Address(1, 0, 4), Address(2, 0, 1)
        ignored = ("nms_pre", "max_per_img", "min_bbox_size")
        return Coding("centre", *places, early=True, reaches=True, multi_label=False, clips=False, ignores=ignored)

    def class_scores(self, logits: Tensor) -> Tensor:
        """(n, classes) between 0 and 1."""
        return exact.sigmoid(logits)

    score_factors = class_scores

    def box_table(self, rows: Tensor, level: int) -> Tensor:
        stride = self.strides[level]
        return torch.cat((rows[:, :2] * stride, exact.exp(rows[:, 2:]) * stride), dim=1)

    def predict_by_feat(
        self,
        *maps: Levels,
        metas: Sequence[PictureMeta],
        cfg: Mapping[str, Any] | None = None,
        rescale: bool = False,
        with_nms: bool = True,
    ) -> list[Detections]:
        """Detections of each picture; ``cfg`` is read for ``score_thr`` and ``nms``.

        Args:
            maps: as :meth:`forward` gives them.
            metas: of the pictures.
            cfg: in the place of ``test_cfg``.
            rescale: boxes in pixels of the file.
            with_nms: False: the candidates.
        """
        cfg = (self.test_cfg or {}) if cfg is None else cfg
        cls_scores, bbox_preds, objectnesses = maps
        scores, labels = exact.sigmoid(concatenated(cls_scores, self.num_classes)).max(dim=-1)
        scores = scores * exact.sigmoid(concatenated(objectnesses, 1)[..., 0])
        boxes = self.decode(self._priors(cls_scores), concatenated(bbox_preds, 4))
        found = []
        for image, meta in enumerate(metas):
            keep = scores[image] >= cfg.get("score_thr", 0)
            candidates = Candidates(boxes[image][keep], scores[image][keep], labels[image][keep])
            only = {key: cfg[key] for key in ("nms",) if key in cfg}  # sizes and numbers of boxes do not count here
            found.append(finish(candidates, only, meta, rescale, with_nms))
        return found
