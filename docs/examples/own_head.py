"""A head of one's own for RTMDet: one tower for classes and boxes, shared by all levels."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from hatdet.models.fitting import told
from hatdet.models.heads.weights import init_head
from hatdet.models.layers.conv import ConvModule
from hatdet.registry import register


@register
class LeanHead(nn.Module):
    """Maps of the neck -> (cls_8, cls_16, cls_32, reg_8, reg_16, reg_32), raw: no sigmoid, no product with the stride.

    Args:
        num_classes: without background.
        in_channels: of each map; a detector that knows its neck fills it in.
        convs: convolutions of the tower.
        strides: pixels per position of each level.
    """

    exp_on_reg = False  # a distance is reg * stride; RTMDet's loss and prediction ask

    def __init__(
        self,
        *,
        num_classes: int,
        in_channels: int | None = None,
        convs: int = 2,
        strides: Sequence[int] = (8, 16, 32),
    ) -> None:
        super().__init__()
        c = self.in_channels = told(in_channels, "in_channels")
        self.num_classes, self.strides = num_classes, tuple(strides)
        self.tower = nn.Sequential(*(ConvModule(c, c, 3, activation="ReLU6") for _ in range(convs)))
        self.cls = nn.Conv2d(c, num_classes, 1)
        self.reg = nn.Conv2d(c, 4, 1)
        init_head(self, [self.cls])
        assert self.reg.bias is not None
        nn.init.constant_(self.reg.bias, 2.0)  # boxes of four strides to begin with

    def forward(self, feats: Sequence[Tensor]) -> tuple[Tensor, ...]:
        towers = [self.tower(feat) for feat in feats]
        return tuple(self.cls(tower) for tower in towers) + tuple(self.reg(tower) for tower in towers)
