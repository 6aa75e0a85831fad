"""What every dense head is asked for."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypedDict

import torch
from torch import Tensor, nn

from hatdet.utils.errors import UserError

Levels = list[Tensor]
"""The maps (B, n, H, W) of one kind, finest level first."""
Losses = dict[str, Tensor | list[Tensor]]
"""Scalars, or one of each level, by name."""


@dataclass
class Truth:
    """What is to be found in a picture.

    Attributes:
        bboxes: float32 (n, 4), xyxy in network pixels.
        labels: int64 (n,).
        ignored: float32 (k, 4): boxes that are neither right nor wrong (crowds).
    """

    bboxes: Tensor
    labels: Tensor
    ignored: Tensor = field(default_factory=lambda: torch.zeros((0, 4)))

    def __len__(self) -> int:
        return len(self.labels)


class PictureMeta(TypedDict, total=False):
    """How a picture lies in its batch.

    ``img_shape`` (h, w) of the picture after its transforms, ``pad_shape`` and ``batch_input_shape`` (h, w) of what
    the network sees, ``ori_shape`` (h, w) of the file, ``scale_factor`` network pixels per file pixel (x, y),
    ``border`` (top, bottom, left, right) of the picture in a CenterNet canvas, ``flip``.
    """

    img_shape: tuple[int, int]
    pad_shape: tuple[int, int]
    batch_input_shape: tuple[int, int]
    ori_shape: tuple[int, int]
    scale_factor: tuple[float, float]
    border: Sequence[float]
    flip: bool


Detections = dict[str, Tensor]
"""``boxes`` float32 (n, 4) xyxy, ``scores`` (n,), ``labels`` int64 (n,), best first."""


@contextmanager
def predicting(head: nn.Module) -> Iterator[None]:
    """With the head's own flag as in evaluation: :meth:`DenseHead.refine` may go by it, and a head around whose
    network another one computes (a quantized detector's) is told of no change of mode."""
    before, head.training = head.training, False
    try:
        yield
    finally:
        head.training = before


class DenseHead(nn.Module, ABC):
    """Maps, losses and boxes.

    The network ends in ``forward``: feature maps -> a flat tuple of raw maps, kind after kind (``kinds``), finest
    level first, each the output of a convolution wherever the method allows it: this is what becomes integers. What a
    head does to its raw maps after that, a factor of the level, an exponential, a softmax, is :meth:`refine`, in
    float; losses and predictions get what it gives, which is what MMDetection's ``forward`` gives.

    Attributes:
        kinds: names of the kinds of maps, in their order: ``("cls", "bbox", "centerness")``.
        num_classes: of foreground.
        train_cfg: built parts (``assigner``, ``sampler``) and numbers, or None.
        test_cfg: as written: ``score_thr``, ``nms_pre``, ``max_per_img``, ``nms``, ..., or None.
    """

    refined_with: ClassVar[tuple[str, ...]] = ("scales",)
    """Parts whose parameters :meth:`refine` uses: they are not in the network that becomes integers."""

    without_decoder: ClassVar[str] = ""
    """Why there is no decoder, and which head has one."""

    kinds: tuple[str, ...]
    num_classes: int
    train_cfg: Mapping[str, Any] | None
    test_cfg: Mapping[str, Any] | None

    @property
    def level_strides(self) -> tuple[int, ...]:
        """Pixels per position of each level's maps, by the priors or by what the head calls its strides."""
        priors = getattr(self, "prior_generator", None)
        strides = getattr(self, "strides", ()) if priors is None else priors.strides
        return tuple(int(s if isinstance(s, (int, float)) else s[0]) for s in strides)

    @property
    def output_names(self) -> tuple[str, ...]:
        """Of the raw maps: kind and stride (kind and number of the level, where strides come twice)."""
        strides = self.level_strides
        names = strides if len(set(strides)) == len(strides) else tuple(range(len(strides)))
        return tuple(f"{kind}_{name}" for kind in self.kinds for name in names)

    @abstractmethod
    def forward(self, feats: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Feature maps (B, C, H_i, W_i) -> raw maps, flat, kind after kind."""

    def levels(self, raw: Sequence[Tensor]) -> tuple[Levels, ...]:
        """Flat raw maps by kind."""
        count = len(raw) // len(self.kinds)
        return tuple(list(raw[i * count : (i + 1) * count]) for i in range(len(self.kinds)))

    def refine(self, *maps: Levels) -> tuple[Any, ...]:
        """Raw maps by kind -> what losses and predictions are made of, as MMDetection's ``forward`` gives it."""
        return maps

    def refine_values(self) -> dict[str, float]:
        """Parameters by name that :meth:`refine` uses, each one number: they travel with the integer model."""
        parts = self.named_parameters()
        return {name: float(value.detach()) for name, value in parts if name.split(".")[0] in self.refined_with}

    @torch.no_grad()
    def use_refine_values(self, values: Mapping[str, float]) -> None:
        """Take what :meth:`refine_values` of the trained head gave."""
        own = dict(self.named_parameters())
        for name, value in values.items():
            if name in own and own[name].numel() == 1:
                own[name].fill_(value)

    def outputs(self, feats: Sequence[Tensor]) -> tuple[Any, ...]:
        """Feature maps -> what :meth:`refine` gives."""
        return self.refine(*self.levels(self(feats)))

    def predict(
        self,
        *maps: Levels,
        metas: Sequence[PictureMeta],
        cfg: Mapping[str, Any] | None = None,
        rescale: bool = False,
    ) -> list[Detections]:
        """Detections of each picture of raw maps by kind, see :meth:`predict_by_feat`."""
        return self.predict_by_feat(*self.refine(*maps), metas=metas, cfg=cfg, rescale=rescale)

    def boxes_and_scores(self, *maps: Levels) -> tuple[Tensor, Tensor]:
        """Raw maps by kind -> boxes (B, P, 4), xyxy in network pixels, not cut to the picture, and scores (B, P,
        classes) in [0, 1]: what a float file can give itself; torch can trace it.

        Raises:
            UserError: this head has no such form.
        """
        raise UserError(f"{type(self).__name__} has no in-graph decoding; export its raw maps (without --decode)")

    def coding(self) -> Any:
        """What a decoder has to know (:class:`hatdet.models.mmdet.heads.coding.Coding`).

        Raises:
            UserError: this head has no decoder.
        """
        raise UserError(
            f"there is no decoder for {type(self).__name__}{self.without_decoder}; export without --emit-decoder, and "
            "score the file with tools/test.py"
        )

    def picking(self) -> Any:
        """How detections are picked (:class:`hatdet.models.mmdet.heads.coding.Picking`)."""
        return self.coding()

    def box_table(self, rows: Tensor, level: int) -> Tensor:
        """Box values (256, 4) of a level after :meth:`refine` -> what a decoder looks up."""
        return rows

    @abstractmethod
    def loss_by_feat(self, *maps: Any, truths: Sequence[Truth], metas: Sequence[PictureMeta]) -> Losses:
        """Losses of what :meth:`refine` gives, of pictures whose boxes are known."""

    @abstractmethod
    def predict_by_feat(
        self, *maps: Any, metas: Sequence[PictureMeta], cfg: Mapping[str, Any] | None = None, rescale: bool = False
    ) -> list[Detections]:
        """Detections of each picture of what :meth:`refine` gives.

        Args:
            metas: of the pictures.
            cfg: in the place of ``test_cfg``.
            rescale: boxes in pixels of the file, not of the network.
        """
