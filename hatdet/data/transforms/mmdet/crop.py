"""RandomCrop, CenterCrop and MinIoURandomCrop."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from hatdet.data.transforms.mmdet.canvas import centers_within, clip, clip_and_filter, iou, keep, uniform
from hatdet.data.transforms.mmdet.pad import Pad
from hatdet.data.transforms.mmdet.resize import as_scale
from hatdet.data.transforms.sample import Context, Sample, Size, window
from hatdet.registry import register
from hatdet.utils.annotations import Spec

_ATTEMPTS = 50


@register(scope="mmdet")
class RandomCrop:
    """Cut a random window out. Without a box in it the sample is dropped (another image is taken).

    Args:
        crop_size: (width, height) in pixels ("absolute") or as shares ("relative"); (smallest, largest) of both sides
            in pixels ("absolute_range"); the smallest shares (height, width) ("relative_range").
        crop_type: see there.
        allow_negative_crop: keep windows without a box.
        recompute_bbox: boxes from masks, of which there are none here.
        bbox_clip_border: cut the boxes at the window.
    """

    def __init__(
        self,
        crop_size: Sequence[float],
        crop_type: Literal["absolute", "absolute_range", "relative", "relative_range"] = "absolute",
        allow_negative_crop: bool = False,
        recompute_bbox: bool = False,
        bbox_clip_border: bool = True,
    ) -> None:
        first, second = crop_size
        if crop_type in ("absolute", "absolute_range"):
            if min(first, second) < 1 or (int(first), int(second)) != (first, second):
                raise ValueError(f"crop_size is {crop_size!r}; {crop_type} takes two whole numbers of at least 1")
            if crop_type == "absolute_range" and first > second:
                raise ValueError(f"crop_size is {crop_size!r}; absolute_range takes (smallest, largest)")
        elif not 0 < min(first, second) <= max(first, second) <= 1:
            raise ValueError(f"crop_size is {crop_size!r}; {crop_type} takes two shares above 0, at most 1")
        self.crop_size, self.crop_type = (first, second), crop_type
        self.allow_negative_crop, self.bbox_clip_border = allow_negative_crop, bbox_clip_border

    def __call__(self, sample: Sample, ctx: Context) -> Sample | None:
        height, width = self._size(sample.canvas, ctx)
        y = int(ctx.rng.integers(max(sample.canvas[0] - height, 0) + 1))
        x = int(ctx.rng.integers(max(sample.canvas[1] - width, 0) + 1))
        window(sample, x, y, (height, width))
        sample.img_size = sample.canvas
        clip_and_filter(sample, self.bbox_clip_border)
        return None if not (len(sample.boxes) or self.allow_negative_crop or ctx.must_keep) else sample

    def _size(self, canvas: Size, ctx: Context) -> Size:
        height, width = canvas
        first, second = self.crop_size
        if self.crop_type == "absolute":
            return min(int(second), height), min(int(first), width)
        if self.crop_type == "absolute_range":
            low, high = ((min(side, int(first)), min(side, int(second))) for side in (height, width))
            return int(ctx.rng.integers(low[0], low[1] + 1)), int(ctx.rng.integers(high[0], high[1] + 1))
        if self.crop_type == "relative":
            share_h, share_w = second, first
        else:
            draws = ctx.rng.random(2)
            share_h, share_w = first + draws[0] * (1 - first), second + draws[1] * (1 - second)
        return max(1, int(height * share_h + 0.5)), max(1, int(width * share_w + 0.5))


@register(scope="mmdet")
class CenterCrop:
    """Cut the middle out; boxes are moved, and none is dropped (put FilterAnnotations after it).

    Args:
        crop_size: (width, height), or one number for both; a smaller picture keeps its sides.
        auto_pad: a smaller picture is padded first, at the right and the bottom.
        pad_cfg: how, arguments of Pad but its sizes.
        clip_object_border: cut the boxes at the window.
    """

    def __init__(
        self,
        crop_size: int | Sequence[int],
        auto_pad: bool = False,
        pad_cfg: Spec | None = None,
        clip_object_border: bool = True,
    ) -> None:
        self.width, self.height = as_scale("crop_size", crop_size)
        unused = ("type", "size", "size_divisor", "pad_to_square")
        options: dict[str, Any] = {key: value for key, value in (pad_cfg or {}).items() if key not in unused}
        self.pad = Pad(size=(self.width, self.height), **options) if auto_pad else None
        self.clip_object_border = clip_object_border

    def __call__(self, sample: Sample, ctx: Context) -> Sample:
        if self.pad is not None:
            sample = self.pad(sample, ctx)
        height, width = sample.canvas
        size = min(height, self.height), min(width, self.width)
        window(sample, round((width - size[1]) / 2), round((height - size[0]) / 2), size)
        sample.img_size = sample.canvas
        if self.clip_object_border:
            sample.boxes = clip(sample.boxes, size)
        return sample


@register(scope="mmdet")
class MinIoURandomCrop:
    """Cut a window out whose IoU with every box is at least a random bound (SSD, arXiv 1512.02325, section 2.2).

    Boxes whose centre lies in the window stay.

    Args:
        min_ious: the bounds; "no crop" and "no bound" are drawn as often as each of them.
        min_crop_size: smallest share of a side.
        bbox_clip_border: cut the boxes at the window.
    """

    def __init__(
        self,
        min_ious: Sequence[float] = (0.1, 0.3, 0.5, 0.7, 0.9),
        min_crop_size: float = 0.3,
        bbox_clip_border: bool = True,
    ) -> None:
        if not 0 < min_crop_size <= 1:
            raise ValueError(f"min_crop_size is {min_crop_size!r}; it is a share above 0, at most 1")
        self.modes = (1, *min_ious, 0)
        self.min_crop_size, self.bbox_clip_border = min_crop_size, bbox_clip_border

    def __call__(self, sample: Sample, ctx: Context) -> Sample:
        while True:
            bound = self.modes[int(ctx.rng.integers(len(self.modes)))]
            if bound == 1:
                return sample
            for _ in range(_ATTEMPTS):
                patch = self._patch(sample.canvas, ctx)
                if patch is not None and self._fits(sample, patch, bound):
                    return self._cut(sample, patch)

    def _patch(self, canvas: Size, ctx: Context) -> tuple[int, int, int, int] | None:
        height, width = canvas
        new_w = uniform(ctx, self.min_crop_size * width, width)
        new_h = uniform(ctx, self.min_crop_size * height, height)
        if not 0.5 <= new_h / new_w <= 2:
            return None
        left, top = uniform(ctx, 0, width - new_w), uniform(ctx, 0, height - new_h)
        patch = int(left), int(top), int(left + new_w), int(top + new_h)
        return patch if patch[2] > patch[0] and patch[3] > patch[1] else None

    @staticmethod
    def _fits(sample: Sample, patch: tuple[int, int, int, int], bound: float) -> bool:
        if not len(sample.boxes):
            return True
        overlaps = iou(patch, sample.boxes)
        return bool(overlaps.min() >= bound and centers_within(sample.boxes, patch).any())

    def _cut(self, sample: Sample, patch: tuple[int, int, int, int]) -> Sample:
        keep(sample, centers_within(sample.boxes, patch))
        window(sample, patch[0], patch[1], (patch[3] - patch[1], patch[2] - patch[0]))
        sample.img_size = sample.canvas
        if self.bbox_clip_border:
            sample.boxes = clip(sample.boxes, sample.canvas)
        return sample
