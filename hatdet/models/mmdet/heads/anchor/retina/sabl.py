"""RetinaNet's head that finds the sides of a box one by one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from hatdet.models.mmdet.building import build
from hatdet.models.mmdet.heads.anchor.approximate import SquareAnchors
from hatdet.models.mmdet.heads.anchor.retina.plain import RARE_CLASSES
from hatdet.models.mmdet.heads.anchor.stacks import stack
from hatdet.models.mmdet.heads.anchor.targets import truth_instances, where_of
from hatdet.models.mmdet.heads.base import Detections, Levels, Losses, PictureMeta, Truth
from hatdet.models.mmdet.heads.coding import Address, Coding, of_classes
from hatdet.models.mmdet.heads.common import featmap_sizes, flatten, images_to_levels
from hatdet.models.mmdet.heads.prediction import Candidates, PredictingHead, best_in_order, finish
from hatdet.models.mmdet.instances import Instances
from hatdet.models.mmdet.layers.init import initialize
from hatdet.registry import register
from hatdet.utils.annotations import Spec

FOCAL = {"type": "FocalLoss", "use_sigmoid": True, "gamma": 2.0, "alpha": 0.25, "loss_weight": 1.0}
BUCKETS = {"type": "BucketingBBoxCoder", "num_buckets": 14, "scale_factor": 3.0}
BUCKET_LOSS = {"type": "CrossEntropyLoss", "use_sigmoid": True, "loss_weight": 1.5}
OFFSET_LOSS = {"type": "SmoothL1Loss", "beta": 1.0 / 9.0, "loss_weight": 1.5}


@register(scope="mmdet")
class SABLRetinaHead(PredictingHead):
    """Side-aware boundary localization (arXiv 1912.04260): the bucket that a side lies in, and where in it.

    Raw maps: ``cls`` (B, num_classes, H, W), logits; ``bbox_cls`` and ``bbox_reg`` (B, 4 * S, H, W), for each side
    (left, right, top, down) the logits and the offsets of its S buckets. ``bbox_coder`` makes boxes of the best
    buckets, and a factor of the score of how sure they are.

    Args:
        num_classes, in_channels, stacked_convs, feat_channels, conv_cfg, norm_cfg: see :class:`RetinaHead`.
        approx_anchor_generator: anchors that say which squares are near a box.
        square_anchor_generator: the squares that sides are measured from, one a place.
        bbox_coder: :class:`BucketingBBoxCoder`.
        reg_decoded_bbox: no meaning.
        train_cfg: ``assigner`` is an :class:`ApproxMaxIoUAssigner`.
        test_cfg: see :class:`AnchorHead`.
        loss_cls, loss_bbox_cls, loss_bbox_reg: of classes, buckets and offsets.
        init_cfg: first weights.
    """

    kinds = ("cls", "bbox_cls", "bbox_reg")

    def __init__(
        self,
        *,
        num_classes: int,
        in_channels: int,
        stacked_convs: int = 4,
        feat_channels: int = 256,
        approx_anchor_generator: Any = None,
        square_anchor_generator: Any = None,
        conv_cfg: Spec | None = None,
        norm_cfg: Spec | None = None,
        bbox_coder: Any = None,
        reg_decoded_bbox: bool = False,
        train_cfg: dict[str, Any] | None = None,
        test_cfg: Spec | None = None,
        loss_cls: nn.Module | None = None,
        loss_bbox_cls: nn.Module | None = None,
        loss_bbox_reg: nn.Module | None = None,
        init_cfg: Spec | list[Spec] | None = RARE_CLASSES,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.squares = SquareAnchors(approx_anchor_generator, square_anchor_generator, base_scale=4, first_stride=8)
        self.prior_generator = self.squares.square
        self.bbox_coder = bbox_coder or build(BUCKETS)
        self.side_num = -(-self.bbox_coder.num_buckets // 2)
        self.loss_cls, self.loss_bbox_cls = loss_cls or build(FOCAL), loss_bbox_cls or build(BUCKET_LOSS)
        self.loss_bbox_reg = loss_bbox_reg or build(OFFSET_LOSS)
        self.use_sigmoid_cls = bool(getattr(self.loss_cls, "use_sigmoid", False))
        self.cls_out_channels = num_classes if self.use_sigmoid_cls else num_classes + 1
        self.train_cfg, self.test_cfg = train_cfg, test_cfg
        self.assigner = (train_cfg or {}).get("assigner")
        self.sampler = (train_cfg or {}).get("sampler") or build({"type": "PseudoSampler"})
        self.cls_convs = stack(in_channels, feat_channels, stacked_convs, conv_cfg, norm_cfg)
        self.reg_convs = stack(in_channels, feat_channels, stacked_convs, conv_cfg, norm_cfg)
        self.retina_cls = nn.Conv2d(feat_channels, self.cls_out_channels, 3, padding=1)
        self.retina_bbox_reg = nn.Conv2d(feat_channels, self.side_num * 4, 3, padding=1)
        self.retina_bbox_cls = nn.Conv2d(feat_channels, self.side_num * 4, 3, padding=1)
        initialize(self, init_cfg)

    def forward(self, feats: Sequence[Tensor]) -> tuple[Tensor, ...]:
        found: list[list[Tensor]] = [[], [], []]
        for x in feats:
            sides = self.reg_convs(x)
            found[0].append(self.retina_cls(self.cls_convs(x)))
            found[1].append(self.retina_bbox_cls(sides))
            found[2].append(self.retina_bbox_reg(sides))
        return (*found[0], *found[1], *found[2])

    def refine(self, *maps: Levels) -> tuple[Any, ...]:
        """Classes, and a pair of buckets and offsets of each level."""
        cls_scores, buckets, offsets = maps
        return cls_scores, list(zip(buckets, offsets, strict=True))

    def coding(self) -> Coding:
        coder, width = self.bbox_coder, 4 * self.side_num
        return Coding(
            "buckets", **of_classes(self), box=Address(1, 0, width), shift=Address(2, 0, width),
            num_buckets=coder.num_buckets, growth=coder.scale_factor, clips=coder.clip_border, clip_less=1,
        )  # fmt: skip

    def boxes_and_scores(self, *maps: Levels) -> tuple[Tensor, Tensor]:
        cls_scores, *pairs = maps
        logits = torch.cat([flatten(level, self.cls_out_channels) for level in cls_scores], dim=1)
        values = [torch.cat([flatten(level, 4 * self.side_num) for level in kind], dim=1) for kind in pairs]
        squares = torch.cat(self.priors_of(cls_scores)).expand(len(logits), -1, -1).flatten(0, 1)
        boxes, sure = self.bbox_coder.decode(squares, (values[0].flatten(0, 1), values[1].flatten(0, 1)))
        return boxes.unflatten(0, logits.shape[:2]), self.class_scores(logits) * sure.view(*logits.shape[:2], 1)

    def loss_by_feat(self, *maps: Any, truths: Sequence[Truth], metas: Sequence[PictureMeta]) -> Losses:
        """``loss_cls``, ``loss_bbox_cls`` and ``loss_bbox_reg``, one of each level."""
        cls_scores, pairs = maps
        labels, weights, wanted, total = self._targets(cls_scores, truths, metas)
        width = 4 * self.side_num
        losses: dict[str, list[Tensor]] = {"loss_cls": [], "loss_bbox_cls": [], "loss_bbox_reg": []}
        for i, level in enumerate(cls_scores):
            rows = flatten(level, self.cls_out_channels).flatten(0, 1)
            losses["loss_cls"].append(self.loss_cls(rows, labels[i].flatten(), weights[i].flatten(), avg_factor=total))
            buckets, offsets = (flatten(part, width).flatten(0, 1) for part in pairs[i])
            offset, offset_weight, bucket, bucket_weight = (part.flatten(0, 1) for part in wanted[i])
            losses["loss_bbox_cls"].append(
                self.loss_bbox_cls(buckets, bucket.long(), bucket_weight, avg_factor=total * 4 * self.side_num)
            )
            losses["loss_bbox_reg"].append(
                self.loss_bbox_reg(offsets, offset, offset_weight, avg_factor=total * 4 * self.bbox_coder.offset_topk)
            )
        return {**losses}

    def _targets(
        self, maps: Levels, truths: Sequence[Truth], metas: Sequence[PictureMeta]
    ) -> tuple[Levels, Levels, list[tuple[Tensor, ...]], float]:
        """Labels and weights (B, n_i), what the coder gives (B, n_i, 4 * S) and the divisor of losses."""
        assert self.train_cfg is not None and self.assigner is not None
        sizes, levels = featmap_sizes(maps), self.priors_of(maps)
        squares, counts = torch.cat(levels), [len(level) for level in levels]
        approxs = self.squares.approxs(maps)
        shape = (len(truths), len(squares))
        labels = torch.full(shape, self.num_classes, dtype=torch.long, device=squares.device)
        weights = squares.new_zeros(shape)
        wanted = [squares.new_zeros((*shape, 4 * self.side_num)) for _ in range(4)]
        share, total = self.train_cfg.get("pos_weight", -1), 0.0
        for i, (truth, meta) in enumerate(zip(truths, metas, strict=True)):
            inside = self.squares.inside(approxs, sizes, meta, self.train_cfg.get("allowed_border", -1))
            picked = (squares, approxs) if inside is None else (squares[inside], approxs[inside])
            instances, (boxes, ignored) = Instances(priors=picked[0], approxs=picked[1]), truth_instances(truth)
            sample = self.sampler.sample(self.assigner.assign(instances, boxes, ignored), instances, boxes)
            positive, negative = where_of(sample, inside)
            if len(positive):
                for target, values in zip(
                    wanted, self.bbox_coder.encode(sample.pos_priors, sample.pos_gt_bboxes), strict=True
                ):
                    target[i, positive] = values.to(target)
                labels[i, positive] = sample.pos_gt_labels
                weights[i, positive] = 1.0 if share <= 0 else share
            weights[i, negative] = 1.0
            total += sample.avg_factor
        parts = [images_to_levels(list(target), counts) for target in wanted]
        by_level = list(zip(*parts, strict=True))
        return images_to_levels(list(labels), counts), images_to_levels(list(weights), counts), by_level, total

    def predict_by_feat(
        self,
        *maps: Any,
        metas: Sequence[PictureMeta],
        cfg: Mapping[str, Any] | None = None,
        rescale: bool = False,
        with_nms: bool = True,
    ) -> list[Detections]:
        """See :meth:`DenseHead.predict_by_feat`."""
        cfg = (self.test_cfg or {}) if cfg is None else cfg
        cls_scores, pairs = maps
        squares, width = self.priors_of(cls_scores), 4 * self.side_num
        logits = [flatten(level.detach(), self.cls_out_channels) for level in cls_scores]
        values = [[flatten(part.detach(), width) for part in pair] for pair in pairs]
        found = []
        for i, meta in enumerate(metas):
            kept = []
            for level, anchors in enumerate(squares):
                scores, labels, index = best_in_order(
                    self.class_scores(logits[level][i]), cfg.get("score_thr", 0), cfg.get("nms_pre", -1)
                )
                boxes, sure = self.bbox_coder.decode(
                    anchors[index], [part[i][index] for part in values[level]], max_shape=meta["img_shape"]
                )
                kept.append((boxes, scores, labels, sure))
            candidates = Candidates(*(torch.cat(parts) for parts in zip(*kept, strict=True)))
            found.append(finish(candidates, cfg, meta, rescale, with_nms))
        return found
