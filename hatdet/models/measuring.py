"""Maps of parts that do not describe themselves (a user's backbone, neck or head): found out by running a copy once."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from hatdet.models.feature_info import FeatureInfo

SIDE = 256
"""Of the square image that is tried; a multiple of all usual strides."""


@torch.no_grad()
def maps_of(part: nn.Module, given: Any) -> tuple[Tensor, ...]:
    """What a copy of ``part`` gives in evaluation mode; the part and the random state stay as they are.

    Raises:
        Exception: whatever its forward raises.
    """
    with torch.random.fork_rng(devices=[]):
        found = copy.deepcopy(part).cpu().eval()(given)
    return (found,) if isinstance(found, Tensor) else tuple(found)


def backbone_maps(backbone: nn.Module, channels: Sequence[int]) -> tuple[Tensor, ...] | None:
    """The maps of a black image, of the first of these numbers of channels that works; None: it cannot be tried."""
    for count in channels:
        try:
            maps = maps_of(backbone, torch.zeros(1, count, SIDE, SIDE))
        except Exception:  # a forward that wants something else: whoever runs it will say what
            continue
        if maps and all(isinstance(m, Tensor) and m.dim() == 4 and m.shape[2] and m.shape[3] for m in maps):
            return maps
    return None


def info_of(maps: Sequence[Tensor]) -> FeatureInfo:
    """Channels and strides of maps of that image."""
    return FeatureInfo(tuple(int(m.shape[1]) for m in maps), tuple(round(SIDE / m.shape[2]) for m in maps))
