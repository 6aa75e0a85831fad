"""What a sample's transforms leave to the training device, and the same of a batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hatdet.utils.errors import UserError


@dataclass(slots=True)
class Unfinished:
    """Drawn for one sample, in the order in which it is done to its tensor (C, H, W) of blue, green, red, or gray.

    ``canvas`` (H, W); ``shifts`` of hue, saturation and value, (0, 0, 0): none; ``size`` (h, w) of the picture, which
    lies top left, and ``mirror`` (left-right, up-down) inside it; ``fill`` is the level outside; ``partner`` uint8
    (C, H, W), the second picture of MixUp, ``share`` that of the first; ``color`` as in ToTensor.
    """

    canvas: tuple[int, int]
    size: tuple[int, int]
    color: str
    shifts: tuple[int, int, int] = (0, 0, 0)
    mirror: tuple[bool, bool] = (False, False)
    fill: int = 0
    partner: Tensor | None = None
    share: float = 1.0


def join(samples: Sequence[Unfinished], size: Sequence[int]) -> dict[str, Any]:
    """Of a batch of pictures of ``size`` (H, W): what is to be done to which rows of it.

    Returns a dict: ``color`` and ``fill``; ``shift_rows`` int64 (n,), the pictures whose colours are shifted, with
    ``shifts`` int64 (n, 3); ``place_rows`` (m,), those that are mirrored or smaller than the batch, with ``mirror``
    bool (m, 2) and ``sizes`` int64 (m, 2); ``mix_rows`` (k,), those of MixUp, with ``shares`` float32 (k, 2), of both,
    and ``partners`` uint8 (k, C, H, W) in channels-last memory.
    """
    if {(one.canvas, one.color, one.fill) for one in samples} != {(tuple(size), samples[0].color, samples[0].fill)}:
        raise UserError(
            "LeaveToDevice: got samples of different colours, fill levels or sizes in a batch; give all data sets of a "
            "training the same ToTensor and Pad"
        )
    shifted = [i for i, one in enumerate(samples) if any(one.shifts)]
    placed = [i for i, one in enumerate(samples) if any(one.mirror) or one.size != tuple(size)]
    mixed = [i for i, one in enumerate(samples) if one.partner is not None]
    shares = np.array([(samples[i].share, 1 - samples[i].share) for i in mixed], np.float32).reshape(-1, 2)
    return {
        "color": samples[0].color,
        "fill": samples[0].fill,
        "shift_rows": _whole(shifted),
        "shifts": _whole([samples[i].shifts for i in shifted]).reshape(-1, 3),
        "place_rows": _whole(placed),
        "mirror": _whole([samples[i].mirror for i in placed]).reshape(-1, 2).bool(),
        "sizes": _whole([samples[i].size for i in placed]).reshape(-1, 2),
        "mix_rows": _whole(mixed),
        "shares": torch.from_numpy(shares),
        "partners": _stacked([one.partner for one in samples if one.partner is not None]),
    }


def _whole(numbers: Sequence[Any]) -> Tensor:
    return torch.tensor(numbers, dtype=torch.int64)


def _stacked(pictures: Sequence[Tensor]) -> Tensor:
    if not pictures:
        return torch.zeros((0, 1, 1, 1), dtype=torch.uint8)
    stacked = torch.empty((len(pictures), *pictures[0].shape), dtype=torch.uint8, memory_format=torch.channels_last)
    if torch.utils.data.get_worker_info() is not None:
        stacked.share_memory_()  # as Collate2D does with the pictures
    for row, picture in zip(stacked, pictures, strict=True):
        row.copy_(picture)
    return stacked
