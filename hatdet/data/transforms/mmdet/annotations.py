"""FilterAnnotations."""

from __future__ import annotations

from collections.abc import Sequence

from hatdet.data.transforms.mmdet.canvas import keep
from hatdet.data.transforms.sample import Context, Sample
from hatdet.registry import register


@register(scope="mmdet")
class FilterAnnotations:
    """Drop boxes that are too small to be seen.

    Args:
        min_gt_bbox_wh: boxes stay whose width and height are above this.
        min_gt_mask_area, by_mask: of masks, of which there are none here.
        by_box: must be True.
        keep_empty: as in MMDetection, in spite of the name: True drops a picture of which no box is left (another
            image is taken), False keeps it. A picture that came without a box passes.
    """

    def __init__(
        self,
        min_gt_bbox_wh: Sequence[float] = (1, 1),
        min_gt_mask_area: int = 1,
        by_box: bool = True,
        by_mask: bool = False,
        keep_empty: bool = True,
    ) -> None:
        if by_mask or not by_box:
            raise ValueError(f"got by_box={by_box}, by_mask={by_mask}; there are no masks here: by_box=True alone")
        self.least, self.keep_empty = min_gt_bbox_wh, keep_empty

    def __call__(self, sample: Sample, ctx: Context) -> Sample | None:
        if not len(sample.boxes):
            return sample
        sides = sample.boxes[:, 2:] - sample.boxes[:, :2]
        large = (sides[:, 0] > self.least[0]) & (sides[:, 1] > self.least[1])
        if not large.any() and self.keep_empty and not ctx.must_keep:
            return None
        return keep(sample, large)
