"""Boxes on a grid."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from hatdet.models.mmdet.priors.grid import Device, Grid, Size, cells, pair
from hatdet.registry import register

Pairs = Sequence[float | Sequence[float]]
"""Numbers, or (width, height)."""


class Anchors(Grid):
    """The same boxes around each cell of a level.

    Attributes:
        base_anchors: float32 (n, 4) a level: those of the cell in row 0, column 0.
    """

    base_anchors: list[Tensor]

    @property
    def num_base_priors(self) -> list[int]:
        """Boxes of a cell, a level."""
        return [len(anchors) for anchors in self.base_anchors]

    @property
    def num_base_anchors(self) -> list[int]:
        """The older name of ``num_base_priors``."""
        return self.num_base_priors

    def grid_priors(
        self, featmap_sizes: Sequence[Size], dtype: torch.dtype = torch.float32, device: Device = "cpu"
    ) -> list[Tensor]:
        """Boxes (h * w * n, 4) of each level, xyxy: cell by cell, row by row."""
        return [
            self.single_level_grid_priors(size, level, dtype, device)
            for level, size in enumerate(self.per_level(featmap_sizes))
        ]

    def single_level_grid_priors(
        self, featmap_size: Size, level_idx: int, dtype: torch.dtype = torch.float32, device: Device = "cpu"
    ) -> Tensor:
        """Boxes of one level, see :meth:`grid_priors`."""
        width, height = self.strides[level_idx]
        x = torch.arange(featmap_size[1], device=device).to(dtype) * width
        y = torch.arange(featmap_size[0], device=device).to(dtype) * height
        corner = torch.stack(cells(x, y) * 2, dim=1)
        return (corner[:, None] + self.base_anchors[level_idx].to(device, dtype)).reshape(-1, 4)

    def sparse_priors(
        self,
        prior_idxs: Tensor,
        featmap_size: Size,
        level_idx: int,
        dtype: torch.dtype = torch.float32,
        device: Device = "cpu",
    ) -> Tensor:
        """The boxes (n, 4) of these positions in ``grid_priors`` of the level."""
        base = self.base_anchors[level_idx].to(device)
        cell = prior_idxs.to(device) // len(base)
        width, height = self.strides[level_idx]
        x = cell % featmap_size[1] * width
        y = cell // featmap_size[1] % featmap_size[0] * height
        return torch.stack((x, y, x, y), dim=1).to(dtype) + base[prior_idxs.to(device) % len(base)].to(dtype)


def _box_type(use_box_type: bool) -> None:
    if use_box_type:
        raise ValueError("use_box_type=True wraps anchors in a class that does not exist here; leave it out")


@register(scope="mmdet")
class AnchorGenerator(Anchors):
    """Boxes of some scales and shapes (arXiv 1506.01497; scales in octaves: RetinaNet, arXiv 1708.02002).

    Args:
        strides: of each level in pixels, a number or (width, height).
        ratios: height / width; the area stays.
        scales: sides of the square box, in ``base_sizes``; or
        octave_base_scale, scales_per_octave: scales ``octave_base_scale * 2 ** (i / scales_per_octave)``.
        base_sizes: pixels of scale 1, a level; the (lesser) stride where not given.
        scale_major: the scales of the first ratio come first; else the ratios of the first scale.
        centers: (x, y) of the boxes of the first cell, in pixels, a level; or
        center_offset: their centre, from 0 to 1, in base sizes.
        use_box_type: must be False.

    Raises:
        ValueError: both or neither of the two ways to give scales (or both to give centres), or lists of other lengths.
    """

    _less = 0
    """Pixels that a side of a box is shorter than its size (MMDetection 1: right - left + 1 = width)."""

    def __init__(
        self,
        strides: Pairs,
        ratios: Sequence[float],
        scales: Sequence[float] | None = None,
        base_sizes: Sequence[float] | None = None,
        scale_major: bool = True,
        octave_base_scale: float | None = None,
        scales_per_octave: int | None = None,
        centers: Sequence[Sequence[float]] | None = None,
        center_offset: float = 0.0,
        use_box_type: bool = False,
    ) -> None:
        _box_type(use_box_type)
        octaves = (octave_base_scale, scales_per_octave)
        if (scales is None) == (None in octaves) or (scales is not None and octaves != (None, None)):
            raise ValueError(
                "give either scales, or octave_base_scale and scales_per_octave; "
                f"got scales={scales}, octave_base_scale={octave_base_scale}, scales_per_octave={scales_per_octave}"
            )
        if not 0 <= center_offset <= 1 or (center_offset and centers is not None):
            raise ValueError(f"center_offset is from 0 to 1, and 0 beside centers; got {center_offset} and {centers}")
        self.strides = [pair(stride) for stride in strides]
        self.base_sizes = [min(stride) for stride in self.strides] if base_sizes is None else list(base_sizes)
        for name, values in (("base_sizes", self.base_sizes), ("centers", centers)):
            if values is not None and len(values) != self.num_levels:
                raise ValueError(f"{name} has {len(values)} entries for {self.num_levels} strides; give one for each")
        if scales is None:
            assert octave_base_scale is not None and scales_per_octave is not None
            scales = [octave_base_scale * 2 ** (i / scales_per_octave) for i in range(scales_per_octave)]
        self.scales, self.ratios = torch.tensor(scales).float(), torch.tensor(ratios).float()
        self.octave_base_scale, self.scales_per_octave = octave_base_scale, scales_per_octave
        self.scale_major = scale_major
        self.centers = centers
        self.center_offset = center_offset
        self.base_anchors = []
        for level, size in enumerate(self.base_sizes):
            center = [center_offset * (size - self._less)] * 2 if centers is None else centers[level]
            self.base_anchors.append(self._around(size, self.scales, self.ratios, center))

    def _around(self, size: float, scales: Tensor, ratios: Tensor, center: Sequence[float]) -> Tensor:
        """Boxes (scales * ratios, 4) around a point."""
        tall = ratios.sqrt()
        sides = []
        for factor in (1 / tall, tall):
            # The order of the products is that of the reference: other orders round otherwise.
            table = (size * factor)[:, None] * scales if self.scale_major else (size * scales)[:, None] * factor
            sides.append(0.5 * (table.reshape(-1) - self._less))
        (x, y), (width, height) = center, sides
        boxes = torch.stack((x - width, y - height, x + width, y + height), dim=1)
        return boxes.round() if self._less else boxes


@register(scope="mmdet")
class LegacyAnchorGenerator(AnchorGenerator):
    """The boxes of MMDetection 1: right and bottom edges are the last pixel, and all edges are whole numbers."""

    _less = 1


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
        _box_type(use_box_type)
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
            boxes = self._around(size, scales, every, center)
            count = len(every)
            # The small ones, with entry ``count`` (the large square where ratios come first) at place 1.
            self.base_anchors.append(boxes[[0, count, *range(1, count)]])

    def _center(self, stride: tuple[float, float]) -> tuple[float, float]:
        return (stride[0] - self._less) / 2, (stride[1] - self._less) / 2


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
    edges = [first, *((percent, percent + step) for percent in range(least, most + 1, step))]
    return [int(input_size * low / 100) for low, _ in edges], [int(input_size * high / 100) for _, high in edges]


@register(scope="mmdet")
class LegacySSDAnchorGenerator(SSDAnchorGenerator):
    """The boxes of SSD in MMDetection 1, see :class:`LegacyAnchorGenerator`."""

    _less = 1

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


@register(scope="mmdet")
class YOLOAnchorGenerator(Anchors):
    """Boxes of given sizes around the centres of cells (YOLOv3, arXiv 1804.02767).

    Args:
        strides: of each level in pixels, coarsest first in YOLOv3.
        base_sizes: of each level: sizes (width, height) of the boxes; equally many a level.
        use_box_type: must be False.

    Raises:
        ValueError: lists of other lengths.
    """

    def __init__(
        self, strides: Pairs, base_sizes: Sequence[Sequence[float | Sequence[float]]], use_box_type: bool = False
    ) -> None:
        _box_type(use_box_type)
        self.strides = [pair(stride) for stride in strides]
        self.base_sizes = [[pair(size) for size in sizes] for sizes in base_sizes]
        counts = [len(sizes) for sizes in self.base_sizes]
        if len(counts) != self.num_levels or len(set(counts)) > 1:
            raise ValueError(
                f"base_sizes has {counts} boxes for {self.num_levels} strides; give equally many for each stride"
            )
        self.centers = [(width / 2, height / 2) for width, height in self.strides]
        self.base_anchors = [
            torch.tensor([[x - 0.5 * w, y - 0.5 * h, x + 0.5 * w, y + 0.5 * h] for w, h in sizes])
            for (x, y), sizes in zip(self.centers, self.base_sizes, strict=True)
        ]

    def responsible_flags(
        self, featmap_sizes: Sequence[Size], gt_bboxes: Tensor, device: Device = "cpu"
    ) -> list[Tensor]:
        """Which priors stand in a cell that has the centre of a ground truth: uint8 (h * w * n,) a level."""
        counts = self.num_base_priors
        return [
            self.single_level_responsible_flags(size, gt_bboxes, self.strides[level], counts[level], device)
            for level, size in enumerate(self.per_level(featmap_sizes))
        ]

    @staticmethod
    def single_level_responsible_flags(
        featmap_size: Size,
        gt_bboxes: Tensor,
        stride: tuple[float, float],
        num_base_anchors: int,
        device: Device = "cpu",
    ) -> Tensor:
        """See :meth:`responsible_flags`. A centre on the edge of the map belongs to the last cell."""
        height, width = featmap_size
        boxes = gt_bboxes.to(device)
        x = torch.floor((boxes[:, 0] + boxes[:, 2]) * 0.5 / stride[0]).long().clamp(0, width - 1)
        y = torch.floor((boxes[:, 1] + boxes[:, 3]) * 0.5 / stride[1]).long().clamp(0, height - 1)
        flags = torch.zeros(height * width, dtype=torch.uint8, device=device)
        flags[y * width + x] = 1
        return flags.repeat_interleave(num_base_anchors)
