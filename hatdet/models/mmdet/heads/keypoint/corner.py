"""CornerNet: a box is a pair of corners that belong together (arXiv 1808.01244)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from hatdet.models.mmdet.heads.base import DenseHead, Detections, Levels, Losses, PictureMeta, Truth
from hatdet.models.mmdet.heads.coding import Picking
from hatdet.models.mmdet.heads.keypoint.corner_decode import Corners, paired
from hatdet.models.mmdet.heads.keypoint.corner_pool import BiCornerPool
from hatdet.models.mmdet.heads.keypoint.corner_targets import CornerTargets, corner_targets
from hatdet.models.mmdet.heads.prediction import Candidates, finish
from hatdet.models.mmdet.heads.towers import kind_after_kind, part
from hatdet.models.mmdet.layers.conv import ConvModule
from hatdet.models.mmdet.layers.init import bias_init_with_prob
from hatdet.registry import register
from hatdet.utils.annotations import Spec

NUM_DETS = 1000
"""The best pairs of a picture, before suppression."""


@register(scope="mmdet")
class CornerHead(DenseHead):
    """Raw maps of the left top and right bottom corners: ``tl_heat``, ``br_heat`` (B, classes, H, W) logits,
    ``tl_emb``, ``br_emb`` (B, corner_emb_channels, H, W) unless that is 0, ``tl_off``, ``br_off`` (B, 2, H, W).

    Boxes come of the last level: the highest peaks of sigmoid(heat), ``off`` (x, y) from the cell; each left top one
    with each right bottom one of its class that lies right and below, if their embeddings differ by less than
    ``distance_threshold``. The score is the mean of the two.

    Args:
        num_classes: of foreground.
        in_channels: of the feature maps.
        num_feat_levels: how many there are, all of one size.
        corner_emb_channels: of the embeddings.
        train_cfg: has no meaning.
        test_cfg: ``corner_topk``, ``local_maximum_kernel``, ``distance_threshold``, ``nms``, ``max_per_img``.
        loss_heatmap, loss_embedding, loss_offset: built losses; None: the losses of the paper.
        init_cfg: has to be None.

    Raises:
        ValueError: an ``init_cfg``.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        num_feat_levels: int = 2,
        corner_emb_channels: int = 1,
        train_cfg: dict[str, Any] | None = None,
        test_cfg: Spec | None = None,
        loss_heatmap: nn.Module | None = None,
        loss_embedding: nn.Module | None = None,
        loss_offset: nn.Module | None = None,
        init_cfg: Spec | None = None,
    ) -> None:
        super().__init__()
        if init_cfg is not None:
            raise ValueError("init_cfg: this head has first weights of its own; leave it out")
        self.num_classes, self.in_channels, self.num_feat_levels = num_classes, in_channels, num_feat_levels
        self.corner_emb_channels, self.with_corner_emb = corner_emb_channels, corner_emb_channels > 0
        self.train_cfg, self.test_cfg = train_cfg, test_cfg
        self.strides = [4] * num_feat_levels  # of all published networks
        self.names = ("heat", "emb", "off") if self.with_corner_emb else ("heat", "off")
        self.kinds = tuple(f"{corner}_{name}" for name in self.names for corner in ("tl", "br"))
        self.loss_heatmap = part(
            loss_heatmap, {"type": "GaussianFocalLoss", "alpha": 2.0, "gamma": 4.0, "loss_weight": 1}
        )
        self.loss_embedding = part(
            loss_embedding, {"type": "AssociativeEmbeddingLoss", "pull_weight": 0.25, "push_weight": 0.25}
        )
        self.loss_offset = part(loss_offset, {"type": "SmoothL1Loss", "beta": 1.0, "loss_weight": 1})
        self._init_layers()
        self.init_weights()

    def _branches(self, channels: int) -> nn.ModuleList:
        """Of each level, two convolutions that give ``channels`` numbers a position."""
        return nn.ModuleList(
            [
                nn.Sequential(
                    ConvModule(self.in_channels, 256, 3, padding=1),
                    ConvModule(256, channels, 1, norm_cfg=None, act_cfg=None),
                )
                for _ in range(self.num_feat_levels)
            ]
        )

    def _init_layers(self) -> None:
        for corner, directions in (("tl", ("top", "left")), ("br", ("bottom", "right"))):
            pools = [
                BiCornerPool(self.in_channels, directions, out_channels=self.in_channels)
                for _ in range(self.num_feat_levels)
            ]
            self.add_module(f"{corner}_pool", nn.ModuleList(pools))
            for name in self.names:
                channels = {"heat": self.num_classes, "emb": self.corner_emb_channels, "off": 2}[name]
                self.add_module(f"{corner}_{name}", self._branches(channels))

    def init_weights(self) -> None:
        """The last layers begin as torch has it; a peak begins with a score of 0.1."""
        for kind in (f"{corner}_{name}" for name in self.names for corner in ("tl", "br")):
            for branch in getattr(self, kind):
                branch[-1].conv.reset_parameters()
                if kind.endswith("heat"):
                    nn.init.constant_(branch[-1].conv.bias, bias_init_with_prob(0.1))

    def forward(self, feats: Sequence[Tensor]) -> tuple[Tensor, ...]:
        return kind_after_kind([self._level(x, level) for level, x in enumerate(feats[: self.num_feat_levels])])

    def _level(self, x: Tensor, level: int) -> tuple[Tensor, ...]:
        pooled = self._pooled(x, level)
        return tuple(self._branch(f"{c}_{name}", level, pooled[c]) for name in self.names for c in ("tl", "br"))

    def _pooled(self, x: Tensor, level: int) -> dict[str, Tensor]:
        return {corner: self._branch(f"{corner}_pool", level, x) for corner in ("tl", "br")}

    def _branch(self, name: str, level: int, x: Tensor) -> Tensor:
        return getattr(self, name)[level](x)  # type: ignore[no-any-return]

    def refine(self, *maps: Levels) -> tuple[Any, ...]:
        """Six kinds; without embeddings the third and fourth are Nones."""
        if self.with_corner_emb:
            return maps
        none: list[None] = [None] * self.num_feat_levels
        return (maps[0], maps[1], none, none, maps[2], maps[3])

    def targets(
        self, heats: Levels, truths: Sequence[Truth], metas: Sequence[PictureMeta]
    ) -> tuple[CornerTargets, CornerTargets]:
        """Of both kinds of corners, for maps like the last of ``heats``."""
        batch, _, height, width = heats[-1].shape
        shape = metas[0]["batch_input_shape"]
        return corner_targets(truths, self.num_classes, (batch, height, width), shape, heats[-1])

    def loss_by_feat(self, *maps: Any, truths: Sequence[Truth], metas: Sequence[PictureMeta]) -> Losses:
        targets = self.targets(maps[0], truths, metas)
        corners = torch.stack([target.cells.flip(1) for target in targets], dim=1)
        match = corners.split([len(truth) for truth in truths])
        losses: dict[str, list[Tensor]] = {"det_loss": [], "off_loss": []}
        if self.with_corner_emb:
            losses.update(pull_loss=[], push_loss=[])
        for heat_tl, heat_br, emb_tl, emb_br, off_tl, off_br in zip(*maps, strict=True):
            found, moved = self._heat_and_offset((heat_tl, heat_br), (off_tl, off_br), targets)
            losses["det_loss"].append(found)
            losses["off_loss"].append(moved)
            if self.with_corner_emb:
                pull, push = self.loss_embedding(emb_tl, emb_br, match)
                losses["pull_loss"].append(pull)
                losses["push_loss"].append(push)
        return dict(losses)

    def _heat_and_offset(
        self, heats: Sequence[Tensor], offsets: Sequence[Tensor], targets: Sequence[CornerTargets]
    ) -> tuple[Tensor, Tensor]:
        """The means over both corners of one level."""
        found, moved = [], []
        for heat, offset, target in zip(heats, offsets, targets, strict=True):
            count = max(1, int((target.heat == 1).sum()))
            found.append(self.loss_heatmap(heat.sigmoid(), target.heat, avg_factor=count))
            known = max(1, int(target.known.sum()))
            moved.append(self.loss_offset(offset, target.values[:, :2], target.known, avg_factor=known))
        return (found[0] + found[1]) / 2, (moved[0] + moved[1]) / 2

    def _corners(self, maps: Sequence[Any]) -> tuple[Corners, Corners]:
        """What the last level says of both kinds."""
        return tuple(Corners(maps[i][-1].sigmoid(), maps[4 + i][-1], embedding=maps[2 + i][-1]) for i in (0, 1))  # type: ignore[return-value]

    without_decoder = ", whose corner pooling has no integer form: take CenterNetHead"

    def picking(self) -> Picking:
        return Picking(whole=True, clips=False, ignores=("score_thr", "nms_pre", "min_bbox_size"))

    def boxes_and_scores(self, *maps: Levels) -> tuple[Tensor, Tensor]:
        height, width = (side * self.level_strides[-1] for side in maps[0][-1].shape[2:])
        canvas: PictureMeta = {"batch_input_shape": (height, width)}
        corners = self._corners(self.refine(*maps))
        boxes, scores, labels = paired(*corners, [canvas] * len(maps[0][-1]), self.test_cfg or {}, NUM_DETS)
        shares = torch.nn.functional.one_hot(labels, self.num_classes).to(scores.dtype)
        return boxes, scores.clamp(min=0)[..., None] * shares  # -1: no pair

    def predict_by_feat(
        self,
        *maps: Any,
        metas: Sequence[PictureMeta],
        cfg: Mapping[str, Any] | None = None,
        rescale: bool = False,
        with_nms: bool = True,
    ) -> list[Detections]:
        """Pairs of corners, after suppression.

        Args:
            maps: as :meth:`refine` gives them.
            metas: of the pictures; ``border`` is where a picture begins in its canvas.
            cfg: in the place of ``test_cfg``.
            rescale: boxes in pixels of the file.
            with_nms: False: the best pairs.
        """
        cfg = (self.test_cfg or {}) if cfg is None else cfg
        only = {"nms": cfg.get("nms", cfg.get("nms_cfg")), "max_per_img": cfg.get("max_per_img", -1)}
        boxes, scores, labels = paired(*self._corners(maps), metas, cfg, NUM_DETS)
        found = []
        for image, meta in enumerate(metas):
            good = scores[image] > -0.1  # -1: no pair
            candidates = Candidates(boxes[image][good], scores[image][good], labels[image][good])
            found.append(finish(candidates, only, meta, rescale, with_nms))
        return found
