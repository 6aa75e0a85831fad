"""RetinaNet's heads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from hatdet.models.mmdet.building import build
from hatdet.models.mmdet.heads.anchor.anchor_head import AnchorHead
from hatdet.models.mmdet.heads.anchor.stacks import stack
from hatdet.models.mmdet.layers.init import bias_init_with_prob, normal_init
from hatdet.registry import register
from hatdet.utils.annotations import Spec

ANCHORS = {
    "type": "AnchorGenerator", "octave_base_scale": 4, "scales_per_octave": 3, "ratios": [0.5, 1.0, 2.0],
    "strides": [8, 16, 32, 64, 128],
}  # fmt: skip
RARE_CLASSES = {
    "type": "Normal", "layer": "Conv2d", "std": 0.01,
    "override": {"type": "Normal", "name": "retina_cls", "std": 0.01, "bias_prob": 0.01},
}  # fmt: skip


@register(scope="mmdet")
class RetinaHead(AnchorHead):
    """Two towers of 3x3 convolutions, the same for all levels (arXiv 1708.02002).

    Raw maps, scores and boxes: see :class:`AnchorHead`.

    Args:
        num_classes, in_channels, feat_channels, anchor_generator, bbox_coder: see :class:`AnchorHead`.
        stacked_convs: length of the towers.
        conv_cfg, norm_cfg: of their convolutions.
        reg_decoded_bbox, loss_cls, loss_bbox, train_cfg, test_cfg, init_cfg: see :class:`AnchorHead`.

    Raises:
        ValueError: a negative length.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        in_channels: int,
        stacked_convs: int = 4,
        conv_cfg: Spec | None = None,
        norm_cfg: Spec | None = None,
        feat_channels: int = 256,
        anchor_generator: Any = None,
        bbox_coder: Any = None,
        reg_decoded_bbox: bool = False,
        loss_cls: nn.Module | None = None,
        loss_bbox: nn.Module | None = None,
        train_cfg: dict[str, Any] | None = None,
        test_cfg: Spec | None = None,
        init_cfg: Spec | list[Spec] | None = RARE_CLASSES,
    ) -> None:
        if stacked_convs < 0:
            raise ValueError(f"stacked_convs={stacked_convs} must not be negative")
        self.stacked_convs, self.conv_cfg, self.norm_cfg = stacked_convs, conv_cfg, norm_cfg
        super().__init__(
            num_classes=num_classes, in_channels=in_channels, feat_channels=feat_channels,
            anchor_generator=anchor_generator or build(ANCHORS), bbox_coder=bbox_coder,
            reg_decoded_bbox=reg_decoded_bbox, loss_cls=loss_cls, loss_bbox=loss_bbox, train_cfg=train_cfg,
            test_cfg=test_cfg, init_cfg=init_cfg,
        )  # fmt: skip

    def _init_layers(self) -> None:
        inputs, outputs, length = self.in_channels, self.feat_channels, self.stacked_convs
        self.cls_convs = stack(inputs, outputs, length, self.conv_cfg, self.norm_cfg)
        self.reg_convs = stack(inputs, outputs, length, self.conv_cfg, self.norm_cfg)
        width = self.feat_channels if self.stacked_convs else self.in_channels
        self.retina_cls = nn.Conv2d(width, self.num_base_priors * self.cls_out_channels, 3, padding=1)
        self.retina_reg = nn.Conv2d(width, self.num_base_priors * self.box_channels, 3, padding=1)

    def forward_single(self, x: Tensor) -> tuple[Tensor, ...]:
        return self.retina_cls(self.cls_convs(x)), self.retina_reg(self.reg_convs(x))


@register(scope="mmdet")
class RetinaSepBNHead(AnchorHead):
    """RetinaNet's towers with normalization layers of each level's own; convolutions are shared (NAS-FPN).

    Raw maps, scores and boxes: see :class:`AnchorHead`.

    Args:
        num_classes, in_channels, feat_channels, anchor_generator, bbox_coder: see :class:`AnchorHead`.
        num_ins: number of levels.
        stacked_convs, conv_cfg, norm_cfg: see :class:`RetinaHead`.
        reg_decoded_bbox, loss_cls, loss_bbox, train_cfg, test_cfg: see :class:`AnchorHead`.
        init_cfg: there is no other choice than None: shared layers are filled once.

    Raises:
        ValueError: an ``init_cfg``.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        num_ins: int,
        in_channels: int,
        stacked_convs: int = 4,
        conv_cfg: Spec | None = None,
        norm_cfg: Spec | None = None,
        feat_channels: int = 256,
        anchor_generator: Any = None,
        bbox_coder: Any = None,
        reg_decoded_bbox: bool = False,
        loss_cls: nn.Module | None = None,
        loss_bbox: nn.Module | None = None,
        train_cfg: dict[str, Any] | None = None,
        test_cfg: Spec | None = None,
        init_cfg: Spec | list[Spec] | None = None,
    ) -> None:
        if init_cfg is not None:
            raise ValueError("init_cfg must be None: layers that levels share are filled once; leave it out")
        self.stacked_convs, self.conv_cfg, self.norm_cfg, self.num_ins = stacked_convs, conv_cfg, norm_cfg, num_ins
        super().__init__(
            num_classes=num_classes, in_channels=in_channels, feat_channels=feat_channels,
            anchor_generator=anchor_generator, bbox_coder=bbox_coder, reg_decoded_bbox=reg_decoded_bbox,
            loss_cls=loss_cls, loss_bbox=loss_bbox, train_cfg=train_cfg, test_cfg=test_cfg, init_cfg=None,
        )  # fmt: skip

    def _towers(self) -> nn.ModuleList:
        towers = [
            stack(self.in_channels, self.feat_channels, self.stacked_convs, self.conv_cfg, self.norm_cfg)
            for _ in range(self.num_ins)
        ]
        for other in towers[1:]:
            for module, first in zip(other, towers[0], strict=True):
                module.conv = first.conv
        for module in towers[0]:
            normal_init(module.get_submodule("conv"), std=0.01)
        return nn.ModuleList(towers)

    def _init_layers(self) -> None:
        self.cls_convs, self.reg_convs = self._towers(), self._towers()
        self.retina_cls = nn.Conv2d(
            self.feat_channels, self.num_base_priors * self.cls_out_channels, 3, padding=1
        )  # fmt: skip
        self.retina_reg = nn.Conv2d(self.feat_channels, self.num_base_priors * self.box_channels, 3, padding=1)
        normal_init(self.retina_cls, std=0.01, bias=bias_init_with_prob(0.01))
        normal_init(self.retina_reg, std=0.01)

    def forward(self, feats: Sequence[Tensor]) -> tuple[Tensor, ...]:
        return (
            *(self.retina_cls(convs(x)) for convs, x in zip(self.cls_convs, feats, strict=True)),
            *(self.retina_reg(convs(x)) for convs, x in zip(self.reg_convs, feats, strict=True)),
        )
