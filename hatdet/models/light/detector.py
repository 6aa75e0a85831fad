"""A light detector: its parts take their channels from each other, and its pixels from the config's options."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from torch import nn

from hatdet.models.fitting import COMPLETED, check_input_channels, check_parts, complete_part
from hatdet.models.mmdet.detectors.single_stage import SingleStageDetector
from hatdet.models.mmdet.heads.base import DenseHead
from hatdet.models.task_modules.preprocessor import DataPreprocessor
from hatdet.registry import register
from hatdet.utils.annotations import Spec


class LightDetector(SingleStageDetector):
    """:class:`SingleStageDetector` whose config is RTMDet's: ``in_channels`` of neck and head may be left out, maps are
    compared when it is built, pictures may be gray.

    Args:
        backbone, neck, bbox_head: parts; the head knows its strides.
        preprocessor: uint8 images -> input of the backbone.
        input_color: of the images; ``gray``: one channel.
        train_cfg, test_cfg: for the head.
        classes: names in the order of the labels, for metadata; may be set later.

    Raises:
        ValueError: as :class:`SingleStageDetector`.
        MisfitError: parts that do not fit each other.
    """

    completed: ClassVar[Mapping[str, tuple[str, ...]]] = {
        **COMPLETED,
        "bbox_head": (*COMPLETED["bbox_head"], "train_cfg", "test_cfg"),
    }

    def __init__(
        self,
        *,
        backbone: nn.Module,
        neck: nn.Module,
        bbox_head: DenseHead,
        preprocessor: DataPreprocessor,
        input_color: str = "bgr",
        train_cfg: dict[str, Any] | None = None,
        test_cfg: Spec | None = None,
        classes: Sequence[str] = (),
    ) -> None:
        super().__init__(
            backbone=backbone, neck=neck, bbox_head=bbox_head, train_cfg=train_cfg, test_cfg=test_cfg,
            data_preprocessor=preprocessor, classes=classes,
        )  # fmt: skip
        self.input_color = input_color
        check_input_channels(backbone, input_color, preprocessor)
        check_parts(backbone, neck, bbox_head, bbox_head.level_strides, "bbox_head", "bbox_head.strides")

    @staticmethod
    def complete_part(
        name: str, cfg: Mapping[str, Any], missing: Mapping[str, Any], argument: Callable[[str], Any]
    ) -> dict[str, Any]:
        """Channels of the part before, and the head's ``train_cfg`` and ``test_cfg``."""
        own = SingleStageDetector.complete_part(name, cfg, missing, argument)
        return {**complete_part(name, cfg, missing, argument), **own}


@register
class PicoDet(LightDetector):
    """arXiv 2111.00902: see :class:`~hatdet.models.light.pico_head.PicoHead`."""
