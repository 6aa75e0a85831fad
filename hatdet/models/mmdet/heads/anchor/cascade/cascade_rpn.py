"""A region proposal network in stages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Annotated, Any

import torch
from torch import Tensor, nn

from hatdet.models.mmdet.building import build
from hatdet.models.mmdet.heads.anchor.cascade.stage import StageCascadeRPNHead
from hatdet.models.mmdet.heads.anchor.rpn import best_of_levels
from hatdet.models.mmdet.heads.base import DenseHead, Detections, Levels, Losses, PictureMeta, Truth
from hatdet.models.mmdet.heads.coding import Picking
from hatdet.models.mmdet.heads.common import flatten
from hatdet.models.mmdet.heads.prediction import Candidates, finish
from hatdet.models.mmdet.layers.init import initialize
from hatdet.registry import register
from hatdet.utils.annotations import AsWritten, Spec


@register(scope="mmdet")
class CascadeRPNHead(DenseHead):
    """A region proposal network in stages (arXiv 1909.06720).

    Raw maps: those of the stages after each other: ``cls_0`` (where the stage has classes), ``bbox_0``, ``cls_1``, ...
    Deltas of a stage are from the boxes of the stage before it; proposals and their scores are the last stage's.
    Between stages boxes are clipped to the pictures where their sizes are known (:meth:`of_sizes`, losses,
    predictions), in a network that knows of none to the maps.

    Args:
        num_classes: 1.
        num_stages: how many stages there are.
        stages: dicts of :class:`StageCascadeRPNHead`.
        train_cfg: one for each stage.
        test_cfg: see :class:`RPNHead`.
        init_cfg: no meaning: stages fill themselves.

    Raises:
        ValueError: more classes than one, another number of stages, a last stage without classes.
    """

    def __init__(
        self,
        *,
        num_classes: int = 1,
        num_stages: int,
        stages: Annotated[list[dict[str, Any]], AsWritten],
        train_cfg: list[dict[str, Any]] | None = None,
        test_cfg: Spec | None = None,
        init_cfg: Spec | list[Spec] | None = None,
    ) -> None:
        super().__init__()
        if num_classes != 1:
            raise ValueError(f"num_classes={num_classes}: proposals have one class; write num_classes=1")
        if num_stages != len(stages) or (train_cfg is not None and len(train_cfg) != len(stages)):
            raise ValueError(
                f"num_stages={num_stages} needs as many stages and, where given, train_cfg; got {len(stages)}"
            )
        self.num_classes, self.num_stages, self.test_cfg = num_classes, num_stages, test_cfg
        self.train_cfg = None
        self.stages = nn.ModuleList(
            build(stage, train_cfg=None if train_cfg is None else train_cfg[i], test_cfg=test_cfg)
            for i, stage in enumerate(stages)
        )
        if not self.parts[-1].with_cls:
            raise ValueError("the last stage has with_cls=False: its boxes would have no scores; write with_cls=True")
        self.prior_generator = self.parts[0].prior_generator
        self._sizes: list[tuple[int, int]] = []
        self.kinds = tuple(f"{kind}_{i}" for i, stage in enumerate(self.parts) for kind in stage.kinds)
        initialize(self, init_cfg)

    without_decoder = ", whose boxes of later stages are said by earlier ones: take RPNHead"

    @contextmanager
    def of_sizes(self, sizes: Sequence[tuple[int, int]]) -> Iterator[None]:
        """With pictures of these sizes (h, w) in the batches of :meth:`forward`."""
        self._sizes = list(sizes)
        try:
            yield
        finally:
            self._sizes = []

    @property
    def parts(self) -> list[StageCascadeRPNHead]:
        """The stages."""
        return list(self.stages)  # type: ignore[arg-type]

    def forward(self, feats: Sequence[Tensor]) -> tuple[Tensor, ...]:
        stride = self.prior_generator.strides[0]
        canvas = feats[0].shape[-2] * stride[1], feats[0].shape[-1] * stride[0]
        sizes = self._sizes or [canvas] * len(feats[0])
        anchors = self.parts[0].first_anchors(feats)
        found: list[Tensor] = []
        for stage in self.parts:
            feats, classes, boxes = stage.run(feats, anchors)
            found.extend((*classes, *boxes))
            if stage is not self.parts[-1]:
                anchors = stage.refined(anchors, boxes, sizes)
        return tuple(found)

    def picking(self) -> Picking:
        return Picking(by_level=True, clips=self.parts[-1].bbox_coder.clip_border, ignores=("score_thr",))

    def boxes_and_scores(self, *maps: Levels) -> tuple[Tensor, Tensor]:
        stride, (height, width) = self.prior_generator.strides[0], maps[0][0].shape[2:]
        canvas: PictureMeta = {"img_shape": (height * stride[1], width * stride[0])}  # as in the network
        stage, anchors, classes, boxes = self._by_stage(maps, [canvas] * len(maps[0][0]))[-1]
        deltas = torch.cat([flatten(level, 4) for level in boxes], dim=1)
        logits = torch.cat([flatten(level, stage.cls_out_channels) for level in classes], dim=1)
        decoded = stage.bbox_coder.decode(torch.cat(anchors, dim=1).flatten(0, 1), deltas.flatten(0, 1))
        return decoded.view_as(deltas), stage.class_scores(logits)

    def _by_stage(
        self, maps: Sequence[Levels], metas: Sequence[PictureMeta]
    ) -> list[tuple[StageCascadeRPNHead, Levels, Levels, Levels]]:
        """Each stage with its anchors, classes and deltas."""
        rest = list(maps)
        found: list[tuple[StageCascadeRPNHead, Levels, Levels, Levels]] = []
        anchors = self.parts[0].first_anchors(maps[0])
        for stage in self.parts:
            classes = rest.pop(0) if stage.with_cls else []
            boxes = rest.pop(0)
            found.append((stage, anchors, classes, boxes))
            anchors = stage.refined(anchors, boxes, [meta["img_shape"] for meta in metas])
        return found

    def loss_by_feat(self, *maps: Levels, truths: Sequence[Truth], metas: Sequence[PictureMeta]) -> Losses:
        """``s0.loss_rpn_reg``, ``s1.loss_rpn_cls``, ...: of each stage, one of each level; labels have to be 0."""
        losses: Losses = {}
        for i, (stage, anchors, classes, boxes) in enumerate(self._by_stage(maps, metas)):
            found = stage.losses_from(anchors, classes, boxes, truths, metas)
            losses.update({f"s{i}.{name}": value for name, value in found.items()})
        return losses

    def predict_by_feat(
        self,
        *maps: Levels,
        metas: Sequence[PictureMeta],
        cfg: Mapping[str, Any] | None = None,
        rescale: bool = False,
    ) -> list[Detections]:
        """See :meth:`DenseHead.predict_by_feat`."""
        cfg = (self.test_cfg or {}) if cfg is None else cfg
        stage, anchors, classes, boxes = self._by_stage(maps, metas)[-1]
        logits = [flatten(level.detach(), stage.cls_out_channels) for level in classes]
        deltas = [flatten(level.detach(), 4) for level in boxes]
        found: list[Detections] = []
        for i, meta in enumerate(metas):
            scores, values, priors, levels = best_of_levels(
                [stage.class_scores(level[i])[:, 0] for level in logits], [level[i] for level in deltas],
                [level[i] for level in anchors], cfg.get("nms_pre", -1),
            )  # fmt: skip
            decoded = stage.bbox_coder.decode(priors, values, max_shape=meta["img_shape"])
            candidates = Candidates(decoded, scores, torch.zeros_like(levels), groups=levels)
            found.append(finish(candidates, cfg, meta, rescale))
        return found
