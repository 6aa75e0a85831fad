"""AutoAssign: which points of a box learn it is learned, too (arXiv 2007.03496)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hatdet.models.mmdet.building import build
from hatdet.models.mmdet.heads.base import Levels, Losses, PictureMeta, Truth
from hatdet.models.mmdet.heads.common import levels_to_images, reduce_mean
from hatdet.models.mmdet.heads.point.fcos import RANGES, FCOSHead
from hatdet.models.mmdet.heads.point.fcos_targets import edge_distances
from hatdet.models.mmdet.heads.towers import GROUP_NORM, at_levels, first_weights, scaled, through
from hatdet.models.mmdet.layers.init import bias_init_with_prob, normal_init
from hatdet.models.mmdet.overlaps import bbox_overlaps
from hatdet.registry import register
from hatdet.utils.annotations import Spec

EPS = 1e-12

FIRST_WEIGHTS = first_weights("conv_cls")


class CenterPrior(nn.Module):
    """How likely a point belongs to a box, by its place in it: a normal distribution of each class, learned.

    Args:
        force_topk: a box with no point inside gets the nearest.
        topk: how many.
        num_classes: of foreground.
        strides: of the levels.
    """

    def __init__(
        self,
        force_topk: bool = False,
        topk: int = 9,
        num_classes: int = 80,
        strides: Sequence[int] = (8, 16, 32, 64, 128),
    ) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(num_classes, 2))
        self.sigma = nn.Parameter(torch.ones(num_classes, 2))
        self.strides, self.force_topk, self.topk = list(strides), force_topk, topk

    def forward(self, points: Sequence[Tensor], truth: Truth, inside: Tensor) -> tuple[Tensor, Tensor]:
        """Points (n_i, 2) of each level and whether each lies in each box (n, m) -> weights (n, m), and what counts
        as inside (n, m)."""
        everywhere = torch.cat(list(points))
        if not len(truth):
            return everywhere.new_zeros((len(everywhere), 0)), inside
        strides = at_levels(self.strides, [len(level) for level in points], everywhere)
        centres = (truth.bboxes[:, :2] + truth.bboxes[:, 2:]) / 2
        steps = (everywhere[:, None] - centres[None]) / strides[:, None, None]
        squared = (steps - self.mean[truth.labels][None]) ** 2
        weights = torch.exp(-squared / (2 * self.sigma[truth.labels][None] ** 2)).prod(dim=-1)
        if self.force_topk:
            nearest = torch.zeros_like(inside).scatter(0, weights.topk(self.topk, dim=0)[1], True)
            inside = inside | (nearest & ~inside.any(dim=0))
        return torch.where(inside, weights, 0), inside


@register(scope="mmdet")
class AutoAssignHead(FCOSHead):
    """Raw maps: ``cls`` (B, classes, H, W) logits, ``bbox`` (B, 4, H, W), ``centerness`` (B, 1, H, W) logits of an
    object being there.

    Distances to the left, top, right and bottom edges: max(scale * raw, 0) * stride pixels, of the top left corner
    of the cell; score sigmoid(cls) * sigmoid(centerness).

    Args:
        force_topk, topk: see :class:`CenterPrior`.
        pos_loss_weight, neg_loss_weight, center_loss_weight: of the three losses.
        others: see :class:`FCOSHead`; the convolutions have biases, ranges and sampling have no meaning here.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        force_topk: bool = False,
        topk: int = 9,
        pos_loss_weight: float = 0.25,
        neg_loss_weight: float = 0.75,
        center_loss_weight: float = 0.75,
        regress_ranges: Sequence[Sequence[float]] = RANGES,
        center_sampling: bool = False,
        center_sample_radius: float = 1.5,
        norm_on_bbox: bool = False,
        centerness_on_reg: bool = False,
        loss_cls: nn.Module | None = None,
        loss_bbox: nn.Module | None = None,
        loss_centerness: nn.Module | None = None,
        norm_cfg: Spec | None = GROUP_NORM,
        cls_predictor_cfg: Spec | None = None,
        init_cfg: Spec | list[dict[str, Any]] | None = FIRST_WEIGHTS,
        feat_channels: int = 256,
        stacked_convs: int = 4,
        strides: Sequence[int] = (4, 8, 16, 32, 64),
        dcn_on_last_conv: bool = False,
        bbox_coder: Any = None,
        conv_cfg: Spec | None = None,
        train_cfg: dict[str, Any] | None = None,
        test_cfg: Spec | None = None,
    ) -> None:
        super().__init__(
            num_classes, in_channels, regress_ranges, center_sampling, center_sample_radius, norm_on_bbox,
            centerness_on_reg, loss_cls, loss_bbox, loss_centerness, norm_cfg, cls_predictor_cfg, init_cfg,
            feat_channels, stacked_convs, strides, dcn_on_last_conv, True, bbox_coder, conv_cfg, train_cfg, test_cfg,
        )  # fmt: skip
        self.center_prior = CenterPrior(force_topk, topk, num_classes, self.strides)
        self.pos_loss_weight, self.neg_loss_weight = pos_loss_weight, neg_loss_weight
        self.center_loss_weight = center_loss_weight
        self.prior_generator = build({"type": "MlvlPointGenerator"}, strides=self.strides, offset=0)

    def init_weights(self) -> None:
        super().init_weights()
        normal_init(self.conv_cls, std=0.01, bias=bias_init_with_prob(0.02))
        normal_init(self.conv_reg, std=0.01, bias=4.0)

    def forward_single(self, x: Tensor) -> tuple[Tensor, ...]:
        of_box = through(self.reg_convs, x)
        return self.conv_cls(through(self.cls_convs, x)), self.conv_reg(of_box), self.conv_centerness(of_box)

    def refine(self, *maps: Levels) -> tuple[Any, ...]:
        cls_scores, bbox_preds, objectnesses = maps
        distances = [
            level.clamp(min=0) * s for level, s in zip(scaled(bbox_preds, self.scales), self.strides, strict=True)
        ]
        return cls_scores, distances, objectnesses

    def loss_by_feat(self, *maps: Levels, truths: Sequence[Truth], metas: Sequence[PictureMeta]) -> Losses:
        cls_scores, bbox_preds, objectnesses = maps
        points = self.priors_of(cls_scores)
        everywhere = torch.cat(points)
        scores = [level.sigmoid() for level in levels_to_images(cls_scores)]
        objects = [level.sigmoid() for level in levels_to_images(objectnesses)]
        positive, negative, centres, total = [], [], [], everywhere.new_zeros(())
        for distances, classes, there, truth in zip(levels_to_images(bbox_preds), scores, objects, truths, strict=True):
            inside = (edge_distances(everywhere, truth.bboxes) > 0).all(dim=-1)
            prior, inside = self.center_prior(points, truth, inside)
            joint = classes * there
            boxes = self.bbox_coder.decode(everywhere, distances)
            positive.append(self._found(joint, boxes, truth, prior, inside))
            negative.append(self._background(joint, boxes.detach(), truth, inside))
            weight = prior.sum()
            total = total + weight.detach()
            centres.append(len(truth) / weight.clamp(min=EPS) if bool(inside.any()) else weight * 0)
        count = sum(map(len, truths))
        each = reduce_mean(everywhere.new_tensor(float(count))).clamp(min=1)
        losses: dict[str, Tensor] = {
            "loss_pos": torch.stack(positive).sum() / each,
            "loss_neg": torch.stack(negative).sum() / reduce_mean(total).clamp(min=1),
            "loss_center": torch.stack(centres).mean() * self.center_loss_weight,
        }
        if not count:  # every parameter keeps a gradient
            losses["loss_pos"] = bbox_preds[0].sum() * 0
            unused = self.center_prior.mean.sum() + self.center_prior.sigma.sum()
            losses["loss_center"] = (objectnesses[0].sum() + unused) * 0
        return dict(losses)

    def _found(self, joint: Tensor, boxes: Tensor, truth: Truth, prior: Tensor, inside: Tensor) -> Tensor:
        """How little the points of each box are sure of it: a scalar."""
        point, box = inside.nonzero().unbind(dim=1)
        loss = self.loss_bbox(boxes[point], truth.bboxes[box], weight=None, reduction_override="none")
        sure = joint[point, truth.labels[box]] * torch.exp(-loss.reshape(-1))
        weights = torch.exp(sure * 3) * prior[point, box]
        sums = weights.new_zeros(len(truth)).index_add(0, box, weights).clamp(min=EPS)
        mean = weights.new_zeros(len(truth)).index_add(0, box, sure * weights / sums[box]).clamp(max=1)
        return F.binary_cross_entropy(mean, torch.ones_like(mean), reduction="sum") * self.pos_loss_weight

    def _background(self, joint: Tensor, boxes: Tensor, truth: Truth, inside: Tensor) -> Tensor:
        """How sure points are of what is not there; in a box less counts the better they find it."""
        weights = torch.ones_like(joint)
        if len(truth):
            weights = self._unlike(boxes, truth, inside, weights.shape[1])
        sure = joint * weights
        loss = sure**2 * F.binary_cross_entropy(sure, torch.zeros_like(sure), reduction="none")
        return loss.sum() * self.neg_loss_weight

    @staticmethod
    @torch.no_grad()
    def _unlike(boxes: Tensor, truth: Truth, inside: Tensor, classes: int) -> Tensor:
        """(n, classes): 1, and in a box of the class 1 less the overlap's rank between the box's points."""
        best = bbox_overlaps(boxes, truth.bboxes).amax(dim=1, keepdim=True)
        steep = (1 / (1 - torch.where(inside, best, 0)).clamp(min=EPS)).expand(inside.shape)
        low = torch.where(inside, steep, torch.inf).amin(dim=0)
        high = torch.where(inside, steep, -torch.inf).amax(dim=0)
        rank = (steep - low + EPS) / (high - low + EPS)
        number = torch.arange(len(truth), device=inside.device).expand(inside.shape)
        last = number.new_full((len(inside), classes), -1).scatter_reduce(  # boxes of one class: the last has the point
            1, truth.labels.expand(inside.shape), torch.where(inside, number, -1), "amax"
        )
        return torch.where(last >= 0, 1 - rank.gather(1, last.clamp(min=0)), 1)
