"""The head of RetinaNet (arXiv 1708.02002, section 4): one pair of subnets for all levels."""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Sequence

from torch import Tensor, nn

from hatdet.models.fitting import told
from hatdet.models.heads.weights import init_head
from hatdet.registry import register


@register
class RetinaNetHead(nn.Module):
    """Two stacks of 3x3 convolutions with ReLU, the same for every level; no batch norm.

    Sequence of (B, in_channels, H_i, W_i) -> flat tuple (cls_0, cls_1, ..., reg_0, reg_1, ...): cls_i
    (B, A * num_classes, H_i, W_i) logits and reg_i (B, A * 4, H_i, W_i) encoded boxes. Channel ``a * K + k`` belongs
    to anchor a: first all K values of anchor 0, then those of anchor 1.

    Args:
        num_classes: classes without background.
        num_anchors: anchors at a position, A.
        in_channels: channels of each input map; in a detector's config it may be left out.
        feat_channels: channels inside the stacks.
        stacked_convs: convolutions of a stack.
        int16_output: on the device the outputs keep 16 bits instead of 8, where the target can carry them.

    Raises:
        ValueError: no class or no anchor.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        num_anchors: int,
        in_channels: int | None = None,
        stacked_convs: int = 4,
        feat_channels: int = 256,
        int16_output: bool = False,
    ) -> None:
        super().__init__()
        if num_classes < 1 or num_anchors < 1:
            raise ValueError(
                "at least one class and one anchor are needed, got "
                f"num_classes={num_classes}, num_anchors={num_anchors}"
            )
        in_channels = self.in_channels = told(in_channels, "in_channels")
        self.num_classes, self.num_anchors, self.int16_output = num_classes, num_anchors, int16_output
        inputs = [in_channels, *[feat_channels] * stacked_convs]

        def stack() -> nn.ModuleList:
            pairs = itertools.pairwise(inputs)
            return nn.ModuleList(
                nn.Sequential(
                    OrderedDict(conv=nn.Conv2d(a, b, 3, padding=1), activate=nn.ReLU(inplace=True)),
                )
                for a, b in pairs
            )

        self.cls_convs = stack()
        self.reg_convs = stack()
        self.retina_cls = nn.Conv2d(inputs[-1], num_anchors * num_classes, 3, padding=1)
        self.retina_reg = nn.Conv2d(inputs[-1], num_anchors * 4, 3, padding=1)
        init_head(self, [self.retina_cls])

    def forward(self, feats: Sequence[Tensor]) -> tuple[Tensor, ...]:
        cls_maps, reg_maps = [], []
        for feat in feats:
            cls_feat, reg_feat = feat, feat
            for cls_conv, reg_conv in zip(self.cls_convs, self.reg_convs, strict=True):
                cls_feat, reg_feat = cls_conv(cls_feat), reg_conv(reg_feat)
            cls_maps.append(self.retina_cls(cls_feat))
            reg_maps.append(self.retina_reg(reg_feat))
        return (*cls_maps, *reg_maps)
