"""The end of a list of transforms, drawn by the data's process and left to the training device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hatdet.data.transforms.batch.unfinished import Unfinished
from hatdet.data.transforms.color import HSVRandomAug
from hatdet.data.transforms.geometry import Pad, RandomFlip
from hatdet.data.transforms.mixup import MixUp, join
from hatdet.data.transforms.reach import Reach, reaches_after
from hatdet.data.transforms.render import render
from hatdet.data.transforms.sample import Context, Image, Sample
from hatdet.data.transforms.tensor import ToTensor
from hatdet.registry import register
from hatdet.utils.errors import UserError
from hatdet.utils.input_format import channels_of

KNOWN = (HSVRandomAug, RandomFlip, Pad, MixUp, ToTensor)
"""What can be left to a device, in this order."""


@register
class LeaveToDevice(ToTensor):
    """Stands in the place of the last transforms: draws what they would, and leaves their pixels to the device.

    The sample is what it would be, a function of the sampler's reference: the same numbers are drawn in the same
    order. Pictures are decoded, resized, cropped and put on their canvas (Mosaic's too: resampling writes them where
    they belong, a paste of its own would be a copy more) in the data's process; shifts of colour, mirroring, padding,
    MixUp's sum and the colours of the tensor are done to the whole batch by
    :class:`~hatdet.data.transforms.batch.finish.FinishOnDevice`, a batch transform of the batch processor.

    Args:
        transforms: some of HSVRandomAug, RandomFlip, Pad, MixUp and ToTensor, in this order, each once at most.
    """

    def __init__(self, transforms: Sequence[Any]) -> None:
        names = [type(transform).__name__ for transform in transforms]
        kinds = [KNOWN.index(type(t)) if type(t) in KNOWN else len(KNOWN) for t in transforms]
        if len(KNOWN) in kinds or kinds != sorted(set(kinds)):
            raise UserError(
                f"LeaveToDevice: got {', '.join(names)}; it takes {', '.join(kind.__name__ for kind in KNOWN)}, each "
                "once at most, in this order; put others before it, or use augment_on='loader'"
            )
        found = {type(transform): transform for transform in transforms}
        super().__init__(color=found[ToTensor].color if ToTensor in found else None)
        self.colours: HSVRandomAug | None = found.get(HSVRandomAug)
        self.mix: MixUp | None = found.get(MixUp)
        self.place = [found[kind] for kind in (RandomFlip, Pad) if kind in found]
        self.fill = found[Pad].fill if Pad in found else 0
        self.window = self.mix.window if self.mix is not None else 0

    def reaches(self, reach: Reach) -> list[Reach]:
        """As the transforms in whose place it stands."""
        ways = reaches_after([*self.place, *([] if self.mix is None else [self.mix])], [reach])
        assert ways is not None  # all of KNOWN say
        return ways

    def __call__(self, sample: Sample, ctx: Context) -> Sample:
        channels = channels_of(self.color)
        if sample.channels != channels:
            raise UserError(
                f"LeaveToDevice: {sample.file_name} came as a picture of {sample.channels} channel(s), not of "
                f"{channels}; mend the transforms before it, or set another color"
            )
        shifts = (0, 0, 0) if self.colours is None else self.colours.draw(ctx)
        if shifted := any(shifts):
            render(sample)  # the picture whose colours are shifted; what follows moves it as a whole
        if channels == 1:
            shifts = (0, 0, shifts[2])
        for transform in self.place:
            sample = transform(sample, ctx)
        drawn = None if self.mix is None else self.mix.draw(sample, ctx)
        picture, mirror = _moved(sample) if shifted else (render(sample), (False, False))
        height, width = picture.shape[:2]
        left = Unfinished(sample.canvas, (height, width), self.color, shifts, mirror, self.fill)
        if drawn is not None:
            partner, left.share = drawn
            left.partner = _tensor(render(partner), partner.canvas)
            join(sample, partner)
        sample.tensor, sample.unfinished = _tensor(picture, sample.canvas), left
        return sample


def _moved(sample: Sample) -> tuple[Image, tuple[bool, bool]]:
    """The picture that lies top left on the sample's canvas, and how it is mirrored there (left-right, up-down)."""
    tile = sample.tiles[0]
    return tile.source.pixels(), (tile.sx < 0, tile.sy < 0)


def _tensor(picture: Image, canvas: tuple[int, int]) -> Tensor:
    """(C, H, W) of the canvas, the picture top left, in channels-last memory; writable."""
    if picture.shape[:2] != canvas:
        whole = np.zeros((*canvas, picture.shape[2]), np.uint8)
        whole[: picture.shape[0], : picture.shape[1]] = picture
        picture = whole
    elif not picture.flags.writeable or not picture.flags.c_contiguous:  # part of a cached image
        picture = picture.copy()
    return torch.from_numpy(picture).permute(2, 0, 1)
