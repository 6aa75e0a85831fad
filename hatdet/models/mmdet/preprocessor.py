"""What stands before the backbone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from hatdet.models.task_modules.preprocessor import DataPreprocessor
from hatdet.registry import register
from hatdet.utils.annotations import AsWritten


@register(scope="mmdet")
class DetDataPreprocessor(DataPreprocessor):
    """``(img - mean) / std`` of uint8 images, in RGB where asked for.

    Images are padded where a batch is put together, and resized there too: ``pad_size_divisor``, ``pad_value`` and
    ``batch_augments`` are for the collation and the batch processor, which a config's translation tells of them.

    Args:
        mean: subtracted, one number a channel in the order of the network's input; None: 0.
        std: divided by; None: 1.
        pad_size_divisor: sides of batches are multiples of it.
        pad_value: of the pixels added, after normalization.
        bgr_to_rgb, rgb_to_bgr: reverse the channels first.
        batch_augments: what happens to whole batches.
        pad_mask, mask_pad_value, pad_seg, seg_pad_value: of masks, which there are none of here.
        boxtype2tensor, non_blocking: mean nothing here.

    Raises:
        ValueError: see :class:`DataPreprocessor`.
    """

    def __init__(
        self,
        *,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        pad_size_divisor: int = 1,
        pad_value: float = 0,
        pad_mask: bool = False,
        mask_pad_value: int = 0,
        pad_seg: bool = False,
        seg_pad_value: int = 255,
        bgr_to_rgb: bool = False,
        rgb_to_bgr: bool = False,
        boxtype2tensor: bool = True,
        non_blocking: bool | None = False,
        batch_augments: Annotated[list[dict[str, Any]], AsWritten] | None = None,
    ) -> None:
        super().__init__(
            mean=0.0 if mean is None else mean, std=1.0 if std is None else std, bgr_to_rgb=bgr_to_rgb or rgb_to_bgr
        )
        self.pad_size_divisor, self.pad_value, self.batch_augments = pad_size_divisor, pad_value, batch_augments
