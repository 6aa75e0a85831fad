"""Several necks, one after the other."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from hatdet.registry import register


@register(scope="mmdet")
class NeckSequence(nn.Sequential):
    """What a list of necks in a config is (``neck=[dict(type="FPN"), dict(type="DyHead")]``): a row of them.

    Args:
        necks: each takes the feature maps that the one before gives.
    """

    def __init__(self, *, necks: Sequence[nn.Module]) -> None:
        super().__init__(*necks)
