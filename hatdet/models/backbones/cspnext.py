"""CSPNeXt, the backbone of RTMDet (arXiv 2212.07784, section 3.2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from hatdet.models.backbones.freezing import StagedBackbone
from hatdet.models.feature_info import FeatureInfo
from hatdet.models.layers.conv import ConvModule, conv_class
from hatdet.models.layers.csp import CSPLayer
from hatdet.models.layers.spp import SPP, Pooling
from hatdet.registry import register


@dataclass(frozen=True)
class _Stage:
    in_channels: int
    out_channels: int
    num_blocks: int
    add_identity: bool = True
    use_spp: bool = False


_P5_STAGES = (_Stage(64, 128, 3), _Stage(128, 256, 6), _Stage(256, 512, 6), _Stage(512, 1024, 3, False, True))
_P6_STAGES = (
    _Stage(64, 128, 3),
    _Stage(128, 256, 6),
    _Stage(256, 512, 6),
    _Stage(512, 768, 3),
    _Stage(768, 1024, 3, False, True),
)
_P4_STAGES = (_Stage(64, 128, 3), _Stage(128, 256, 6), _Stage(256, 512, 6, False, True))
_ARCHITECTURES = {"P4": _P4_STAGES, "P5": _P5_STAGES, "P6": _P6_STAGES}


@register
class CSPNeXt(StagedBackbone):
    """Stem of three 3x3 convolutions, then stages of a stride-2 convolution and a :class:`CSPLayer`.

    (B, in_channels, H, W), H and W multiples of the largest stride -> tuple of the maps of ``out_indices``;
    ``feature_info`` has their channels and strides. P5: stages 1-4 at strides 4, 8, 16, 32 with 128, 256,
    512, 1024 times ``widen_factor`` channels.

    Args:
        arch: "P5", "P6" (one stage more) or "P4" (one less: for inputs of 96 to 256 px, whose maps at stride 32 are
            small).
        deepen_factor: multiplies the number of blocks (3, 6, 6, 3), rounded, at least 1.
        widen_factor: multiplies the channels.
        max_channels: no stage has more than these; None: as many as ``widen_factor`` says. In narrow networks most
            parameters sit in the coarsest maps, where small objects gain nothing from them.
        expand_ratio: see :class:`CSPLayer`.
        out_indices: stages returned (0 is the stem).
        use_depthwise: depthwise separable convolutions in place of the dense 3x3 ones (not in the stem).
        channel_attention: channel attention in each stage.
        spp_kernel_sizes: pools of the SPP in the last stage.
        spp_pooling: how these are computed, see :class:`SPP`.
        activation: class name of ``torch.nn``.
        frozen_stages: -1: none; 0: the stem; n: the stem and stages 1 to n keep their weights and statistics.
        norm_eval: no batch norm of the backbone moves its statistics.
        in_channels: of the images.

    Raises:
        ValueError: an unknown architecture or activation, or a stage that does not exist.
    """

    def __init__(
        self,
        *,
        arch: str = "P5",
        deepen_factor: float = 1.0,
        widen_factor: float = 1.0,
        max_channels: int | None = None,
        expand_ratio: float = 0.5,
        out_indices: Sequence[int] = (2, 3, 4),
        use_depthwise: bool = False,
        channel_attention: bool = True,
        spp_kernel_sizes: Sequence[int] = (5, 9, 13),
        spp_pooling: Pooling = "chained",
        activation: str = "SiLU",
        frozen_stages: int = -1,
        norm_eval: bool = False,
        in_channels: int = 3,
    ) -> None:
        super().__init__()
        stages = _stages(arch, out_indices)
        if not -1 <= frozen_stages <= len(stages):
            raise ValueError(f"frozen_stages is between -1 and {len(stages)}, got {frozen_stages}")

        def width(channels: int) -> int:
            wanted = int(channels * widen_factor)
            return wanted if max_channels is None else min(wanted, max_channels)

        stem, half = width(stages[0].in_channels), int(stages[0].in_channels * widen_factor // 2)
        self.stem = nn.Sequential(
            ConvModule(in_channels, half, 3, stride=2, activation=activation),
            ConvModule(half, half, 3, activation=activation),
            ConvModule(half, stem, 3, activation=activation),
        )
        self.stage_names = ["stem"]
        for number, stage in enumerate(stages, start=1):
            channels = width(stage.out_channels)
            layers: list[nn.Module] = [
                conv_class(use_depthwise)(width(stage.in_channels), channels, 3, stride=2, activation=activation)
            ]
            if stage.use_spp:
                sizes = spp_kernel_sizes
                layers.append(SPP(channels, channels, kernel_sizes=sizes, pooling=spp_pooling, activation=activation))
            layers.append(
                CSPLayer(
                    channels,
                    channels,
                    expand_ratio=expand_ratio,
                    num_blocks=max(round(stage.num_blocks * deepen_factor), 1),
                    add_identity=stage.add_identity,
                    use_depthwise=use_depthwise,
                    channel_attention=channel_attention,
                    activation=activation,
                )
            )
            self.add_module(f"stage{number}", nn.Sequential(*layers))
            self.stage_names.append(f"stage{number}")
        all_channels = (stem, *(width(stage.out_channels) for stage in stages))
        self.in_channels, self.out_indices = in_channels, tuple(out_indices)
        self.feature_info = FeatureInfo(
            channels=tuple(all_channels[i] for i in self.out_indices),
            strides=tuple(2 ** (i + 1) for i in self.out_indices),
        )
        self.set_stages([(name,) for name in self.stage_names], frozen_stages + 1, norm_eval)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        maps = []
        for name in self.stage_names:
            x = self.get_submodule(name)(x)
            maps.append(x)
        return tuple(maps[i] for i in self.out_indices)


def _stages(arch: str, out_indices: Sequence[int]) -> tuple[_Stage, ...]:
    if arch not in _ARCHITECTURES:
        raise ValueError(f"unknown arch {arch!r}; write one of {', '.join(_ARCHITECTURES)}")
    stages = _ARCHITECTURES[arch]
    if not out_indices or any(not 0 <= i <= len(stages) for i in out_indices):
        raise ValueError(
            f"out_indices are stages from 0 (the stem) to {len(stages)} for arch {arch}, got {list(out_indices)}"
        )
    return stages
