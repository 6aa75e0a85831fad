"""CenterNet: objects are points, peaks of a heatmap (arXiv 1904.07850)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from hatdet.models.mmdet import exact
from hatdet.models.mmdet.heads.base import DenseHead, Detections, Levels, Losses, PictureMeta, Truth
from hatdet.models.mmdet.heads.coding import Address, Coding
from hatdet.models.mmdet.heads.keypoint.gaussian import (
    gaussian_radius,
    gen_gaussian_target,
    get_local_maximum,
    highest,
    last_at,
    transpose_and_gather_feat,
)  # fmt: skip
from hatdet.models.mmdet.heads.prediction import Candidates, finish
from hatdet.models.mmdet.heads.towers import concatenated, kind_after_kind, part
from hatdet.models.mmdet.layers.init import bias_init_with_prob, initialize, normal_init
from hatdet.registry import register
from hatdet.utils.annotations import Spec


@register(scope="mmdet")
class CenterNetHead(DenseHead):
    """Raw maps: ``heatmap`` (B, classes, H, W) logits, ``wh`` and ``offset`` (B, 2, H, W).

    A peak of sigmoid(heatmap) is the centre of a box, ``offset`` (x, y) positions from the cell's corner, ``wh``
    positions wide and high; its score is the peak's height. No suppression.

    Args:
        in_channels: of the feature map, of which there is one.
        feat_channels: of the layer before the last.
        num_classes: of foreground.
        loss_center_heatmap, loss_wh, loss_offset: built losses.
        train_cfg: has no meaning.
        test_cfg: ``topk``, ``local_maximum_kernel``; ``nms`` and ``max_per_img`` for augmented tests.
        init_cfg: first weights.
    """

    kinds = ("heatmap", "wh", "offset")

    def __init__(
        self,
        in_channels: int,
        feat_channels: int,
        num_classes: int,
        loss_center_heatmap: nn.Module | None = None,
        loss_wh: nn.Module | None = None,
        loss_offset: nn.Module | None = None,
        train_cfg: dict[str, Any] | None = None,
        test_cfg: Spec | None = None,
        init_cfg: Spec | list[dict[str, Any]] | None = None,
    ) -> None:
        super().__init__()
        self.num_classes, self.train_cfg, self.test_cfg = num_classes, train_cfg, test_cfg
        self.strides = [4]  # of all published networks; boxes are made by the sizes of map and picture

        def branch(channels: int) -> nn.Sequential:
            return nn.Sequential(
                nn.Conv2d(in_channels, feat_channels, 3, padding=1), nn.ReLU(inplace=True),
                nn.Conv2d(feat_channels, channels, 1),
            )  # fmt: skip

        self.heatmap_head, self.wh_head, self.offset_head = branch(num_classes), branch(2), branch(2)
        self.loss_center_heatmap = part(loss_center_heatmap, {"type": "GaussianFocalLoss", "loss_weight": 1.0})
        self.loss_wh = part(loss_wh, {"type": "L1Loss", "loss_weight": 0.1})
        self.loss_offset = part(loss_offset, {"type": "L1Loss", "loss_weight": 1.0})
        initialize(self, init_cfg)
        nn.init.constant_(self.heatmap_head[-1].bias, bias_init_with_prob(0.1))  # type: ignore[arg-type]
        for module in (*self.wh_head, *self.offset_head):
            if isinstance(module, nn.Conv2d):
                normal_init(module, std=0.001)

    def forward(self, feats: Sequence[Tensor]) -> tuple[Tensor, ...]:
        return kind_after_kind([(self.heatmap_head(x), self.wh_head(x), self.offset_head(x)) for x in feats])

    def refine(self, *maps: Levels) -> tuple[Any, ...]:
        return [exact.sigmoid(level) for level in maps[0]], maps[1], maps[2]

    def loss_by_feat(self, *maps: Levels, truths: Sequence[Truth], metas: Sequence[PictureMeta]) -> Losses:
        heat, sizes, offsets = (kind[0] for kind in maps)
        peaks, wanted_sizes, wanted_offsets, known = self.get_targets(heat, truths, metas[0]["batch_input_shape"])
        count = max(1, int((peaks == 1).sum()))
        return {
            "loss_center_heatmap": self.loss_center_heatmap(heat, peaks, avg_factor=count),
            "loss_wh": self.loss_wh(sizes, wanted_sizes, known, avg_factor=count * 2),
            "loss_offset": self.loss_offset(offsets, wanted_offsets, known, avg_factor=count * 2),
        }

    def get_targets(
        self, heat: Tensor, truths: Sequence[Truth], img_shape: Sequence[int]
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Heatmaps (B, classes, H, W), sizes, offsets and where these are known, each (B, 2, H, W)."""
        batch, _, height, width = heat.shape
        boxes = torch.cat([truth.bboxes for truth in truths]).to(heat)
        labels = torch.cat([truth.labels for truth in truths])
        picture = torch.arange(batch, device=heat.device).repeat_interleave(
            torch.tensor([len(truth) for truth in truths], device=heat.device)
        )
        ratio = heat.new_tensor([width / img_shape[1], height / img_shape[0]])
        centres, sizes = (boxes[:, :2] + boxes[:, 2:]) * ratio / 2, (boxes[:, 2:] - boxes[:, :2]) * ratio
        cells = torch.minimum(centres.long(), torch.tensor([width - 1, height - 1], device=heat.device)).clamp(min=0)
        radii = gaussian_radius(sizes.flip(1), min_overlap=0.3).long().clamp(min=0)
        shape = (batch * self.num_classes, height, width)
        peaks = gen_gaussian_target(shape, picture * self.num_classes + labels, cells, radii, heat.dtype)
        last = last_at((picture * height + cells[:, 1]) * width + cells[:, 0], batch * height * width)
        known = (last >= 0).view(batch, 1, height, width)
        values = torch.cat((torch.cat((sizes, centres - cells), dim=1), heat.new_zeros((1, 4))))  # the last: none
        values = values[last].view(batch, height, width, 4).permute(0, 3, 1, 2)
        known = known.to(heat).expand(-1, 2, -1, -1)
        return peaks.view_as(heat), values[:, :2], values[:, 2:], known

    prior_shares = 0.0  # a decoder's points: the corners of the cells

    def coding(self) -> Coding:
        kernel = (self.test_cfg or {}).get("local_maximum_kernel", 3)
        places = Address(0, 0, self.num_classes), Address(1, 0, 2)
        ignored = ("score_thr", "nms_pre", "max_per_img", "min_bbox_size", "nms")
        return Coding(
            "peaks", *places, clips=False, whole=True, shift=Address(2, 0, 2), kernel=kernel, peaks=True,
            ignores=ignored,
        )  # fmt: skip

    def class_scores(self, logits: Tensor) -> Tensor:
        """(n, classes) between 0 and 1."""
        return exact.sigmoid(logits)

    def box_tables(self, maps: Sequence[Tensor], level: int) -> list[Tensor]:
        """Of maps that hold every code: x and y of the offset, then width and height."""
        return [kind[0, axis].flatten() for kind in (maps[2], maps[1]) for axis in (0, 1)]

    def boxes_and_scores(self, *maps: Levels) -> tuple[Tensor, Tensor]:
        heat, (sizes, offsets) = self.refine(*maps)[0][0], (maps[1][0], maps[2][0])
        height, width = heat.shape[2:]
        high = get_local_maximum(heat, (self.test_cfg or {}).get("local_maximum_kernel", 3))
        rows, columns = torch.arange(height, device=heat.device), torch.arange(width, device=heat.device)
        cells = torch.stack((columns.expand(height, width), rows[:, None].expand(height, width))).to(heat.dtype)
        sides = torch.cat((cells + offsets - sizes / 2, cells + offsets + sizes / 2), dim=1) * self.level_strides[0]
        return concatenated([sides], 4), concatenated([high], self.num_classes)

    def predict_by_feat(
        self,
        *maps: Levels,
        metas: Sequence[PictureMeta],
        cfg: Mapping[str, Any] | None = None,
        rescale: bool = False,
        with_nms: bool = False,
    ) -> list[Detections]:
        """The ``topk`` highest peaks of each picture.

        Args:
            maps: as :meth:`refine` gives them.
            metas: of the pictures; ``border`` is where a picture begins in its canvas.
            cfg: in the place of ``test_cfg``.
            rescale: boxes in pixels of the file.
            with_nms: boxes suppress each other.
        """
        cfg = (self.test_cfg or {}) if cfg is None else cfg
        only = {key: cfg[key] for key in ("nms", "max_per_img") if key in cfg}  # boxes of any size stay
        heat, sizes, offsets = (kind[0] for kind in maps)
        height, width = heat.shape[2:]
        high = get_local_maximum(heat, cfg.get("local_maximum_kernel", 3))
        scores, places, labels, ys, xs = highest(high, min(cfg.get("topk", 100), heat[0].numel()))
        halves = transpose_and_gather_feat(sizes, places) / 2
        centres = torch.stack((xs, ys), dim=-1) + transpose_and_gather_feat(offsets, places)
        found = []
        for image, meta in enumerate(metas):
            high_px, wide_px = meta["batch_input_shape"]
            step = heat.new_tensor([wide_px / width, high_px / height])
            boxes = torch.cat(((centres - halves)[image] * step, (centres + halves)[image] * step), dim=1)
            if "border" in meta:
                boxes = boxes - boxes.new_tensor(meta["border"])[[2, 0, 2, 0]]
            found.append(finish(Candidates(boxes, scores[image], labels[image]), only, meta, rescale, with_nms))
        return found
