"""What heads with two stacks of convolutions and an anchor (or a few) a position have in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from hatdet.models.mmdet.heads.assignment import Targets, assign, inside_of
from hatdet.models.mmdet.heads.base import Levels, PictureMeta, Truth
from hatdet.models.mmdet.heads.common import featmap_sizes, images_to_levels
from hatdet.models.mmdet.heads.prediction import PredictingHead
from hatdet.models.mmdet.heads.towers import BINARY_LOSS, kind_after_kind, part, sigmoid_of, tower
from hatdet.models.mmdet.layers.init import initialize

ANCHORS = {
    "type": "AnchorGenerator", "scales": [8, 16, 32], "ratios": [0.5, 1.0, 2.0], "strides": [4, 8, 16, 32, 64],
}  # fmt: skip
DELTAS = {
    "type": "DeltaXYWHBBoxCoder", "clip_border": True, "target_means": (0.0, 0.0, 0.0, 0.0),
    "target_stds": (1.0, 1.0, 1.0, 1.0),
}  # fmt: skip


class AnchorTowerHead(PredictingHead):
    """Two stacks of convolutions, shared by all levels, of which the maps come, and targets of anchors.

    A subclass's constructor ends with :meth:`build_layers`.

    Args:
        num_classes: of foreground.
        in_channels: of the feature maps.
        feat_channels: of the stacks.
        stacked_convs: how many in each.
        conv_cfg, norm_cfg: of the stacks.
        pred_kernel_size: of the last layers.
        anchor_generator: built generator of priors.
        bbox_coder: built, between priors and boxes.
        reg_decoded_bbox: losses compare boxes, not their codes; as these heads do anyhow.
        loss_cls, loss_bbox: built losses.
        train_cfg: built ``assigner``, perhaps ``sampler``; ``allowed_border``, ``pos_weight``.
        test_cfg: ``score_thr``, ``nms_pre``, ``nms``, ``max_per_img``, ``min_bbox_size``.
        init_cfg: first weights.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        feat_channels: int = 256,
        stacked_convs: int = 4,
        conv_cfg: Mapping[str, Any] | None = None,
        norm_cfg: Mapping[str, Any] | None = None,
        pred_kernel_size: int = 3,
        anchor_generator: Any = None,
        bbox_coder: Any = None,
        reg_decoded_bbox: bool = True,
        loss_cls: nn.Module | None = None,
        loss_bbox: nn.Module | None = None,
        train_cfg: Mapping[str, Any] | None = None,
        test_cfg: Mapping[str, Any] | None = None,
        init_cfg: Any = None,
    ) -> None:
        super().__init__()
        self.num_classes, self.in_channels, self.feat_channels = num_classes, in_channels, feat_channels
        self.stacked_convs, self.conv_cfg, self.norm_cfg = stacked_convs, conv_cfg, norm_cfg
        self.pred_kernel_size, self.reg_decoded_bbox = pred_kernel_size, reg_decoded_bbox
        self.prior_generator = part(anchor_generator, ANCHORS)
        self.num_base_priors = int(self.prior_generator.num_base_priors[0])
        self.bbox_coder = part(bbox_coder, DELTAS)
        self.loss_cls = part(loss_cls, BINARY_LOSS)
        self.loss_bbox = part(loss_bbox, {"type": "SmoothL1Loss", "beta": 1.0 / 9.0, "loss_weight": 1.0})
        self.use_sigmoid_cls = sigmoid_of(self.loss_cls)
        self.cls_out_channels = num_classes + (not self.use_sigmoid_cls)
        self.train_cfg, self.test_cfg, self.init_cfg = train_cfg, test_cfg, init_cfg

    def build_layers(self) -> None:
        """The layers, with their first weights."""
        self._init_layers()
        self.init_weights()

    @abstractmethod
    def _init_layers(self) -> None:
        """The layers of a subclass."""

    def _stack(self, first_conv_cfg: Mapping[str, Any] | None = None) -> nn.ModuleList:
        return tower(
            self.in_channels, self.feat_channels, self.stacked_convs, conv_cfg=self.conv_cfg, norm_cfg=self.norm_cfg,
            first_conv_cfg=first_conv_cfg,
        )  # fmt: skip

    def _last(self, channels: int) -> nn.Conv2d:
        """The layer that gives ``channels`` numbers a position."""
        size = self.pred_kernel_size
        return nn.Conv2d(self.feat_channels, channels, size, padding=size // 2)

    def init_weights(self) -> None:
        """First weights, as ``init_cfg`` says."""
        initialize(self, self.init_cfg)

    def anchors(self, maps: Levels) -> list[Tensor]:
        """Anchors (n_i, 4) of each level."""
        found: list[Tensor] = self.prior_generator.grid_priors(featmap_sizes(maps), device=maps[0].device)
        return found

    def assigned(
        self,
        anchors: Sequence[Tensor],
        maps: Levels,
        truths: Sequence[Truth],
        metas: Sequence[PictureMeta],
        assigner: Any = None,
        predictions: Mapping[str, Tensor] | None = None,
        **arguments: Any,
    ) -> list[Targets]:
        """Targets of the anchors of all levels, of each picture.

        Args:
            anchors: of each level.
            maps: of one kind, for their sizes.
            truths, metas: of the pictures.
            assigner: in the place of ``train_cfg``'s.
            predictions: (B, n, ...) that the assigner reads.
            arguments: other arguments of ``assign``.
        """
        assert self.train_cfg is not None
        cfg, sizes = self.train_cfg, featmap_sizes(maps)
        everywhere, counts = torch.cat(list(anchors)), [len(level) for level in anchors]
        found = []
        for picture, (truth, meta) in enumerate(zip(truths, metas, strict=True)):
            flags = self._flags(sizes, meta, everywhere.device)
            own = {name: values[picture] for name, values in (predictions or {}).items()}
            found.append(
                assign(
                    assigner or cfg["assigner"], cfg.get("sampler"), {"priors": everywhere, **own}, truth,
                    num_classes=self.num_classes, pos_weight=cfg.get("pos_weight", -1), counts=counts,
                    inside=inside_of(anchors, flags, meta, cfg.get("allowed_border", -1)), **arguments,
                )
            )  # fmt: skip
        return found

    def _flags(self, sizes: Sequence[tuple[int, int]], meta: PictureMeta, device: torch.device) -> list[Tensor]:
        return self.prior_generator.valid_flags(sizes, meta["pad_shape"], device)  # type: ignore[no-any-return]


class SharedTowerHead(AnchorTowerHead):
    """An :class:`AnchorTowerHead` whose layers are those of every level."""

    def forward(self, feats: Sequence[Tensor]) -> tuple[Tensor, ...]:
        return kind_after_kind([self.forward_single(x) for x in feats])

    @abstractmethod
    def forward_single(self, x: Tensor) -> tuple[Tensor, ...]:
        """The raw maps of one level, a map of each kind."""


def target_levels(targets: Sequence[Targets], counts: Sequence[int]) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """Classes (B * n_i,), their weights (B * n_i,) and boxes (B * n_i, 4) of each level."""

    def levels(values: list[Tensor]) -> list[Tensor]:
        return [level.flatten(0, 1) for level in images_to_levels(values, counts)]

    return levels([t.labels for t in targets]), levels([t.weights for t in targets]), levels([t.boxes for t in targets])


def centres_of(anchors: Tensor) -> Tensor:
    """Boxes (n, 4) -> centres (n, 2)."""
    return (anchors[:, :2] + anchors[:, 2:]) / 2
