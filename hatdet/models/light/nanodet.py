"""NanoDet-Plus: a stack of each level, edges as distributions, soft labels by overlap.

The detector is that of the project (RangiLyu/nanodet, Apache-2.0), which describes it in its README and configs: the
losses of generalized focal loss (arXiv 2006.04388), and the assignment that RTMDet took over (arXiv 2212.07784). Its
guidance of the assignment by a second neck and head, in training alone, is not here.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from hatdet.models.layers.depthwise import DepthwiseConv
from hatdet.models.light.detector import LightDetector
from hatdet.models.light.distribution_head import DistributionPointHead
from hatdet.models.mmdet.heads.assignment import Targets, assign
from hatdet.models.mmdet.heads.base import Truth
from hatdet.models.mmdet.heads.towers import kind_after_kind, part, through
from hatdet.models.mmdet.layers.init import bias_init_with_prob, normal_init
from hatdet.registry import register
from hatdet.utils.annotations import Spec

QUALITY = {"type": "QualityFocalLoss", "use_sigmoid": True, "beta": 2.0, "loss_weight": 1.0}
GIOU = {"type": "GIoULoss", "loss_weight": 2.0}


@register
class NanoDetPlusHead(DistributionPointHead):
    """Raw maps: ``cls`` (B, classes, H, W) logits, ``bbox`` (B, 4 * (reg_max + 1), H, W), see
    :class:`DistributionPointHead`; a point is the top left corner of its cell.

    Each level has a stack of depthwise separable convolutions (``cls_convs``), of which both maps come. The published
    ``gfl_cls`` makes both; here, so that their integers have scales of their own, ``gfl_reg`` makes the distances.

    Args:
        num_classes: of foreground.
        in_channels: of the feature maps.
        feat_channels: of the stacks.
        stacked_convs: depthwise separable convolutions in each.
        kernel_size: of their depthwise ones.
        strides: of the levels in pixels.
        reg_max: the farthest an edge may be, in strides.
        activation: class name of ``torch.nn``; the published one is LeakyReLU.
        loss_cls, loss_bbox, loss_dfl: built losses of classes, boxes and distributions.
        train_cfg: built ``assigner``, of MMDetection's scope, that takes points and logits
            (``DynamicSoftLabelAssigner``).
        test_cfg: see :class:`DistributionPointHead`.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        in_channels: int,
        feat_channels: int = 96,
        stacked_convs: int = 2,
        kernel_size: int = 5,
        strides: Sequence[int] = (8, 16, 32, 64),
        reg_max: int = 7,
        activation: str = "LeakyReLU",
        loss_cls: nn.Module | None = None,
        loss_bbox: nn.Module | None = None,
        loss_dfl: nn.Module | None = None,
        train_cfg: Mapping[str, Any] | None = None,
        test_cfg: Spec | None = None,
    ) -> None:
        super().__init__(
            num_classes=num_classes, in_channels=in_channels, strides=strides, reg_max=reg_max, offset=0.0,
            loss_cls=part(loss_cls, QUALITY), loss_bbox=part(loss_bbox, GIOU), loss_dfl=loss_dfl,
            train_cfg=train_cfg, test_cfg=test_cfg,
        )  # fmt: skip
        widths = [in_channels, *[feat_channels] * stacked_convs]
        self.cls_convs = nn.ModuleList(
            nn.ModuleList(
                DepthwiseConv(fan_in, fan_out, kernel_size, activation=activation)
                for fan_in, fan_out in itertools.pairwise(widths)
            )
            for _ in strides
        )
        self.gfl_cls = nn.ModuleList(nn.Conv2d(widths[-1], num_classes, 1) for _ in strides)
        self.gfl_reg = nn.ModuleList(nn.Conv2d(widths[-1], self.box_channels, 1) for _ in strides)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                normal_init(module, std=0.01)
        for layer in self.gfl_cls:
            normal_init(layer, std=0.01, bias=bias_init_with_prob(0.01))

    def forward(self, feats: Sequence[Tensor]) -> tuple[Tensor, ...]:
        levels = []
        for level, (stack, of_class, of_box) in enumerate(zip(self.cls_convs, self.gfl_cls, self.gfl_reg, strict=True)):
            x = through(stack, feats[level])  # type: ignore[arg-type]
            levels.append((of_class(x), of_box(x)))
        return kind_after_kind(levels)

    def assign_one(self, points: Tensor, logits: Tensor, boxes: Tensor, truth: Truth, counts: Sequence[int]) -> Targets:
        assert self.train_cfg is not None
        predictions = {"priors": points, "scores": logits, "bboxes": boxes}
        return assign(self.train_cfg["assigner"], None, predictions, truth, num_classes=self.num_classes)


@register
class NanoDetPlus(LightDetector):
    """A backbone, :class:`GhostPAN` and :class:`NanoDetPlusHead`, or others in their places."""
