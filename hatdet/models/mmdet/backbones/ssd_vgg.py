"""VGG (arXiv 1409.1556) as SSD has it (arXiv 1512.02325)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from hatdet.models.feature_info import FeatureInfo
from hatdet.models.mmdet.backbones.staged import first_weights
from hatdet.models.mmdet.layers.init import initialize
from hatdet.registry import register
from hatdet.utils.annotations import Spec

_KAIMING: list[Spec] = [
    {"type": "Kaiming", "layer": "Conv2d"},
    {"type": "Constant", "val": 1, "layer": "BatchNorm2d"},
]


@register(scope="mmdet")
class SSDVGG(nn.Module):
    """(B, 3, H, W) -> tuple of the maps after the layers ``out_feature_indices`` of ``features``.

    Five stages of 3x3 convolutions with 64, 128, 256, 512, 512 channels, a 2x2 max pool after each; then the fully
    connected layers as convolutions: a 3x3 max pool of stride 1, 3x3 with dilation 6 to 1024 channels, 1x1.

    Args:
        depth: layers of VGG: 11, 13, 16 or 19.
        with_last_pool: the pool after the fifth stage.
        ceil_mode: the pools round sizes up.
        out_indices: without meaning beside ``out_feature_indices``.
        out_feature_indices: layers (convolution, ReLU and pool are one each) whose outputs are returned; 22 and 34
            of depth 16 are ``conv4_3`` and ``fc7``.
        pretrained: checkpoint to begin with, a short form of ``init_cfg``.
        input_size, l2_norm_scale: of old configs, without meaning: SSDNeck has the scale.

    Raises:
        ValueError: another depth, or a layer that does not exist.
    """

    arch_settings = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}

    def __init__(
        self,
        depth: int,
        with_last_pool: bool = False,
        ceil_mode: bool = True,
        out_indices: Sequence[int] = (3, 4),
        out_feature_indices: Sequence[int] = (22, 34),
        pretrained: str | None = None,
        init_cfg: Spec | list[Any] | None = None,
        input_size: int | None = None,
        l2_norm_scale: float | None = None,
    ) -> None:
        super().__init__()
        if depth not in self.arch_settings:
            raise ValueError(f"depth={depth}; VGG has the depths {', '.join(map(str, self.arch_settings))}")
        layers: list[nn.Module] = []
        infos, channels, stride = [], 3, 1  # channels and stride after each layer

        def add(layer: nn.Module) -> None:
            layers.append(layer)
            infos.append((channels, stride))

        for i, count in enumerate(self.arch_settings[depth]):
            for _ in range(count):
                width = 64 * 2 ** min(i, 3)
                channels, previous = width, channels
                add(nn.Conv2d(previous, width, 3, padding=1))
                add(nn.ReLU(inplace=True))
            if i < 4 or with_last_pool:
                stride *= 2
                add(nn.MaxPool2d(2, 2, ceil_mode=ceil_mode))
        add(nn.MaxPool2d(3, 1, padding=1))
        channels = 1024
        for conv in (nn.Conv2d(512, 1024, 3, padding=6, dilation=6), nn.Conv2d(1024, 1024, 1)):
            add(conv)
            add(nn.ReLU(inplace=True))
        wrong = [index for index in out_feature_indices if not 0 <= index < len(layers)]
        if wrong or not out_feature_indices:
            there = f"VGG-{depth} has the layers 0 to {len(layers) - 1}"
            raise ValueError(f"out_feature_indices={list(out_feature_indices)}, but {there}")
        self.features = nn.Sequential(*layers)
        self.out_feature_indices = tuple(out_feature_indices)
        used = sorted(set(out_feature_indices))
        # A ReLU writes into the output of its convolution, so that who asks for the latter gets the former.
        self._last = used[-1] + (isinstance(layers[min(used[-1] + 1, len(layers) - 1)], nn.ReLU))
        self.feature_info = FeatureInfo(tuple(infos[i][0] for i in used), tuple(infos[i][1] for i in used))
        initialize(self, first_weights(pretrained, init_cfg, _KAIMING))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        maps = []
        for i, layer in enumerate(self.features):
            if i > self._last:
                break
            x = layer(x)
            if i in self.out_feature_indices:
                maps.append(x)
        return tuple(maps)
