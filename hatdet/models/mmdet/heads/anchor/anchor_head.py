"""A head whose priors are boxes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from hatdet.models.mmdet.building import build
from hatdet.models.mmdet.heads.anchor.targets import Targets, batch_targets, inside_of, truth_instances
from hatdet.models.mmdet.heads.base import Levels, Losses, PictureMeta, Truth
from hatdet.models.mmdet.heads.common import featmap_sizes, flatten
from hatdet.models.mmdet.heads.prediction import PredictingHead
from hatdet.models.mmdet.instances import Instances
from hatdet.models.mmdet.layers.init import initialize
from hatdet.registry import register
from hatdet.utils.annotations import Spec

ANCHORS = {"type": "AnchorGenerator", "scales": [8, 16, 32], "ratios": [0.5, 1.0, 2.0], "strides": [4, 8, 16, 32, 64]}
CODER = {
    "type": "DeltaXYWHBBoxCoder", "clip_border": True, "target_means": (0.0,) * 4, "target_stds": (1.0,) * 4,
}  # fmt: skip
CLS = {"type": "CrossEntropyLoss", "use_sigmoid": True, "loss_weight": 1.0}
BBOX = {"type": "SmoothL1Loss", "beta": 1.0 / 9.0, "loss_weight": 1.0}
NORMAL = {"type": "Normal", "layer": "Conv2d", "std": 0.01}


@register(scope="mmdet")
class AnchorHead(PredictingHead):
    """Classes and deltas of anchors, each a 1x1 convolution of the features.

    Raw maps: ``cls`` (B, A * C, H, W), logits (C = ``num_classes``, one more for a softmax, whose last is the
    background), and ``bbox`` (B, A * k, H, W), what ``bbox_coder`` decodes with the anchor of the place; anchor after
    anchor in the channels. Scores are sigmoids or the softmax of the logits.

    Args:
        num_classes: of foreground.
        in_channels: of the features.
        feat_channels: of the convolutions between features and maps, where a subclass has some.
        anchor_generator: gives the anchors of the levels.
        bbox_coder: box and anchor <-> numbers.
        reg_decoded_bbox: the loss of boxes compares boxes, not deltas.
        loss_cls: of the logits; ``use_sigmoid`` says how they are read.
        loss_bbox: of the deltas, or of boxes.
        train_cfg: ``assigner``, ``sampler`` (absent: every anchor counts), ``allowed_border``, ``pos_weight``.
        test_cfg: ``nms_pre``, ``score_thr``, ``min_bbox_size``, ``nms``, ``max_per_img``.
        init_cfg: first weights.

    Raises:
        ValueError: no class.
    """

    kinds: tuple[str, ...] = ("cls", "bbox")

    def __init__(
        self,
        *,
        num_classes: int,
        in_channels: int | Sequence[int],
        feat_channels: int = 256,
        anchor_generator: Any = None,
        bbox_coder: Any = None,
        reg_decoded_bbox: bool = False,
        loss_cls: nn.Module | None = None,
        loss_bbox: nn.Module | None = None,
        train_cfg: dict[str, Any] | None = None,
        test_cfg: Spec | None = None,
        init_cfg: Spec | list[Spec] | None = NORMAL,
    ) -> None:
        super().__init__()
        self.loss_cls, self.loss_bbox = loss_cls or build(CLS), loss_bbox or build(BBOX)
        self.use_sigmoid_cls = bool(getattr(self.loss_cls, "use_sigmoid", False))
        self._set_up(num_classes, in_channels, feat_channels, anchor_generator, bbox_coder, reg_decoded_bbox)
        self._set_cfg(train_cfg, test_cfg)
        self._init_layers()
        initialize(self, init_cfg)

    def _set_up(
        self,
        num_classes: int,
        in_channels: Any,
        feat_channels: int,
        anchor_generator: Any,
        bbox_coder: Any,
        reg_decoded_bbox: bool,
    ) -> None:
        self.num_classes, self.in_channels, self.feat_channels = num_classes, in_channels, feat_channels
        self.cls_out_channels = num_classes if self.use_sigmoid_cls else num_classes + 1
        if num_classes <= 0:
            raise ValueError(f"num_classes={num_classes}: a head needs at least one class")
        self.reg_decoded_bbox = reg_decoded_bbox
        self.bbox_coder = bbox_coder or build(CODER)
        self.box_channels = self.bbox_coder.encode_size
        self.prior_generator = anchor_generator or build(ANCHORS)
        self.num_base_priors = self.prior_generator.num_base_priors[0]

    def _set_cfg(self, train_cfg: dict[str, Any] | None, test_cfg: dict[str, Any] | None) -> None:
        self.train_cfg, self.test_cfg = train_cfg, test_cfg
        cfg = train_cfg or {}
        self.assigner = cfg.get("assigner")
        self.sampler = cfg.get("sampler") or build({"type": "PseudoSampler"})

    def _init_layers(self) -> None:
        self.conv_cls = nn.Conv2d(self.in_channels, self.num_base_priors * self.cls_out_channels, 1)
        self.conv_reg = nn.Conv2d(self.in_channels, self.num_base_priors * self.box_channels, 1)

    def forward_single(self, x: Tensor) -> tuple[Tensor, ...]:
        """The maps of one level, one of each kind."""
        return self.conv_cls(x), self.conv_reg(x)

    def forward(self, feats: Sequence[Tensor]) -> tuple[Tensor, ...]:
        levels = [self.forward_single(x) for x in feats]
        return tuple(level[kind] for kind in range(len(self.kinds)) for level in levels)

    def assign_and_sample(self, priors: Tensor, truth: Truth) -> Any:
        """Which of the anchors (n, 4) stand for which box of a picture, and which for none."""
        assert self.assigner is not None, "a head without train_cfg cannot be trained"
        found, ignored = truth_instances(truth)
        anchors = Instances(priors=priors)
        return self.sampler.sample(self.assigner.assign(anchors, found, ignored), anchors, found)

    def box_targets(self, sample: Any) -> Tensor:
        """(positives, k): deltas, or boxes where the loss compares those."""
        if self.reg_decoded_bbox:
            return sample.pos_gt_bboxes  # type: ignore[no-any-return]
        return self.bbox_coder.encode(sample.pos_priors, sample.pos_gt_bboxes)  # type: ignore[no-any-return]

    def get_targets(self, maps: Levels, truths: Sequence[Truth], metas: Sequence[PictureMeta]) -> Targets:
        """Targets of the anchors of maps of these sizes."""
        sizes, levels = featmap_sizes(maps), self.priors_of(maps)
        flat, border = torch.cat(levels), (self.train_cfg or {}).get("allowed_border", -1)
        inside = [inside_of(self.prior_generator, flat, sizes, meta, border) for meta in metas]
        return batch_targets(self, [flat] * len(truths), inside, [len(level) for level in levels], truths)

    def loss_by_feat(self, *maps: Levels, truths: Sequence[Truth], metas: Sequence[PictureMeta]) -> Losses:
        """``loss_cls`` and ``loss_bbox``, one of each level."""
        cls_scores, bbox_preds = maps[:2]
        targets = self.get_targets(cls_scores, truths, metas)
        anchors = self.priors_of(cls_scores)
        return {
            "loss_cls": [self.cls_loss(level, i, targets) for i, level in enumerate(cls_scores)],
            "loss_bbox": [self.box_loss(level, i, targets, anchors[i]) for i, level in enumerate(bbox_preds)],
        }

    def cls_loss(self, level: Tensor, index: int, targets: Targets) -> Tensor:
        """Of the logits of a level."""
        logits = flatten(level, self.cls_out_channels).flatten(0, 1)
        labels, weights = targets.labels[index].flatten(), targets.label_weights[index].flatten()
        return self.loss_cls(logits, labels, weights, avg_factor=targets.avg_factor)  # type: ignore[no-any-return]

    def box_loss(self, level: Tensor, index: int, targets: Targets, anchors: Tensor) -> Tensor:
        """Of the deltas of a level, or of the boxes that they stand for."""
        values = flatten(level, self.box_channels).flatten(0, 1)
        wanted, weights = targets.bbox_targets[index].flatten(0, 1), targets.bbox_weights[index].flatten(0, 1)
        if self.reg_decoded_bbox:  # of the positives alone: no other box has a weight
            chosen = weights[:, 0].nonzero()[:, 0]
            values = self.bbox_coder.decode(anchors[chosen % len(anchors)], values[chosen])
            wanted, weights = wanted[chosen], weights[chosen]
        return self.loss_bbox(values, wanted, weights, avg_factor=targets.avg_factor)  # type: ignore[no-any-return]
