"""RepPoints: a box is a set of points, which also say where its features are read (arXiv 1904.11490)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from hatdet.models.mmdet.building import build
from hatdet.models.mmdet.heads.assignment import Targets, assign, inside_of
from hatdet.models.mmdet.heads.base import DenseHead, Levels, Losses, PictureMeta, Truth
from hatdet.models.mmdet.heads.coding import Coding, Picking
from hatdet.models.mmdet.heads.common import featmap_sizes, flatten, images_to_levels
from hatdet.models.mmdet.heads.point.anchor_free import AnchorFreeHead
from hatdet.models.mmdet.heads.point.reppoints_geometry import METHODS, box_grid, square, square_side, to_boxes
from hatdet.models.mmdet.heads.towers import first_weights, part, through, tower
from hatdet.models.mmdet.layers.deform_conv import DeformConv2d
from hatdet.registry import register
from hatdet.utils.annotations import Spec

FIRST_WEIGHTS = first_weights("reppoints_cls_out")


@register(scope="mmdet")
class RepPointsHead(AnchorFreeHead):
    """Raw maps: ``cls`` (B, classes, H, W) logits, ``init`` and ``refine`` (B, 2 * num_points, H, W), or
    (B, 4, H, W) with ``use_grid_points``.

    Points are ``init`` (plus a first square without ``center_init``), then those plus ``refine``: (y, x) in strides
    from the top left corner of the cell. They stand for a box by ``transform_method``; its score is sigmoid(cls).
    With ``use_grid_points`` the numbers move and stretch a square box, then the box found by ``init``, and the points
    are a grid in it. ``cls`` and ``refine`` come of deformable convolutions that read at the points of ``init``.

    Args:
        num_classes, in_channels, feat_channels, stacked_convs, conv_cfg, norm_cfg, loss_cls, bbox_coder, train_cfg,
            test_cfg, init_cfg: see :class:`AnchorFreeHead`; ``train_cfg`` has an ``assigner`` and a ``pos_weight`` in
            ``init`` and in ``refine``.
        dcn_on_last_conv, conv_bias: mean nothing: the stacks have neither.
        point_feat_channels: of the layers before the last.
        num_points: of a set, an odd square.
        gradient_mul: of the gradient by where features are read.
        point_strides: of the levels in pixels.
        point_base_scale: size of the first square in strides, and of what losses measure in.
        loss_bbox_init, loss_bbox_refine: built losses.
        use_grid_points, center_init: see above.
        transform_method: ``minmax``, ``partial_minmax`` or ``moment``.
        moment_mul: of the gradient by the factors of ``moment``.

    Raises:
        ValueError: an unknown method, or points that are not an odd square.
    """

    kinds = ("cls", "init", "refine")
    without_decoder = ", whose layers that read elsewhere have no integer form: take ATSSHead or FCOSHead"
    taps: Tensor

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        point_feat_channels: int = 256,
        num_points: int = 9,
        gradient_mul: float = 0.1,
        point_strides: Sequence[int] = (8, 16, 32, 64, 128),
        point_base_scale: float = 4,
        loss_cls: nn.Module | None = None,
        loss_bbox_init: nn.Module | None = None,
        loss_bbox_refine: nn.Module | None = None,
        use_grid_points: bool = False,
        center_init: bool = True,
        transform_method: str = "moment",
        moment_mul: float = 0.01,
        init_cfg: Spec | list[dict[str, Any]] | None = FIRST_WEIGHTS,
        feat_channels: int = 256,
        stacked_convs: int = 4,
        strides: Sequence[int] = (4, 8, 16, 32, 64),
        dcn_on_last_conv: bool = False,
        conv_bias: bool | str = "auto",
        loss_bbox: nn.Module | None = None,
        bbox_coder: Any = None,
        conv_cfg: Spec | None = None,
        norm_cfg: Spec | None = None,
        train_cfg: dict[str, Any] | None = None,
        test_cfg: Spec | None = None,
    ) -> None:
        if transform_method not in METHODS:
            raise ValueError(f"transform_method={transform_method!r}; write one of {', '.join(METHODS)}")
        super().__init__(
            num_classes, in_channels, feat_channels, stacked_convs, strides, dcn_on_last_conv, conv_bias, loss_cls,
            loss_bbox, bbox_coder, conv_cfg, norm_cfg, train_cfg, test_cfg, init_cfg,
        )  # fmt: skip
        self.num_points, self.point_feat_channels, self.side = num_points, point_feat_channels, square_side(num_points)
        self.gradient_mul, self.point_base_scale = gradient_mul, point_base_scale
        self.point_strides = self.strides = list(point_strides)
        self.use_grid_points, self.center_init = use_grid_points, center_init
        self.transform_method, self.moment_mul = transform_method, moment_mul
        self.prior_generator = build({"type": "MlvlPointGenerator"}, strides=self.point_strides, offset=0.0)
        third = {"type": "SmoothL1Loss", "beta": 1.0 / 9.0}
        self.loss_bbox_init = part(loss_bbox_init, {**third, "loss_weight": 0.5})
        self.loss_bbox_refine = part(loss_bbox_refine, {**third, "loss_weight": 1.0})
        self.register_buffer("taps", square(num_points), persistent=False)
        if transform_method == "moment":
            self.moment_transfer = nn.Parameter(torch.zeros(2))
        self.build_layers()

    def _stack(self) -> nn.ModuleList:
        return tower(
            self.in_channels, self.feat_channels, self.stacked_convs, conv_cfg=self.conv_cfg, norm_cfg=self.norm_cfg
        )

    def _init_layers(self) -> None:
        self.relu = nn.ReLU(inplace=True)
        self.cls_convs, self.reg_convs = self._stack(), self._stack()
        numbers = 4 if self.use_grid_points else 2 * self.num_points
        wide, pad = self.point_feat_channels, self.side // 2
        self.reppoints_cls_conv = DeformConv2d(self.feat_channels, wide, self.side, 1, pad)
        self.reppoints_cls_out = nn.Conv2d(wide, self.cls_out_channels, 1)
        self.reppoints_pts_init_conv = nn.Conv2d(self.feat_channels, wide, 3, 1, 1)
        self.reppoints_pts_init_out = nn.Conv2d(wide, numbers, 1)
        self.reppoints_pts_refine_conv = DeformConv2d(self.feat_channels, wide, self.side, 1, pad)
        self.reppoints_pts_refine_out = nn.Conv2d(wide, numbers, 1)

    def forward_single(self, x: Tensor) -> tuple[Tensor, ...]:
        of_class, of_points = through(self.cls_convs, x), through(self.reg_convs, x)
        first = self.reppoints_pts_init_out(self.relu(self.reppoints_pts_init_conv(of_points)))
        points = self._first_points(first)[0]
        read = (1 - self.gradient_mul) * points.detach() + self.gradient_mul * points
        offset = read - self.taps
        classes = self.reppoints_cls_out(self.relu(self.reppoints_cls_conv(of_class, offset)))
        more = self.reppoints_pts_refine_out(self.relu(self.reppoints_pts_refine_conv(of_points, offset)))
        return classes, first, more

    def _first_points(self, raw: Tensor) -> tuple[Tensor, Tensor | None]:
        """Points (B, 2 * n, H, W) and, of a grid, its box."""
        half = self.point_base_scale / 2
        if self.use_grid_points:
            box = raw.new_tensor([-half, -half, half, half]).view(1, 4, 1, 1)
            return box_grid(raw, box, self.side)
        if self.center_init:
            return raw, None
        return raw + self.taps / self.taps.max() * half, None

    def refine(self, *maps: Levels) -> tuple[Any, ...]:
        cls_scores, first, more = maps
        init, refined = [], []
        for one, two in zip(first, more, strict=True):
            points, box = self._first_points(one)
            init.append(points)
            refined.append(two + points.detach() if box is None else box_grid(two, box.detach(), self.side)[0])
        return (cls_scores, init, refined) if self.training else (cls_scores, [self.points2bbox(p) for p in refined])

    def points2bbox(self, points: Tensor, y_first: bool = True) -> Tensor:
        """Points (B, 2 * n, ...) -> boxes (B, 4, ...) in the same unit."""
        transfer = None
        if self.transform_method == "moment":
            slow = self.moment_transfer.detach() * (1 - self.moment_mul)
            transfer = self.moment_transfer * self.moment_mul + slow
        return to_boxes(points, self.transform_method, transfer, y_first)

    def loss_by_feat(self, *maps: Levels, truths: Sequence[Truth], metas: Sequence[PictureMeta]) -> Losses:
        if len(maps) != len(self.kinds):
            raise ValueError("the losses need the points of training mode; call train() before the forward pass")
        assert self.train_cfg is not None
        cls_scores, init, refined = maps
        sizes = featmap_sizes(cls_scores)
        points = self.prior_generator.grid_priors(sizes, device=cls_scores[0].device, with_stride=True)
        counts = [len(level) for level in points]
        stages: dict[str, list[Targets]] = {}
        boxes = self._absolute(points, [self.points2bbox(level.detach()) for level in init])
        for stage in ("init", "refine"):
            cfg, stages[stage] = self.train_cfg[stage], []
            for picture, (truth, meta) in enumerate(zip(truths, metas, strict=True)):
                flags = self.prior_generator.valid_flags(sizes, meta["pad_shape"], device=cls_scores[0].device)
                priors = boxes[picture] if stage == "refine" else self._candidates(points, cfg["assigner"])
                stages[stage].append(
                    assign(
                        cfg["assigner"], self.train_cfg.get("sampler"), {"priors": priors}, truth,
                        num_classes=self.num_classes, pos_weight=cfg["pos_weight"],
                        inside=inside_of(points, flags, meta, -1),
                    )
                )  # fmt: skip
        totals = {stage: sum(target.count for target in targets) for stage, targets in stages.items()}
        labels = images_to_levels([t.labels for t in stages["refine"]], counts)
        weights = images_to_levels([t.weights for t in stages["refine"]], counts)
        loss_cls = [
            self.loss_cls(flatten(level, self.cls_out_channels).flatten(0, 1), label.flatten(), weight.flatten(),
                          avg_factor=totals["refine"])
            for level, label, weight in zip(cls_scores, labels, weights, strict=True)
        ]  # fmt: skip
        return {
            "loss_cls": loss_cls,
            "loss_pts_init": self._point_losses(self.loss_bbox_init, init, points, stages["init"], totals["init"]),
            "loss_pts_refine": self._point_losses(
                self.loss_bbox_refine, refined, points, stages["refine"], totals["refine"]
            ),
        }

    def _candidates(self, points: Sequence[Tensor], assigner: Any) -> Tensor:
        """What the first stage assigns to: points with strides (n, 4), or squares around them."""
        if type(assigner).__name__ == "PointAssigner":
            return torch.cat(list(points))
        half = self.point_base_scale * 0.5
        return torch.cat([torch.cat((p[:, :2] - half * p[:, 2:], p[:, :2] + half * p[:, 2:]), dim=1) for p in points])

    def _absolute(self, points: Sequence[Tensor], boxes: Levels) -> Tensor:
        """Boxes (B, 4, H, W) of each level, in strides from the positions -> (B, n, 4) in pixels."""
        return torch.cat(
            [flatten(box, 4) * p[0, 2] + p[:, [0, 1, 0, 1]] for p, box in zip(points, boxes, strict=True)], dim=1
        )

    def _point_losses(
        self, loss: nn.Module, maps: Levels, points: Sequence[Tensor], targets: Sequence[Targets], total: int
    ) -> list[Tensor]:
        """One of each level; only sets that have a box are made one."""
        counts = [len(level) for level in points]
        positive = images_to_levels([t.positive for t in targets], counts)
        boxes = images_to_levels([t.boxes for t in targets], counts)
        found = []
        for level, stride in enumerate(self.point_strides):
            picture, place = positive[level].nonzero().unbind(dim=1)
            everywhere = flatten(maps[level], 2 * self.num_points)
            if not len(place):
                found.append(self.points2bbox(everywhere[0, :1]).sum() * 0)
                continue
            offsets = everywhere[picture, place]
            centres = points[level][place][:, [0, 1, 0, 1]]
            unit = self.point_base_scale * stride
            predicted = (self.points2bbox(offsets) * stride + centres) / unit
            wanted = boxes[level][picture, place] / unit
            found.append(loss(predicted, wanted, torch.ones_like(wanted), avg_factor=total))
        return found

    def coding(self) -> Coding:
        return DenseHead.coding(self)  # type: ignore[no-any-return]

    def picking(self) -> Picking:
        return Picking(clips=self.bbox_coder.clip_border)

    def box_values(self, values: Tensor, level: int) -> Tensor:
        """Edges from the position -> distances to the left, top, right and bottom, in pixels."""
        return values * values.new_tensor([-1.0, -1.0, 1.0, 1.0]) * self.point_strides[level]
