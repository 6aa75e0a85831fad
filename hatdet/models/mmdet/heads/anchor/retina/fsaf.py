"""RetinaNet's head without anchors, each box on the level that likes it best."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hatdet.models.mmdet.heads.anchor.retina.plain import RARE_CLASSES, RetinaHead
from hatdet.models.mmdet.heads.anchor.targets import inside_of, truth_instances, where_of
from hatdet.models.mmdet.heads.base import Levels, Losses, PictureMeta, Truth
from hatdet.models.mmdet.heads.common import featmap_sizes, flatten
from hatdet.models.mmdet.instances import Instances
from hatdet.models.mmdet.losses.accuracy import accuracy
from hatdet.registry import register
from hatdet.utils.annotations import Spec

NORMAL = {
    "type": "Normal", "layer": "Conv2d", "std": 0.01,
    "override": [RARE_CLASSES["override"], {"type": "Normal", "name": "retina_reg", "std": 0.01, "bias": 0.25}],
}  # fmt: skip
_UNSEEN = 1e6  # the loss of a box on a level where no position stands for it


@register(scope="mmdet")
class FSAFHead(RetinaHead):
    """Distances to the sides of a box; training picks the level of each (arXiv 1903.00621).

    Raw maps: ``cls`` (B, num_classes, H, W), logits, and ``bbox`` (B, 4, H, W); what is below 0 counts as 0, and
    ``bbox_coder`` (:class:`TBLRBBoxCoder`) makes boxes of it: top, bottom, left, right.

    Args:
        num_classes, in_channels, stacked_convs, conv_cfg, norm_cfg, feat_channels, anchor_generator: see
            :class:`RetinaHead`.
        bbox_coder, reg_decoded_bbox: see :class:`RetinaHead`.
        score_threshold: a class found with a lower score does not count in ``pos_recall``.
        loss_cls, loss_bbox: with ``reduction="none"``.
        train_cfg, test_cfg: see :class:`RetinaHead`.
        init_cfg: None: the usual one.

    Raises:
        ValueError: with ``train_cfg`` a loss that is reduced.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        in_channels: int,
        stacked_convs: int = 4,
        conv_cfg: Spec | None = None,
        norm_cfg: Spec | None = None,
        score_threshold: float | None = None,
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
        super().__init__(
            num_classes=num_classes, in_channels=in_channels, stacked_convs=stacked_convs, conv_cfg=conv_cfg,
            norm_cfg=norm_cfg, feat_channels=feat_channels, anchor_generator=anchor_generator, bbox_coder=bbox_coder,
            reg_decoded_bbox=reg_decoded_bbox, loss_cls=loss_cls, loss_bbox=loss_bbox, train_cfg=train_cfg,
            test_cfg=test_cfg, init_cfg=init_cfg or NORMAL,
        )  # fmt: skip
        self.score_threshold = score_threshold
        for name, loss in (("loss_cls", self.loss_cls), ("loss_bbox", self.loss_bbox)):
            if train_cfg is not None and getattr(loss, "reduction", "none") != "none":
                raise ValueError(
                    f"{name} has reduction={loss.reduction!r}, levels are chosen by the loss of each position; write "
                    "reduction='none'"
                )

    def refine(self, *maps: Levels) -> tuple[Any, ...]:
        cls_scores, bbox_preds = maps
        return cls_scores, [F.relu(level) for level in bbox_preds]

    def loss_by_feat(self, *maps: Levels, truths: Sequence[Truth], metas: Sequence[PictureMeta]) -> Losses:
        """``loss_cls`` and ``loss_bbox``, one of each level, and two measures: ``num_pos`` and ``pos_recall``."""
        cls_scores, bbox_preds = maps[0], [level.clamp(min=1e-4) for level in maps[1]]
        anchors = self.priors_of(cls_scores)
        owners, labels, weights, wanted, negatives = self._assigned(anchors, featmap_sizes(cls_scores), truths, metas)
        each_cls, each_box = self._each(cls_scores, bbox_preds, anchors, labels, weights, wanted, owners)
        with torch.no_grad():
            best = self._best_levels(each_cls, each_box, owners, sum(len(truth) for truth in truths))
        losses: dict[str, list[Tensor]] = {"loss_cls": [], "loss_bbox": []}
        chosen = []
        for level, (cls, box) in enumerate(zip(each_cls, each_box, strict=True)):
            positive = owners[level] >= 0
            lost = positive.nonzero()[:, 0]
            lost = lost[best[owners[level][lost]] != level]  # another level's: neither right nor wrong here
            cls_weight, box_weight = torch.ones_like(cls), torch.ones_like(box)
            cls_weight[lost, labels[level][lost]] = 0
            box_weight[lost] = 0
            positive[lost] = False
            chosen.append(positive)
            losses["loss_cls"].append((cls * cls_weight).sum())
            losses["loss_bbox"].append((box * box_weight).sum())
        count = torch.cat(chosen).sum().float()
        divisor = count if count > 0 else count + negatives
        return {
            **{name: [value / divisor for value in values] for name, values in losses.items()},
            "num_pos": count / len(truths),
            "pos_recall": self._recall(cls_scores, labels, chosen),
        }

    def _assigned(
        self,
        anchors: Levels,
        sizes: Sequence[tuple[int, int]],
        truths: Sequence[Truth],
        metas: Sequence[PictureMeta],
    ) -> tuple[Levels, Levels, Levels, Levels, int]:
        """Of each level, pictures after each other (B * n_i, ...): the box that a position stands for (-1: none;
        boxes of all pictures are counted through), labels, weights of each class, targets; and how many negatives."""
        assert self.train_cfg is not None and self.assigner is not None
        flat, counts = torch.cat(anchors), [len(level) for level in anchors]
        shape = (len(truths), len(flat))
        owners = torch.full(shape, -1, dtype=torch.long, device=flat.device)
        labels = torch.full_like(owners, self.num_classes)
        weights = flat.new_zeros((*shape, self.cls_out_channels))
        wanted = flat.new_zeros((*shape, 4))
        share, before, negatives = self.train_cfg.get("pos_weight", -1), 0, 0
        for i, (truth, meta) in enumerate(zip(truths, metas, strict=True)):
            border = self.train_cfg.get("allowed_border", -1)
            inside = inside_of(self.prior_generator, flat, sizes, meta, border)
            priors = Instances(priors=flat if inside is None else flat[inside])
            boxes, ignored = truth_instances(truth)
            assigned = self.assigner.assign(priors, boxes, ignored)
            sample = self.sampler.sample(assigned, priors, boxes)
            positive, negative = where_of(sample, inside)
            if len(positive):
                owners[i, positive] = sample.pos_assigned_gt_inds + before
                labels[i, positive] = sample.pos_gt_labels
                wanted[i, positive] = self.box_targets(sample)
                weights[i, positive] = 1.0 if share <= 0 else share
            weights[i, negative] = 1.0
            shadowed = assigned.get_extra_property("shadowed_labels")
            if shadowed is not None and shadowed.numel():
                place = shadowed[:, 0] if shadowed.dim() == 2 else shadowed
                place = place if inside is None else inside.nonzero()[:, 0][place]
                if shadowed.dim() == 2:
                    weights[i, place, shadowed[:, 1]] = 0
                else:
                    weights[i, place] = 0
            before += len(truth)
            negatives += sample.num_neg
        split = [[level.flatten(0, 1) for level in t.split(counts, dim=1)] for t in (owners, labels, weights, wanted)]
        return split[0], split[1], split[2], split[3], negatives

    def _each(
        self,
        cls_scores: Levels,
        bbox_preds: Levels,
        anchors: Levels,
        labels: Levels,
        weights: Levels,
        wanted: Levels,
        owners: Levels,
    ) -> tuple[Levels, Levels]:
        """Losses of each level that are not reduced: (B * n_i, num_classes) and (B * n_i,)."""
        classes, boxes = [], []
        for level, logits in enumerate(cls_scores):
            rows = flatten(logits, self.cls_out_channels).flatten(0, 1)
            classes.append(self.loss_cls(rows, labels[level], weights[level]))
            values = flatten(bbox_preds[level], 4).flatten(0, 1)
            positive = (owners[level] >= 0).nonzero()[:, 0]
            found, goal = values[positive], wanted[level][positive]
            if self.reg_decoded_bbox:
                found = self.bbox_coder.decode(anchors[level][positive % len(anchors[level])], found)
            each = self.loss_bbox(found, goal)
            each = each.sum(dim=-1) if each.dim() == 2 else each
            boxes.append(values.new_zeros(len(values)).index_put((positive,), each))
        return classes, boxes

    @staticmethod
    def _best_levels(each_cls: Levels, each_box: Levels, owners: Levels, count: int) -> Tensor:
        """The level (count,) on which the mean loss of the positions of a box is the least."""
        means = []
        for cls, box, owner in zip(each_cls, each_box, owners, strict=True):
            positive = owner >= 0
            loss = (cls.sum(dim=-1) if cls.dim() == 2 else cls) + box
            total = loss.new_zeros(count).index_add_(0, owner[positive], loss[positive])
            number = torch.bincount(owner[positive], minlength=count)
            means.append(torch.where(number > 0, total / number.clamp(min=1), _UNSEEN))
        return torch.stack(means).argmin(dim=0)

    @torch.no_grad()
    def _recall(self, cls_scores: Levels, labels: Levels, chosen: Levels) -> Tensor:
        """Percent of the positives whose class has the highest score."""
        rows = [
            flatten(level, self.cls_out_channels).flatten(0, 1)[keep]
            for level, keep in zip(cls_scores, chosen, strict=True)
        ]
        right = torch.cat([label[keep] for label, keep in zip(labels, chosen, strict=True)])
        logits = torch.cat(rows)
        scores = logits.sigmoid() if self.use_sigmoid_cls else logits.softmax(dim=1)
        return accuracy(scores, right, thresh=self.score_threshold)
