"""The backbone of TridentNet (arXiv 1901.01892): a last stage of branches that share weights, not dilations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hatdet.models.mmdet.backbones.resnet.blocks import Bottleneck
from hatdet.models.mmdet.backbones.resnet.resnet import BN, Flags, Init, Ints, Plugins, ResNet, deep
from hatdet.models.mmdet.backbones.resnet.stages import Stage
from hatdet.models.mmdet.layers.res_layer import BN as PLAIN_BN
from hatdet.registry import register
from hatdet.utils.annotations import Spec


class TridentConv(nn.Module):
    """One 3x3 convolution at several dilations.

    Args:
        channels: in and out.
        stride: of the convolution.
        dilations: of the branches, also their padding.
    """

    def __init__(self, channels: int, stride: int, dilations: Sequence[int]) -> None:
        super().__init__()
        self.stride, self.dilations = stride, tuple(dilations)
        self.weight = nn.Parameter(torch.empty(channels, channels, 3, 3))
        nn.init.kaiming_uniform_(self.weight, mode="fan_in", nonlinearity="relu")

    def forward(self, x: Tensor, branch: int) -> Tensor:
        """(B, C, H, W) -> (B, C, H', W') of one branch."""
        dilation = self.dilations[branch]
        return F.conv2d(x, self.weight, None, self.stride, dilation, dilation)


class TridentBottleneck(Bottleneck):
    """A bottleneck for a list of branches; other arguments: :class:`Bottleneck`.

    Args:
        trident_dilations: of the branches.
        test_branch_idx: the only one in evaluation; -1: all of them.
    """

    def __init__(
        self,
        inplanes: int,
        planes: int,
        stride: int = 1,
        dilation: int = 1,
        downsample: nn.Module | None = None,
        style: str = "pytorch",
        with_cp: bool = False,
        conv_cfg: Mapping[str, Any] | None = None,
        norm_cfg: Mapping[str, Any] = PLAIN_BN,
        dcn: Mapping[str, Any] | None = None,
        plugins: Sequence[Mapping[str, Any]] | None = None,
        trident_dilations: Sequence[int] = (1, 2, 3),
        test_branch_idx: int = 1,
    ) -> None:
        self.trident_dilations, self.test_branch_idx, self.concat_output = trident_dilations, test_branch_idx, False
        super().__init__(
            inplanes, planes, stride, dilation, downsample, style, with_cp, conv_cfg, norm_cfg, dcn, plugins
        )

    def _make_middle(self, width: int, dcn: Mapping[str, Any] | None) -> None:
        self.conv2 = TridentConv(width, self.conv2_stride, self.trident_dilations)
        self._add_norm(2, width)

    def _branches(self) -> list[int]:
        if self.training or self.test_branch_idx == -1:
            return list(range(len(self.trident_dilations)))
        return [self.test_branch_idx]

    def _of_branch(self, branch: int, x: Tensor) -> Tensor:
        out = self._plugged("after_conv1", self.relu1(self.norm1(self.conv1(x))))
        out = self._plugged("after_conv2", self.relu2(self.norm2(self.conv2(out, branch))))
        out = self._plugged("after_conv3", self.norm3(self.conv3(out)))
        return out + self._identity(x)

    def forward(self, x: Tensor | list[Tensor]) -> Tensor | list[Tensor]:  # type: ignore[override]
        """A map, or one of each branch -> one of each branch, or all of them in one batch, branch after branch."""
        branches = self._branches()
        given = x if isinstance(x, list) else [x] * len(branches)
        outs = [
            self.relu3(self._saving(partial(self._of_branch, branch), one))
            for branch, one in zip(branches, given)
        ]
        return torch.cat(outs) if self.concat_output else outs


@register(scope="mmdet")
class TridentResNet(ResNet):
    """ResNet whose third and last stage has branches; other arguments: :class:`ResNet`.

    In training its map has ``num_branch`` times the batch, branch after branch.

    Args:
        depth: 50, 101 or 152.
        num_branch: how many branches.
        test_branch_idx: the only one in evaluation; -1: all of them.
        trident_dilations: of the branches.
    """

    arch_settings = deep(Bottleneck)

    def __init__(
        self, depth: int, num_branch: int, test_branch_idx: int, trident_dilations: Ints, in_channels: int = 3,
        stem_channels: int | None = None, base_channels: int = 64, num_stages: int = 3, strides: Ints = (1, 2, 2),
        dilations: Ints = (1, 1, 1), out_indices: Ints = (2,), style: str = "pytorch", deep_stem: bool = False,
        avg_down: bool = False, frozen_stages: int = -1, conv_cfg: Spec | None = None, norm_cfg: Spec = BN,
        norm_eval: bool = True, dcn: Spec | None = None, stage_with_dcn: Flags = (False, False, False),
        plugins: Plugins | None = None, with_cp: bool = False, zero_init_residual: bool = True,
        pretrained: str | None = None, init_cfg: Init = None,
    ) -> None:  # fmt: skip
        if num_branch != len(trident_dilations) or not -1 <= test_branch_idx < num_branch:
            raise ValueError(
                f"num_branch={num_branch}, test_branch_idx={test_branch_idx}, {len(trident_dilations)} "
                "trident_dilations: give a dilation for each branch, and one of them (or -1, all) for tests"
            )
        if num_stages != 3:
            raise ValueError(f"num_stages={num_stages}: the branches are the third and last stage; write 3")
        self._branches = {"trident_dilations": tuple(trident_dilations), "test_branch_idx": test_branch_idx}
        super().__init__(
            depth, in_channels, stem_channels, base_channels, num_stages, strides, dilations, out_indices, style,
            deep_stem, avg_down, frozen_stages, conv_cfg, norm_cfg, norm_eval, dcn, stage_with_dcn, plugins, with_cp,
            zero_init_residual, pretrained, init_cfg,
        )  # fmt: skip
    def _stage(self, index: int, stage: Stage) -> Stage:
        return stage if index < 2 else replace(stage, block=TridentBottleneck, dilation=1, options=self._branches)

    def _make_stage(self, stage: Stage, inplanes: int, index: int, avg_down: bool, **options: Any) -> nn.Sequential:
        layer = super()._make_stage(stage, inplanes, index, avg_down and index < 2, **options)
        if isinstance(layer[-1], TridentBottleneck):
            layer[-1].concat_output = True
        return layer
