"""SSD's head."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hatdet.models.mmdet.building import build
from hatdet.models.mmdet.heads.anchor.anchor_head import AnchorHead
from hatdet.models.mmdet.heads.anchor.targets import Targets
from hatdet.models.mmdet.heads.base import Levels, Losses, PictureMeta, Truth
from hatdet.models.mmdet.heads.common import flatten
from hatdet.models.mmdet.heads.prediction import PredictingHead
from hatdet.models.mmdet.layers.conv import ConvModule, DepthwiseSeparableConvModule
from hatdet.models.mmdet.layers.init import initialize
from hatdet.models.mmdet.losses.boxes.differences import SmoothL1Loss
from hatdet.registry import register
from hatdet.utils.annotations import Spec

ANCHORS = {
    "type": "SSDAnchorGenerator", "scale_major": False, "input_size": 300, "strides": [8, 16, 32, 64, 100, 300],
    "ratios": ([2], [2, 3], [2, 3], [2, 3], [2], [2]), "basesize_ratio_range": (0.1, 0.9),
}  # fmt: skip
XAVIER = {"type": "Xavier", "layer": "Conv2d", "distribution": "uniform", "bias": 0}


@register(scope="mmdet")
class SSDHead(AnchorHead):
    """A convolution of each level for its classes and one for its boxes (arXiv 1512.02325).

    Raw maps: ``cls`` (B, A_i * (num_classes + 1), H, W), a softmax whose last is the background, and ``bbox``
    (B, A_i * 4, H, W), deltas that ``bbox_coder`` decodes; levels differ in A_i. The loss of classes takes of the
    negatives the worst, ``neg_pos_ratio`` times the positives.

    Args:
        num_classes: of foreground.
        in_channels: of each level.
        stacked_convs: 3x3 convolutions of each level before its last.
        feat_channels: of those.
        use_depthwise: as SSDLite (arXiv 1801.04381): depthwise convolutions, the last one 1x1.
        conv_cfg, norm_cfg, act_cfg: of the convolutions before the last.
        anchor_generator, bbox_coder, reg_decoded_bbox: see :class:`AnchorHead`.
        train_cfg: ``assigner``, ``sampler``, ``neg_pos_ratio``, ``smoothl1_beta``, ``allowed_border``.
        test_cfg, init_cfg: see :class:`AnchorHead`.

    Raises:
        ValueError: as many channels as levels are needed.
    """

    def __init__(
        self,
        *,
        num_classes: int = 80,
        in_channels: Sequence[int] = (512, 1024, 512, 256, 256, 256),
        stacked_convs: int = 0,
        feat_channels: int = 256,
        use_depthwise: bool = False,
        conv_cfg: Spec | None = None,
        norm_cfg: Spec | None = None,
        act_cfg: Spec | None = None,
        anchor_generator: Any = None,
        bbox_coder: Any = None,
        reg_decoded_bbox: bool = False,
        train_cfg: dict[str, Any] | None = None,
        test_cfg: Spec | None = None,
        init_cfg: Spec | list[Spec] | None = XAVIER,
    ) -> None:
        PredictingHead.__init__(self)  # its losses are no parts
        self.use_sigmoid_cls = False
        self._set_up(
            num_classes, in_channels, feat_channels, anchor_generator or build(ANCHORS), bbox_coder, reg_decoded_bbox
        )
        self.num_base_priors = self.prior_generator.num_base_priors
        if len(self.num_base_priors) != len(in_channels):
            raise ValueError(f"in_channels={in_channels}: {len(self.num_base_priors)} levels of anchors need as many")
        self.stacked_convs, self.use_depthwise = stacked_convs, use_depthwise
        self.conv_cfg, self.norm_cfg, self.act_cfg = conv_cfg, norm_cfg, act_cfg
        self._set_cfg(train_cfg, test_cfg)
        self._init_layers()
        initialize(self, init_cfg)

    def _init_layers(self) -> None:
        pairs = list(zip(self.in_channels, self.num_base_priors, strict=True))
        self.cls_convs = nn.ModuleList(self._convs(width, count * self.cls_out_channels) for width, count in pairs)
        self.reg_convs = nn.ModuleList(self._convs(width, count * 4) for width, count in pairs)

    def _convs(self, width: int, out_channels: int) -> nn.Sequential:
        parts: dict[str, Any] = {"conv_cfg": self.conv_cfg, "norm_cfg": self.norm_cfg, "act_cfg": self.act_cfg}
        conv = DepthwiseSeparableConvModule if self.use_depthwise else ConvModule
        layers: list[nn.Module] = []
        for _ in range(self.stacked_convs):
            layers.append(conv(width, self.feat_channels, 3, padding=1, **parts))
            width = self.feat_channels
        if self.use_depthwise:
            layers.append(ConvModule(width, width, 3, padding=1, groups=width, **parts))
        size = 1 if self.use_depthwise else 3
        return nn.Sequential(*layers, nn.Conv2d(width, out_channels, size, padding=size // 2))

    def forward(self, feats: Sequence[Tensor]) -> tuple[Tensor, ...]:
        return (
            *(conv(x) for conv, x in zip(self.cls_convs, feats, strict=True)),
            *(conv(x) for conv, x in zip(self.reg_convs, feats, strict=True)),
        )

    def flat(self, maps: Levels, channels: int) -> Tensor:
        """Levels -> (B, N, channels)."""
        return torch.cat([flatten(level, channels) for level in maps], dim=1)

    def loss_by_feat(self, *maps: Levels, truths: Sequence[Truth], metas: Sequence[PictureMeta]) -> Losses:
        """``loss_cls`` and ``loss_bbox``, one of each picture."""
        targets = self.get_targets(maps[0], truths, metas)
        found = targets.labels, targets.label_weights, targets.bbox_targets, targets.bbox_weights
        rows = [[torch.cat(levels, dim=1)] for levels in found]
        flat = Targets(rows[0], rows[1], rows[2], rows[3], targets.avg_factor, targets.samples)
        logits, values = self.flat(maps[0], self.cls_out_channels), self.flat(maps[1], 4)
        return self.losses_of(logits, values, flat, torch.cat(self.priors_of(maps[0])))

    def losses_of(self, logits: Tensor, values: Tensor, targets: Targets, anchors: Tensor) -> Losses:
        """Of flat maps (B, N, ...) and targets of a single level."""
        found = [
            self.picture_loss(
                logits[i], values[i], anchors, targets.labels[0][i], targets.label_weights[0][i],
                targets.bbox_targets[0][i], targets.bbox_weights[0][i], targets.avg_factor,
            )
            for i in range(len(logits))
        ]  # fmt: skip
        return {"loss_cls": [cls for cls, _ in found], "loss_bbox": [box for _, box in found]}

    def picture_loss(
        self,
        logits: Tensor,
        values: Tensor,
        anchors: Tensor,
        labels: Tensor,
        label_weights: Tensor,
        bbox_targets: Tensor,
        bbox_weights: Tensor,
        avg_factor: float,
    ) -> tuple[Tensor, Tensor]:
        """Classes of positives and of the worst negatives (1,), and boxes."""
        assert self.train_cfg is not None
        each = F.cross_entropy(logits, labels, reduction="none") * label_weights
        background = labels == self.num_classes
        negatives = each[background]
        positives = int((~background).sum())
        worst = min(int(self.train_cfg["neg_pos_ratio"] * positives), len(negatives))
        loss_cls = (each[~background].sum() + negatives.topk(worst).values.sum()) / avg_factor
        if self.reg_decoded_bbox:
            values = self.bbox_coder.decode(anchors, values)
        loss_bbox = SmoothL1Loss(beta=self.train_cfg["smoothl1_beta"])(
            values, bbox_targets, bbox_weights, avg_factor=avg_factor
        )
        return loss_cls[None], loss_bbox
