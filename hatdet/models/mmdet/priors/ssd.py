"""The boxes of SSD."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from hatdet.models.mmdet.priors.anchors import AnchorGenerator, Pairs, no_box_type
from hatdet.models.mmdet.priors.grid import pair
from hatdet.registry import register


@register(scope="mmdet")
class SSDAnchorGenerator(AnchorGenerator):
    """The boxes of SSD (arXiv 1512.02325): of each level a small square, a large one, and small ones of other shapes.

    Args:
        strides: of each level in pixels.
        ratios: of each level: shapes beside the square, each also lying.
        min_sizes, max_sizes: sides in pixels, a level: the small square has side ``min``, the large one
            ``sqrt(min * max)``; both or none.
        basesize_ratio_range: without them: least and greatest side as shares of ``input_size``, spread over the levels.
        input_size: 300 or 512.
        scale_major: see :class:`AnchorGenerator`; False in SSD.
        use_box_type: must be False.

    Raises:
        ValueError: lists of other lengths; an input size, or least share, that SSD does not have.
    """

    def __init__(
        self,
        strides: Pairs,
        ratios: Sequence[Sequence[float]],
        min_sizes: Sequence[float] | None = None,
        max_sizes: Sequence[float] | None = None,
        basesize_ratio_range: tuple[float, float] = (0.15, 0.9),
        input_size: int = 300,
        scale_major: bool = True,
        use_box_type: bool = False,
    ) -> None:
        no_box_type(use_box_type)
        if (min_sizes is None) != (max_sizes is None):
            raise ValueError(f"give min_sizes and max_sizes or neither, got {min_sizes} and {max_sizes}")
        self.strides = [pair(stride) for stride in strides]
        if min_sizes is None or max_sizes is None:
            min_sizes, max_sizes = _ssd_sizes(self.num_levels, basesize_ratio_range, input_size)
        if not len(ratios) == len(min_sizes) == len(max_sizes) == self.num_levels:
            raise ValueError(
                f"{self.num_levels} strides, but {len(ratios)} ratios, {len(min_sizes)} min_sizes and "
                f"{len(max_sizes)} max_sizes; give one for each level"
            )
        self.input_size, self.basesize_ratio_range = input_size, basesize_ratio_range
        self.base_sizes = list(min_sizes)
        self.scale_major = scale_major
        self.center_offset = 0
        self.centers = [self._center(stride) for stride in self.strides]
        self.base_anchors = []
        for size, largest, shapes, center in zip(min_sizes, max_sizes, ratios, self.centers, strict=True):
            scales = torch.tensor([1.0, (largest / size) ** 0.5])
            every = torch.tensor([1.0, *(shape for ratio in shapes for shape in (1 / ratio, ratio))])
            boxes = self.around(size, scales, every, center)
            count = len(every)
            # The small ones, with entry ``count`` (the large square where ratios come first) at place 1.
            self.base_anchors.append(boxes[[0, count, *range(1, count)]])

    def _center(self, stride: tuple[float, float]) -> tuple[float, float]:
        return (stride[0] - self.less) / 2, (stride[1] - self.less) / 2


_SSD_FIRST = {
    (300, 0.15): (7, 15),
    (300, 0.2): (10, 20),
    (512, 0.1): (4, 10),
    (512, 0.15): (7, 15),
}
"""Input size and least share -> sizes of the first level in percent: COCO and VOC, as the authors trained them."""


def _ssd_sizes(levels: int, share: tuple[float, float], input_size: int) -> tuple[list[float], list[float]]:
    least, most = (int(value * 100) for value in share)
    first = _SSD_FIRST.get((input_size, share[0]))
    if first is None:
        raise ValueError(
            f"input_size {input_size} with basesize_ratio_range from {share[0]} is no SSD; it is 300 with 0.15 or 0.2 "
            "or 512 with 0.1 or 0.15; or give min_sizes and max_sizes"
        )
    step = (most - least) // max(levels - 2, 1)
    edges = [first, *((percent, percent + step) for percent in range(least, most + 1, step))][:levels]
    return [int(input_size * low / 100) for low, _ in edges], [int(input_size * high / 100) for _, high in edges]


@register(scope="mmdet")
class LegacySSDAnchorGenerator(SSDAnchorGenerator):
    """The boxes of SSD in MMDetection 1, see :class:`LegacyAnchorGenerator`."""

    less = 1

    def __init__(
        self,
        strides: Pairs,
        ratios: Sequence[Sequence[float]],
        basesize_ratio_range: tuple[float, float],
        input_size: int = 300,
        scale_major: bool = True,
        use_box_type: bool = False,
    ) -> None:
        super().__init__(
            strides,
            ratios,
            basesize_ratio_range=basesize_ratio_range,
            input_size=input_size,
            scale_major=scale_major,
            use_box_type=use_box_type,
        )
