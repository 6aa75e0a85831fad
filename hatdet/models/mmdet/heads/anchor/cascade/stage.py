"""One stage of a cascade of proposals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hatdet.models.mmdet.assigners.region import RegionAssigner
from hatdet.models.mmdet.building import build
from hatdet.models.mmdet.heads.anchor.rpn import RPNHead
from hatdet.models.mmdet.heads.anchor.targets import Targets, batch_targets, inside_of, truth_instances
from hatdet.models.mmdet.heads.base import Levels, Losses, PictureMeta, Truth
from hatdet.models.mmdet.heads.common import featmap_sizes, flatten
from hatdet.models.mmdet.instances import Instances
from hatdet.models.mmdet.layers.deform_conv import DeformConv2d
from hatdet.models.mmdet.layers.init import normal_init
from hatdet.registry import register
from hatdet.utils.annotations import Spec

ANCHORS = {"type": "AnchorGenerator", "scales": [8], "ratios": [1.0], "strides": [4, 8, 16, 32, 64]}
DILATION = {"type": "dilation", "dilation": 3}
_PLACES_A_LOSS = 200  # what a stage without negatives divides its number of anchors by


class AdaptiveConv(nn.Module):
    """A 3x3 convolution that is dilated, or whose taps lie in the anchor of the place.

    Args:
        in_channels, out_channels: of the convolution.
        type: ``dilation`` or ``offset``.
        dilation: of the first kind.

    Raises:
        ValueError: another type.
    """

    def __init__(self, in_channels: int, out_channels: int, type: str = "dilation", dilation: int = 3) -> None:
        super().__init__()
        if type not in ("dilation", "offset"):
            raise ValueError(f"adapt_cfg type={type!r}: write 'dilation' or 'offset'")
        self.follows_anchors = type == "offset"
        self.conv: nn.Module = (
            DeformConv2d(in_channels, out_channels, 3, padding=1)
            if self.follows_anchors
            else nn.Conv2d(in_channels, out_channels, 3, padding=dilation, dilation=dilation)
        )
        normal_init(self.conv, std=0.01)

    def forward(self, x: Tensor, offset: Tensor | None) -> Tensor:
        return self.conv(x, offset) if self.follows_anchors else self.conv(x)  # type: ignore[no-any-return]


def anchor_offset(anchors: Tensor, stride: float, size: tuple[int, int]) -> Tensor:
    """How far the taps of a 3x3 convolution move so that they span the anchor of their place.

    Args:
        anchors: (B, h * w, 4), one a place.
        stride: pixels per position.
        size: (h, w).

    Returns:
        (B, 18, h, w): y and x of each tap.
    """
    rows = torch.arange(size[0], dtype=anchors.dtype, device=anchors.device)
    columns = torch.arange(size[1], dtype=anchors.dtype, device=anchors.device)
    places = torch.stack(torch.meshgrid(rows, columns, indexing="ij"), dim=-1).view(-1, 2)
    low, high = anchors[..., :2].flip(-1) / stride, anchors[..., 2:].flip(-1) / stride
    moved = (low + high) * 0.5 - places  # of the middle, (y, x)
    grown = (high - low) / 2 - 1  # of the way from the middle to a tap
    taps = places.new_tensor([-1, 0, 1])
    steps = torch.stack(torch.meshgrid(taps, taps, indexing="ij"), dim=-1).view(9, 2)
    offset = moved[:, :, None] + grown[:, :, None] * steps
    return offset.flatten(2).transpose(1, 2).unflatten(2, size).contiguous()


@register(scope="mmdet")
class StageCascadeRPNHead(RPNHead):
    """One stage of a :class:`CascadeRPNHead`, one anchor a place.

    Raw maps: ``cls``, where the stage has classes, and ``bbox``: see :class:`RPNHead`.

    Args:
        in_channels, feat_channels, bbox_coder, reg_decoded_bbox, loss_cls, loss_bbox: see :class:`RPNHead`.
        anchor_generator: of the first stage's anchors.
        adapt_cfg: ``dict(type="dilation", dilation=3)``, or ``dict(type="offset")``: taps follow the anchors.
        bridged_feature: the next stage gets this stage's features, not its input.
        with_cls: whether it says what is an object.
        num_classes: 1.
        sampling: no meaning.
        train_cfg: with a :class:`RegionAssigner`, or as of :class:`RPNHead`.
        test_cfg: see :class:`RPNHead`.
        init_cfg: None: the usual one.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        anchor_generator: Any = None,
        adapt_cfg: Spec = DILATION,
        bridged_feature: bool = False,
        with_cls: bool = True,
        init_cfg: Spec | list[Spec] | None = None,
        num_classes: int = 1,
        sampling: bool = True,
        feat_channels: int = 256,
        bbox_coder: Any = None,
        reg_decoded_bbox: bool = False,
        loss_cls: nn.Module | None = None,
        loss_bbox: nn.Module | None = None,
        train_cfg: dict[str, Any] | None = None,
        test_cfg: Spec | None = None,
    ) -> None:
        self.adapt_cfg, self.bridged_feature, self.with_cls = adapt_cfg, bridged_feature, with_cls
        super().__init__(
            in_channels=in_channels, num_classes=num_classes, feat_channels=feat_channels,
            anchor_generator=anchor_generator or build(ANCHORS), bbox_coder=bbox_coder,
            reg_decoded_bbox=reg_decoded_bbox, loss_cls=loss_cls, loss_bbox=loss_bbox, train_cfg=train_cfg,
            test_cfg=test_cfg, init_cfg=init_cfg,
        )  # fmt: skip
        self.kinds = ("cls", "bbox") if with_cls else ("bbox",)

    def _init_layers(self) -> None:
        self.rpn_conv = AdaptiveConv(self.in_channels, self.feat_channels, **self.adapt_cfg)
        if self.with_cls:
            self.rpn_cls = nn.Conv2d(self.feat_channels, self.num_base_priors * self.cls_out_channels, 1)
            normal_init(self.rpn_cls, std=0.01)
        self.rpn_reg = nn.Conv2d(self.feat_channels, self.num_base_priors * 4, 1)
        normal_init(self.rpn_reg, std=0.01)

    def run(self, feats: Sequence[Tensor], anchors: Levels) -> tuple[list[Tensor], Levels, Levels]:
        """Features of the next stage, classes (none without ``with_cls``) and deltas.

        Args:
            feats: (B, C, H, W) of each level.
            anchors: (B, n_i, 4) of each level, what the stage starts from.
        """
        following, classes, boxes = [], [], []
        for x, level, stride in zip(feats, anchors, self.prior_generator.strides, strict=True):
            offset = None
            if self.rpn_conv.follows_anchors:
                offset = anchor_offset(level, stride[0], (x.shape[-2], x.shape[-1]))
            y = F.relu(self.rpn_conv(x, offset))
            following.append(y if self.bridged_feature else x)
            if self.with_cls:
                classes.append(self.rpn_cls(y))
            boxes.append(self.rpn_reg(y))
        return following, classes, boxes

    def first_anchors(self, feats: Sequence[Tensor]) -> Levels:
        """(B, n_i, 4) of each level: the generator's."""
        levels = self.priors_of(list(feats))
        return [level.expand(len(feats[0]), -1, -1) for level in levels]

    def forward(self, feats: Sequence[Tensor]) -> tuple[Tensor, ...]:
        _, classes, boxes = self.run(feats, self.first_anchors(feats))
        return (*classes, *boxes)

    def refined(self, anchors: Levels, deltas: Levels, shapes: Sequence[Sequence[int]]) -> Levels:
        """The boxes that the stage makes of its anchors, clipped to (h, w) of each picture."""
        found = []
        for level, values in zip(anchors, deltas, strict=True):
            rows = flatten(values.detach(), 4)
            boxes = [
                self.bbox_coder.decode(*pair, max_shape=shape) for *pair, shape in zip(level, rows, shapes, strict=True)
            ]
            found.append(torch.stack(boxes))
        return found

    def losses_from(
        self,
        anchors: Levels,
        classes: Levels,
        boxes: Levels,
        truths: Sequence[Truth],
        metas: Sequence[PictureMeta],
    ) -> Losses:
        """``loss_rpn_cls`` (where there are classes) and ``loss_rpn_reg``, one of each level."""
        targets = self.targets_from(anchors, featmap_sizes(boxes), truths, metas)
        losses: Losses = {}
        if self.with_cls:
            losses["loss_rpn_cls"] = [self.cls_loss(level, i, targets) for i, level in enumerate(classes)]
        losses["loss_rpn_reg"] = [
            self.box_loss(level, i, targets, anchors[i].flatten(0, 1)) for i, level in enumerate(boxes)
        ]
        return losses

    def targets_from(
        self,
        anchors: Levels,
        sizes: Sequence[tuple[int, int]],
        truths: Sequence[Truth],
        metas: Sequence[PictureMeta],
    ) -> Targets:
        """Targets of anchors (B, n_i, 4)."""
        assert self.train_cfg is not None
        flat, counts = list(torch.cat(anchors, dim=1)), [level.shape[1] for level in anchors]
        if isinstance(self.assigner, RegionAssigner):  # it looks at borders itself and needs every anchor

            def by_region(priors: Tensor, truth: Truth, index: int) -> Any:
                return self._by_region(priors, truth, metas[index], sizes, counts)

            targets = batch_targets(self, flat, [None] * len(truths), counts, truths, by_region)
        else:
            border = self.train_cfg.get("allowed_border", -1)
            inside = [
                inside_of(self.prior_generator, level, sizes, meta, border)
                for level, meta in zip(flat, metas, strict=True)
            ]
            targets = batch_targets(self, flat, inside, counts, truths)
        if not targets.samples[0].avg_factor_with_neg:
            targets.avg_factor = sum(label.numel() for label in targets.labels) / _PLACES_A_LOSS
        return targets

    def _by_region(
        self,
        priors: Tensor,
        truth: Truth,
        meta: PictureMeta,
        sizes: Sequence[tuple[int, int]],
        counts: Sequence[int],
    ) -> Any:
        assert self.train_cfg is not None and self.assigner is not None
        found, ignored = truth_instances(truth)
        padded = meta.get("pad_shape", meta["img_shape"])
        valid = torch.cat(self.prior_generator.valid_flags(sizes, padded, device=priors.device))
        anchors, strides = Instances(priors=priors, valid_flags=valid), [s[0] for s in self.prior_generator.strides]
        assigned = self.assigner.assign(
            anchors, found, meta, sizes, counts, float(self.prior_generator.scales[0]), strides,
            gt_instances_ignore=ignored, allowed_border=self.train_cfg.get("allowed_border", -1),
        )  # fmt: skip
        return self.sampler.sample(assigned, anchors, found)

    def loss_by_feat(self, *maps: Levels, truths: Sequence[Truth], metas: Sequence[PictureMeta]) -> Losses:
        """Of a stage that stands alone."""
        return self.losses_from(self.first_anchors(maps[-1]), list(maps[0]), maps[-1], truths, metas)
