"""What heads have in common whose boxes are distributions of distances from points."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from hatdet.models.mmdet.building import build
from hatdet.models.mmdet.heads.assignment import Targets
from hatdet.models.mmdet.heads.base import Levels, Losses, PictureMeta, Truth
from hatdet.models.mmdet.heads.coding import Address, Coding, of_classes, of_form
from hatdet.models.mmdet.heads.common import featmap_sizes, reduce_mean
from hatdet.models.mmdet.heads.prediction import PredictingHead
from hatdet.models.mmdet.heads.quality.gfl import Integral
from hatdet.models.mmdet.heads.towers import concatenated, part
from hatdet.utils.annotations import Spec


@dataclass
class Wanted:
    """What n priors of B pictures, picture after picture, are to find.

    Attributes:
        labels: int64 (B * n,), the number of classes where nothing is to be found.
        boxes: (B * n, 4), xyxy in network pixels, of what is to be found.
        quality: (B * n,): the score that is right for the class of ``labels``; 0 where nothing is to be found.
        index: int64 (k,): where something is to be found.
    """

    labels: Tensor
    boxes: Tensor
    quality: Tensor
    index: Tensor


class DistributionPointHead(PredictingHead):
    """Raw maps: ``cls`` (B, classes, H, W) logits, ``bbox`` (B, 4 * (reg_max + 1), H, W).

    ``bbox`` has logits of distances of 0 to ``reg_max`` strides from the point of the position to the left, top, right
    and bottom edges; the box is made of their means (generalized focal loss, arXiv 2006.04388, equation 3); its score
    is sigmoid(cls). A subclass has the layers (``forward``) and says what each prior is to find (:meth:`quality_of`).

    Args:
        num_classes: of foreground.
        in_channels: of the feature maps.
        strides: of the levels in pixels.
        reg_max: the farthest an edge may be, in strides.
        offset: place of the point in its cell, in strides: 0 is the top left corner, 0.5 the centre.
        loss_cls: built loss of classes, of logits.
        loss_bbox: built loss of boxes.
        loss_dfl: built loss of the distributions.
        train_cfg: built ``assigner``, ...
        test_cfg: ``score_thr``, ``nms_pre``, ``nms``, ``max_per_img``, ``min_bbox_size``.
    """

    kinds: tuple[str, ...] = ("cls", "bbox")

    def __init__(
        self,
        *,
        num_classes: int,
        in_channels: int,
        strides: Sequence[int],
        reg_max: int,
        offset: float,
        loss_cls: nn.Module,
        loss_bbox: nn.Module,
        loss_dfl: nn.Module | None,
        train_cfg: Mapping[str, Any] | None,
        test_cfg: Spec | None,
    ) -> None:
        super().__init__()
        self.num_classes = self.cls_out_channels = num_classes
        self.use_sigmoid_cls = True
        self.in_channels, self.strides = in_channels, tuple(strides)
        self.reg_max, self.box_channels = reg_max, 4 * (reg_max + 1)
        self.prior_generator = build({"type": "MlvlPointGenerator"}, strides=list(strides), offset=offset)
        self.bbox_coder = build({"type": "DistancePointBBoxCoder"})
        self.integral = Integral(reg_max)
        self.loss_cls, self.loss_bbox = loss_cls, loss_bbox
        self.loss_dfl = part(loss_dfl, {"type": "DistributionFocalLoss", "loss_weight": 0.25})
        self.train_cfg, self.test_cfg = train_cfg, test_cfg

    def box_values(self, values: Tensor, level: int) -> Tensor:
        return self.integral(values) * self.strides[level]  # type: ignore[no-any-return]

    def coding(self) -> Coding:
        known = {**of_form(self.bbox_coder, "sides"), **of_classes(self), "form": "bins"}
        return Coding(**known, box=Address(1, 0, self.box_channels), num_bins=self.reg_max + 1)

    def points(self, maps: Levels) -> tuple[Tensor, list[int]]:
        """(n, 4): x, y of each level's points in pixels, and their stride twice; and how many each level has."""
        levels = self.prior_generator.grid_priors(featmap_sizes(maps), device=maps[0].device, with_stride=True)
        return torch.cat(levels), [len(level) for level in levels]

    def distances(self, edges: Tensor) -> Tensor:
        """Logits (B, n, 4 * (reg_max + 1)) -> distances (B, n, 4) in strides."""
        return self.integral(edges).reshape(*edges.shape[:2], 4)  # type: ignore[no-any-return]

    @torch.no_grad()
    def wanted(self, maps: Sequence[Levels], truths: Sequence[Truth], metas: Sequence[PictureMeta]) -> Wanted:
        """What each prior is to find, by what the maps (as :meth:`refine` gives them) find now."""
        points, counts = self.points(maps[0])
        logits = concatenated(maps[0], self.cls_out_channels).detach()
        distances = self.distances(concatenated(maps[1], self.box_channels).detach()) * points[:, 2:3]
        boxes = self.bbox_coder.decode(points[:, :2], distances)
        found = [
            self.assign_one(points, logits[i], boxes[i], truth, counts) for i, truth in enumerate(truths)
        ]
        quality = [self.quality_of(t, boxes[i], len(truths[i])) for i, t in enumerate(found)]
        positive = torch.cat([t.positive for t in found])
        return Wanted(
            torch.cat([t.labels for t in found]), torch.cat([t.boxes for t in found]),
            torch.where(positive, torch.cat(quality), 0), positive.nonzero()[:, 0],
        )  # fmt: skip

    @abstractmethod
    def assign_one(self, points: Tensor, logits: Tensor, boxes: Tensor, truth: Truth, counts: Sequence[int]) -> Targets:
        """Targets of the n priors of one picture.

        Args:
            points: (n, 4): x, y, stride, stride.
            logits: (n, classes) of the priors.
            boxes: (n, 4) that the priors find now, xyxy in pixels.
            truth: of the picture.
            counts: priors of each level.
        """

    def quality_of(self, targets: Targets, boxes: Tensor, count: int) -> Tensor:
        """The right score (n,) of each positive prior: by default the overlap that the assigner found.

        Args:
            targets: of :meth:`assign_one`.
            boxes: (n, 4) that the priors find now.
            count: boxes in the picture.
        """
        assert targets.overlaps is not None
        return targets.overlaps

    def box_weights(self, logits: Tensor, wanted: Wanted) -> Tensor:
        """Weights (k,) of the losses of positives' boxes; their sum divides them. By default how sure the class is.

        Args:
            logits: (B * n, classes).
            wanted: k positives.
        """
        return logits.detach()[wanted.index].sigmoid().amax(dim=1)

    def class_loss(self, logits: Tensor, wanted: Wanted) -> Tensor:
        """Of logits (B * n, classes): by default ``loss_cls`` with labels and qualities, divided by the positives."""
        count = reduce_mean(logits.new_tensor(float(len(wanted.index)))).clamp(min=1).item()
        return self.loss_cls(logits, (wanted.labels, wanted.quality), avg_factor=count)  # type: ignore[no-any-return]

    def losses_of(self, maps: Sequence[Levels], wanted: Wanted) -> dict[str, Tensor]:
        """``loss_cls``, ``loss_bbox``, ``loss_dfl`` of maps as :meth:`refine` gives them."""
        points, _ = self.points(maps[0])
        logits = concatenated(maps[0], self.cls_out_channels).flatten(0, 1)
        edges = concatenated(maps[1], self.box_channels).flatten(0, 1)
        losses = {"loss_cls": self.class_loss(logits, wanted)}
        if not len(wanted.index):
            return {**losses, "loss_bbox": edges.sum() * 0, "loss_dfl": edges.sum() * 0}
        own = points[wanted.index % len(points)]
        centres, wished = own[:, :2] / own[:, 2:], wanted.boxes[wanted.index] / own[:, 2:].repeat(1, 2)  # in strides
        weights = self.box_weights(logits, wanted)
        total = reduce_mean(weights.sum()).clamp(min=1).item()
        bins = edges[wanted.index]
        predicted = self.bbox_coder.decode(centres, self.integral(bins))
        losses["loss_bbox"] = self.loss_bbox(predicted, wished, weight=weights, avg_factor=total)
        losses["loss_dfl"] = self.loss_dfl(
            bins.reshape(-1, self.reg_max + 1), self.bbox_coder.encode(centres, wished, self.reg_max).reshape(-1),
            weight=weights[:, None].expand(-1, 4).reshape(-1), avg_factor=4.0 * total,
        )  # fmt: skip
        return losses

    def loss_by_feat(self, *maps: Levels, truths: Sequence[Truth], metas: Sequence[PictureMeta]) -> Losses:
        return dict(self.losses_of(maps, self.wanted(maps, truths, metas)))
