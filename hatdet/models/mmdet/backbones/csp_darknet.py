"""CSPDarknet of YOLOX (arXiv 2107.08430) and CSPNeXt of RTMDet (arXiv 2212.07784)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal

from torch import nn

from hatdet.models.mmdet.backbones.staged import Staged
from hatdet.models.mmdet.layers.conv import ConvModule
from hatdet.models.mmdet.layers.csp.csp_layer import CSPLayer, conv_class
from hatdet.models.mmdet.layers.csp.defaults import AS_TORCH, SILU, SWISH, YOLO_BN
from hatdet.models.mmdet.layers.csp.stem import Focus, SPPBottleneck
from hatdet.models.mmdet.layers.init import initialize
from hatdet.registry import register
from hatdet.utils.annotations import AsWritten, Spec

Arch = Sequence[tuple[int, int, int, bool, bool]]
"""Of each stage: channels in and out, blocks, whether these add their input, whether a pyramid of pools is before."""


def _arch(deep: int, six: bool) -> Arch:
    coarsest = [(512, 768, 3, True, False), (768, 1024, 3, False, True)] if six else [(512, 1024, 3, False, True)]
    return [(64, 128, 3, True, False), (128, 256, deep, True, False), (256, 512, deep, True, False), *coarsest]


class _CSP(Staged):
    """Stem and stages: a convolution with stride 2, perhaps :class:`SPPBottleneck`, a :class:`CSPLayer`."""

    def _stages(
        self, arch: Arch, deepen: float, widen: float, stem: nn.Module, conv: Callable[..., nn.Module],
        pools: Sequence[int], csp: dict[str, Any], parts: dict[str, Any],
    ) -> list[tuple[str, int, int]]:  # fmt: skip
        self.stem = stem
        stages = [("stem", int(arch[0][0] * widen), 2)]
        for i, (fan_in, fan_out, blocks, add_identity, with_pools) in enumerate(arch):
            inputs, outputs = int(fan_in * widen), int(fan_out * widen)
            layers = [conv(inputs, outputs, 3, stride=2, padding=1, **parts)]
            if with_pools:
                layers.append(SPPBottleneck(outputs, outputs, kernel_sizes=pools, **parts))
            count = max(round(blocks * deepen), 1)
            layers.append(CSPLayer(outputs, outputs, num_blocks=count, add_identity=add_identity, **csp, **parts))
            self.add_module(f"stage{i + 1}", nn.Sequential(*layers))
            stages.append((f"stage{i + 1}", outputs, 4 * 2**i))
        return stages


@register(scope="mmdet")
class CSPDarknet(_CSP):
    """(B, 3, H, W) -> maps of ``stem``, ``stage1``, ... at strides 2, 4, ...

    Args:
        arch: ``P5`` (strides up to 32) or ``P6`` (up to 64).
        deepen_factor, widen_factor: of blocks and of channels.
        out_indices: what is returned; 0 is the stem.
        frozen_stages: -1: none; n: stem and stages 1 to n keep weights and statistics.
        use_depthwise: depthwise separable 3x3 convolutions.
        arch_ovewrite: stages in the place of ``arch``'s: channels in and out, blocks, identity, pools.
        spp_kernal_sizes: sides of the pools of the last stage.
        conv_cfg, norm_cfg, act_cfg: see :class:`ConvModule`.
        norm_eval: batch norms keep the statistics they were loaded with, in training too.

    Raises:
        ValueError: stages that do not exist.
    """

    arch_settings = {"P5": _arch(9, six=False), "P6": _arch(9, six=True)}

    def __init__(
        self,
        arch: Literal["P5", "P6"] = "P5",
        deepen_factor: float = 1.0,
        widen_factor: float = 1.0,
        out_indices: Sequence[int] = (2, 3, 4),
        frozen_stages: int = -1,
        use_depthwise: bool = False,
        arch_ovewrite: Annotated[list[Any], AsWritten] | None = None,
        spp_kernal_sizes: Sequence[int] = (5, 9, 13),
        conv_cfg: Spec | None = None,
        norm_cfg: Spec | None = YOLO_BN,
        act_cfg: Spec | None = SWISH,
        norm_eval: bool = False,
        init_cfg: Spec | list[Any] | None = AS_TORCH,
    ) -> None:
        super().__init__()
        setting = arch_ovewrite or self.arch_settings[arch]
        parts: dict[str, Any] = {"conv_cfg": conv_cfg, "norm_cfg": norm_cfg, "act_cfg": act_cfg}
        stem = Focus(3, int(setting[0][0] * widen_factor), kernel_size=3, **parts)
        stages = self._stages(
            setting, deepen_factor, widen_factor, stem, conv_class(use_depthwise), spp_kernal_sizes,
            {"use_depthwise": use_depthwise}, parts,
        )  # fmt: skip
        self._staged(stages, out_indices, frozen_stages + 1, norm_eval)
        initialize(self, init_cfg)


@register(scope="mmdet")
class CSPNeXt(_CSP):
    """(B, 3, H, W) -> maps of ``stem`` (three convolutions), ``stage1``, ... at strides 2, 4, ...

    Args:
        expand_ratio: width of the branches of each layer, see :class:`CSPLayer`.
        spp_kernel_sizes: sides of the pools of the last stage.
        channel_attention: in each layer, see :class:`CSPLayer`.

    The others are those of :class:`CSPDarknet`.

    Raises:
        ValueError: stages that do not exist.
    """

    arch_settings = {"P5": _arch(6, six=False), "P6": _arch(6, six=True)}

    def __init__(
        self,
        arch: Literal["P5", "P6"] = "P5",
        deepen_factor: float = 1.0,
        widen_factor: float = 1.0,
        out_indices: Sequence[int] = (2, 3, 4),
        frozen_stages: int = -1,
        use_depthwise: bool = False,
        expand_ratio: float = 0.5,
        arch_ovewrite: Annotated[list[Any], AsWritten] | None = None,
        spp_kernel_sizes: Sequence[int] = (5, 9, 13),
        channel_attention: bool = True,
        conv_cfg: Spec | None = None,
        norm_cfg: Spec | None = YOLO_BN,
        act_cfg: Spec | None = SILU,
        norm_eval: bool = False,
        init_cfg: Spec | list[Any] | None = AS_TORCH,
    ) -> None:
        super().__init__()
        setting = arch_ovewrite or self.arch_settings[arch]
        width, half = int(setting[0][0] * widen_factor), int(setting[0][0] * widen_factor // 2)
        plain: dict[str, Any] = {"padding": 1, "norm_cfg": norm_cfg, "act_cfg": act_cfg}
        stem = nn.Sequential(
            ConvModule(3, half, 3, stride=2, **plain),
            ConvModule(half, half, 3, **plain),
            ConvModule(half, width, 3, **plain),
        )
        csp: dict[str, Any] = {
            "use_depthwise": use_depthwise, "use_cspnext_block": True, "expand_ratio": expand_ratio,
            "channel_attention": channel_attention,
        }  # fmt: skip
        parts: dict[str, Any] = {"conv_cfg": conv_cfg, "norm_cfg": norm_cfg, "act_cfg": act_cfg}
        stages = self._stages(
            setting, deepen_factor, widen_factor, stem, conv_class(use_depthwise), spp_kernel_sizes, csp, parts
        )
        self._staged(stages, out_indices, frozen_stages + 1, norm_eval)
        initialize(self, init_cfg)
