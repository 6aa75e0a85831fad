"""YOLOF's head."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from hatdet.models.losses.reduce import mean_over_ranks
from hatdet.models.mmdet.heads.anchor.anchor_head import AnchorHead
from hatdet.models.mmdet.heads.anchor.targets import inside_of, truth_instances, where_of
from hatdet.models.mmdet.heads.base import Detections, Levels, Losses, PictureMeta, Truth
from hatdet.models.mmdet.heads.coding import Coding
from hatdet.models.mmdet.heads.common import featmap_sizes, flatten
from hatdet.models.mmdet.instances import Instances
from hatdet.models.mmdet.layers.conv import ConvModule
from hatdet.models.mmdet.layers.init import bias_init_with_prob, normal_init
from hatdet.registry import register
from hatdet.utils.annotations import Spec

BN = {"type": "BN", "requires_grad": True}
_MOST = 1e8  # of an exponential


@register(scope="mmdet")
class YOLOFHead(AnchorHead):
    """One level; the class only counts where there is an object (arXiv 2103.09460).

    Raw maps: ``cls`` (B, A * num_classes, H, W) and ``objectness`` (B, A, H, W), logits, and ``bbox`` (B, A * 4, H, W),
    deltas. The score is the sigmoid of ``cls + objectness - log(1 + exp(cls) + exp(objectness))``, which
    is the product of the two sigmoids.

    Args:
        num_classes, in_channels, anchor_generator, bbox_coder, reg_decoded_bbox: see :class:`AnchorHead`.
        num_cls_convs, num_reg_convs: length of the towers.
        norm_cfg: of their convolutions.
        feat_channels: no meaning: towers are as wide as the features.
        loss_cls, loss_bbox: of boxes, not of deltas.
        train_cfg: ``assigner`` is a :class:`UniformAssigner`.
        test_cfg: see :class:`AnchorHead`.
        init_cfg: no meaning: first weights are the paper's.
    """

    kinds = ("cls", "bbox", "objectness")

    def __init__(
        self,
        *,
        num_classes: int,
        in_channels: int,
        num_cls_convs: int = 2,
        num_reg_convs: int = 4,
        norm_cfg: Spec | None = BN,
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
        self.num_cls_convs, self.num_reg_convs, self.norm_cfg = num_cls_convs, num_reg_convs, norm_cfg
        super().__init__(
            num_classes=num_classes, in_channels=in_channels, feat_channels=feat_channels,
            anchor_generator=anchor_generator, bbox_coder=bbox_coder, reg_decoded_bbox=reg_decoded_bbox,
            loss_cls=loss_cls, loss_bbox=loss_bbox, train_cfg=train_cfg, test_cfg=test_cfg, init_cfg=None,
        )  # fmt: skip

    def _subnet(self, length: int) -> nn.Sequential:
        width = self.in_channels
        return nn.Sequential(*(ConvModule(width, width, 3, padding=1, norm_cfg=self.norm_cfg) for _ in range(length)))

    def _init_layers(self) -> None:
        self.cls_subnet, self.bbox_subnet = self._subnet(self.num_cls_convs), self._subnet(self.num_reg_convs)
        width, count = self.in_channels, self.num_base_priors
        self.cls_score = nn.Conv2d(width, count * self.num_classes, 3, padding=1)
        self.bbox_pred = nn.Conv2d(width, count * 4, 3, padding=1)
        self.object_pred = nn.Conv2d(width, count, 3, padding=1)
        for part in self.modules():
            if isinstance(part, nn.Conv2d):
                normal_init(part, std=0.01)
        nn.init.constant_(self.cls_score.bias, bias_init_with_prob(0.01))  # type: ignore[arg-type]

    def forward_single(self, x: Tensor) -> tuple[Tensor, ...]:
        boxes = self.bbox_subnet(x)
        return self.cls_score(self.cls_subnet(x)), self.bbox_pred(boxes), self.object_pred(boxes)

    def refine(self, *maps: Levels) -> tuple[Any, ...]:
        cls_scores, bbox_preds, objects = maps
        return [self._joint(cls, obj) for cls, obj in zip(cls_scores, objects, strict=True)], bbox_preds

    def _joint(self, cls: Tensor, objectness: Tensor) -> Tensor:
        logits, objects = cls.unflatten(1, (-1, self.num_classes)), objectness[:, :, None]
        both = 1 + logits.exp().clamp(max=_MOST) + objects.exp().clamp(max=_MOST)
        return (logits + objects - both.log()).flatten(1, 2)

    def predict(
        self,
        *maps: Levels,
        metas: Sequence[PictureMeta],
        cfg: Mapping[str, Any] | None = None,
        rescale: bool = False,
    ) -> list[Detections]:
        """Of raw maps: scores are products of sigmoids, which a decoder multiplies too, not sigmoids of their logit."""
        return self.predict_by_feat(*maps, metas=metas, cfg=cfg, rescale=rescale)

    def coding(self) -> Coding:
        return replace(super().coding(), early=True)

    def scores_of(self, logits: Tensor, factors: Tensor | None) -> tuple[Tensor, Tensor | None]:
        scores = self.class_scores(logits)
        return (scores, None) if factors is None else (scores * self.score_factors(factors)[:, None], None)

    def loss_by_feat(self, *maps: Levels, truths: Sequence[Truth], metas: Sequence[PictureMeta]) -> Losses:
        """``loss_cls`` and ``loss_bbox``."""
        assert self.train_cfg is not None and self.assigner is not None
        cls_scores, bbox_preds = maps
        anchors, sizes = self.priors_of(cls_scores)[0], featmap_sizes(cls_scores)
        deltas = flatten(bbox_preds[0], 4)
        labels = torch.full(deltas.shape[:2], self.num_classes, dtype=torch.long, device=deltas.device)
        weights = deltas.new_zeros(deltas.shape[:2])
        share, total, boxes = self.train_cfg.get("pos_weight", -1), 0.0, []
        for i, (truth, meta) in enumerate(zip(truths, metas, strict=True)):
            border = self.train_cfg.get("allowed_border", -1)
            inside = inside_of(self.prior_generator, anchors, sizes, meta, border)
            priors, values = (anchors, deltas[i]) if inside is None else (anchors[inside], deltas[i][inside])
            found, ignored = truth_instances(truth)
            instances = Instances(priors=priors, decoder_priors=self.bbox_coder.decode(priors, values))
            assigned = self.assigner.assign(instances, found, ignored)
            sample = self.sampler.sample(assigned, instances, found)
            positive, negative = where_of(sample, inside)
            labels[i, positive] = sample.pos_gt_labels
            weights[i, positive] = 1.0 if share <= 0 else share
            weights[i, negative] = 1.0
            total += sample.avg_factor
            boxes.append(tuple(map(assigned.get_extra_property, ("pos_predicted_boxes", "target_boxes", "pos_idx"))))
        divisor = float(mean_over_ranks(deltas.new_tensor(total)))
        logits = flatten(cls_scores[0], self.cls_out_channels).flatten(0, 1)
        loss_cls = self.loss_cls(logits, labels.flatten(), weights.flatten(), avg_factor=divisor)
        predicted, wanted, counts = (torch.cat(parts) for parts in zip(*boxes, strict=True))
        if not len(predicted):
            return {"loss_cls": loss_cls, "loss_bbox": deltas.sum() * 0}
        loss_bbox = self.loss_bbox(predicted, wanted, counts.float(), avg_factor=divisor)
        return {"loss_cls": loss_cls, "loss_bbox": loss_bbox}
