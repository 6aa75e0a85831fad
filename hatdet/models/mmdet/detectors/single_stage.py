"""A backbone, a neck and a dense head in a row."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from hatdet.models.detectors.base import Batch, Detector, Maps
from hatdet.models.mmdet.batch import metas_of, truths_of
from hatdet.models.mmdet.heads.base import DenseHead, Truth, predicting
from hatdet.models.mmdet.heads.decoded import of_decoded
from hatdet.models.mmdet.heads.tables import decoding
from hatdet.models.mmdet.post import Suppression
from hatdet.models.mmdet.preprocessor import DetDataPreprocessor
from hatdet.models.mmdet.settings import check_test_cfg, check_train_cfg
from hatdet.models.task_modules.preprocessor import DataPreprocessor
from hatdet.registry import register
from hatdet.utils.annotations import Spec
from hatdet.utils.errors import UserError
from hatdet.utils.input_format import input_order


class Network(nn.Module):
    """Parts in a row, under their names: image -> flat tuple of raw maps.

    Args:
        parts: by name; the last is the head.
        strides: of the maps that the head takes, as far as it says.
    """

    def __init__(self, parts: Sequence[tuple[str, nn.Module]], strides: Sequence[int] = ()) -> None:
        super().__init__()
        for name, part in parts:
            self.add_module(name, part)
        self.strides, self._last = tuple(strides), parts[-1][0]

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        found: Any = x
        for name, part in self.named_children():
            if name == self._last:
                self._check_maps(found)
            try:
                found = part(found)
            except RuntimeError as error:
                raise _misfit(name, error, x) from error
        return tuple(found)

    def _check_maps(self, found: Any) -> None:
        if self.strides and isinstance(found, (list, tuple)) and len(found) != len(self.strides):
            raise UserError(
                f"model.{self._last} takes maps of {len(self.strides)} strides {self.strides}, it gets {len(found)} "
                "maps; set its strides (its anchors' strides), or num_outs or out_indices of the part before it"
            )


_CHANNELS = re.compile(r"expected input\[.*\] to have (?P<wanted>\d+) channels, but got (?P<found>\d+) channels")
_SIZES = re.compile(
    r"Kernel size can't be greater|Output size is too small|must match the size of tensor|Sizes of tensors must match"
)
"""What torch says of maps that are smaller than a filter, or of two that do not lie on each other."""


def _misfit(name: str, error: RuntimeError, picture: Tensor) -> Exception:
    """What a user reads where a part does not take the maps of the part before it; else the error itself."""
    found = _CHANNELS.search(str(error))
    if found is not None:
        return UserError(
            f"model.{name} takes maps of {found['wanted']} channels, it gets {found['found']}; set its in_channels to "
            "what the part before it gives (out_channels, out_indices)"
        )
    if _SIZES.search(str(error)):
        height, width = picture.shape[2:]
        return UserError(
            f"model.{name} does not take pictures of {height}x{width} ({error}); give larger ones, or ones whose "
            "sides are multiples of 32 (pad_size_divisor, or the sizes in the pipeline)"
        )
    return error


class InGraph(nn.Module):
    """A head's :meth:`~DenseHead.boxes_and_scores` of its flat raw maps; the head is not part of the module.

    Args:
        head: of the detector.
        image_size: (h, w) of the pictures.
    """

    def __init__(self, head: DenseHead, image_size: tuple[int, int]) -> None:
        super().__init__()
        self._head, self.image_size = (head,), image_size

    def forward(self, *maps: Tensor) -> tuple[Tensor, Tensor]:
        head = self._head[0]
        with predicting(head):
            boxes, scores = head.boxes_and_scores(*head.levels(maps))
        if getattr(head, "prior_generator", None) is not None:
            return boxes, scores
        # A head without priors knows no strides but those of its paper: its predictions go by the sizes of the maps.
        sides = [image / (side * head.level_strides[-1]) for image, side in zip(self.image_size, maps[-1].shape[2:])]
        return boxes * boxes.new_tensor([sides[1], sides[0]] * 2), scores


@register(scope="mmdet")
class SingleStageDetector(Detector):
    """What is not two-stage: the head says losses and boxes of its own raw maps.

    Args:
        backbone: image -> feature maps.
        neck: feature maps -> feature maps; None: the head takes the backbone's.
        bbox_head: those -> raw maps, losses, boxes.
        train_cfg: ``assigner``, ``sampler`` and numbers, for the head.
        test_cfg: ``score_thr``, ``nms``, ..., for the head.
        data_preprocessor: uint8 images -> input of the backbone; None: pixels as they are.
        init_cfg: first weights; those of the parts are their own business.
        classes: names in the order of the labels, for metadata; may be set later.

    Raises:
        ValueError: as many names as the head has classes are needed, or none; a key of ``train_cfg`` or ``test_cfg``
            that no head reads.
    """

    completed: ClassVar[Mapping[str, tuple[str, ...]]] = {"bbox_head": ("train_cfg", "test_cfg")}
    head_name: ClassVar[str] = "bbox_head"
    """The head's parameters are saved under it."""

    def __init__(
        self,
        *,
        backbone: nn.Module,
        neck: nn.Module | None = None,
        bbox_head: DenseHead,
        train_cfg: dict[str, Any] | None = None,
        test_cfg: Spec | None = None,
        data_preprocessor: DataPreprocessor | None = None,
        init_cfg: Spec | None = None,
        classes: Sequence[str] = (),
    ) -> None:
        super().__init__()
        if classes and len(classes) != bbox_head.num_classes:
            raise ValueError(
                f"{self.head_name} has num_classes={bbox_head.num_classes}, but {len(classes)} are named: "
                f"{list(classes)}"
            )
        if type(bbox_head).__module__.partition(".")[0] == "hatdet":  # a head of one's own may read what it likes
            check_train_cfg(train_cfg)
            check_test_cfg(test_cfg)
            check_test_cfg(bbox_head.test_cfg)
        self.backbone = backbone
        if neck is not None:
            self.neck = neck
        self.add_module(self.head_name, bbox_head)
        self.preprocessor = data_preprocessor or DetDataPreprocessor()
        self.classes = tuple(classes)
        self.num_classes = bbox_head.num_classes
        self.source_bits: int | None = None  # of 16-bit pictures, where the data says it (engine/checkpoints/bits.py)

    @staticmethod
    def complete_part(
        name: str, cfg: Mapping[str, Any], missing: Mapping[str, Any], argument: Callable[[str], Any]
    ) -> dict[str, Any]:
        """The head's ``train_cfg`` and ``test_cfg``: the detector's."""
        return {key: argument(key) for key in ("train_cfg", "test_cfg") if key in missing and argument(key) is not None}

    @property
    def output_names(self) -> tuple[str, ...]:  # type: ignore[override]
        """``cls_0, cls_1, ..., bbox_0, ...``: kind and level."""
        return self.head.output_names

    @property
    def head(self) -> DenseHead:
        """The head, whatever it is called."""
        return self.get_submodule(self.head_name)  # type: ignore[return-value]

    def preprocess(self, img: Tensor) -> Tensor:
        return self.preprocessor(img)  # type: ignore[no-any-return]

    def run_network(self, x: Tensor) -> tuple[Tensor, ...]:
        return self.network()(x)  # type: ignore[no-any-return]

    def network(self) -> nn.Module:
        parts = [(name, part) for name, part in self.named_children() if name in ("backbone", "neck", self.head_name)]
        return Network(parts, self.head.level_strides)

    def loss(self, maps: Maps, batch: Batch) -> dict[str, Tensor]:
        """Scalars: of losses that come level by level the sum of the levels."""
        more = self.guidance(batch)
        with torch.autocast(maps[0].device.type, enabled=False):
            refined = self.head.refine(*self.head.levels(full_precision(maps)))
            losses = self.head.loss_by_feat(*refined, truths=self.truths(batch), metas=metas_of(batch), **more)
        return {name: _scalar(value) for name, value in losses.items()}

    def guidance(self, batch: Batch) -> dict[str, Any]:
        """Further arguments of the head's losses."""
        return {}

    def truths(self, batch: Batch) -> list[Truth]:
        """What is to be found in each picture."""
        return truths_of(batch)

    @torch.no_grad()
    def predict(self, maps: Maps, batch: Batch) -> list[dict[str, Tensor]]:
        rescale = "scale_factor" in batch
        with torch.autocast(maps[0].device.type, enabled=False), predicting(self.head):
            return self.head.predict(*self.head.levels(full_precision(maps)), metas=metas_of(batch), rescale=rescale)

    def merging(self, nms: Mapping[str, Any] | None = None, max_per_img: int | None = None) -> Suppression:
        """How boxes of several views of a picture are merged: as said here, or as the head suppresses its own.

        Raises:
            UserError: neither says it.
        """
        own: Mapping[str, Any] = self.head.test_cfg or {}
        if nms is not None:
            return Suppression(nms, max_per_img)
        if own.get("nms") is not None:
            return Suppression(own["nms"], own.get("max_per_img"))
        raise UserError(
            f"{type(self).__name__} cannot merge the boxes of several views: it suppresses none itself; give TTA an "
            "nms (tta_model=dict(type='DetTTAModel', tta_cfg=dict(nms=dict(type='nms', iou_threshold=0.5)))), or leave "
            "--tta out"
        )

    def decoding(self, image_size: tuple[int, int]) -> nn.Module:
        return InGraph(self.head, image_size)

    @torch.no_grad()
    def predict_decoded(self, boxes: Tensor, scores: Tensor, batch: Batch) -> list[dict[str, Tensor]]:
        """See :func:`hatdet.models.mmdet.heads.decoded.of_decoded`."""
        rescale = "scale_factor" in batch
        return [of_decoded(self.head, *one, rescale) for one in zip(boxes, scores, metas_of(batch), strict=True)]

    def decoder_tables(self, outputs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """What decoders outside the toolbox look up, see :func:`hatdet.models.mmdet.heads.tables.decoding`."""
        with predicting(self.head):
            return decoding(self.head, outputs)

    def adopt(self, metadata: Mapping[str, Any]) -> None:
        """Take the numbers outside the network that a checkpoint, graph or file was made with (``refine``)."""
        self.head.use_refine_values(metadata.get("refine") or {})

    def metadata(self) -> dict[str, Any]:
        return {
            "detector": type(self).__name__,
            "classes": list(self.classes),
            "num_classes": self.num_classes,
            **({"source_bits": self.source_bits} if self.source_bits else {}),
            "output_names": list(self.output_names),
            **({"refine": values} if (values := self.head.refine_values()) else {}),
            "mean": list(self.preprocessor.mean),
            "std": list(self.preprocessor.std),
            "bgr_to_rgb": self.preprocessor.bgr_to_rgb,
            "input_color": self.input_color,
            "input_order": input_order(self.input_color, self.preprocessor.bgr_to_rgb),
        }


def full_precision(maps: Maps) -> list[Tensor]:
    """16 bits are too coarse for the IoUs of an assignment."""
    return [m.float() if m.dtype in (torch.float16, torch.bfloat16) else m for m in maps]


def _scalar(value: Tensor | Sequence[Tensor]) -> Tensor:
    parts = [value] if isinstance(value, Tensor) else list(value)
    return torch.stack([part.mean() for part in parts]).sum()
