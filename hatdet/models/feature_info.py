"""What a network tells about the feature maps it returns."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class FeatureInfo:
    """The maps in the order returned: ``channels[i]`` channels at one position each ``strides[i]`` pixels."""

    channels: tuple[int, ...]
    strides: tuple[int, ...]
