"""HRNet (arXiv 1908.07919): maps of four sizes side by side, from the first to the last layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from torch import Tensor, nn

from hatdet.models.backbones.freezing import keep_frozen
from hatdet.models.feature_info import FeatureInfo
from hatdet.models.mmdet.backbones.resnet.blocks import BasicBlock, Block, Bottleneck
from hatdet.models.mmdet.backbones.resnet.stages import KAIMING
from hatdet.models.mmdet.layers.conv import build_conv
from hatdet.models.mmdet.layers.init import InitCfg, constant_init, initialize
from hatdet.models.mmdet.layers.norm import build_norm, norm_name
from hatdet.models.mmdet.layers.res_layer import ResLayer
from hatdet.registry import register
from hatdet.utils.annotations import AsWritten, Spec

BLOCKS: dict[str, type[BasicBlock] | type[Bottleneck]] = {"BASIC": BasicBlock, "BOTTLENECK": Bottleneck}
_BN: Spec = {"type": "BN"}


class _Made:
    """Layers of one kind of convolution and normalization."""

    def __init__(self, conv_cfg: Mapping[str, Any] | None, norm_cfg: Mapping[str, Any], with_cp: bool) -> None:
        self.conv_cfg, self.norm_cfg, self.with_cp = conv_cfg, norm_cfg, with_cp

    def conv(self, inputs: int, outputs: int, side: int = 3, stride: int = 1) -> nn.Module:
        return build_conv(self.conv_cfg, inputs, outputs, side, stride=stride, padding=side // 2, bias=False)

    def conv_norm(self, inputs: int, outputs: int, side: int = 3, stride: int = 1) -> list[nn.Module]:
        return [self.conv(inputs, outputs, side, stride), build_norm(self.norm_cfg, outputs)]

    def blocks(self, block: Any, inputs: int, planes: int, count: int) -> ResLayer:
        return ResLayer(
            block, inputs, planes, count, conv_cfg=self.conv_cfg, norm_cfg=self.norm_cfg, with_cp=self.with_cp
        )


class HRModule(nn.Module):
    """Blocks in each branch, then every branch gets the sum of all, each brought to its size.

    State: ``branches``, ``fuse_layers``.

    Args:
        made: what layers are made of.
        block, num_blocks, planes: of the branches.
        in_channels: of the maps that come in.
        outputs: how many sums.
    """

    def __init__(
        self,
        made: _Made,
        block: Any,
        num_blocks: Sequence[int],
        planes: Sequence[int],
        in_channels: Sequence[int],
        outputs: int,
    ) -> None:
        super().__init__()
        channels = [count * block.expansion for count in planes]
        self.branches = nn.ModuleList(
            made.blocks(block, inputs, count, blocks) for inputs, count, blocks in zip(in_channels, planes, num_blocks)
        )
        self.fuse_layers = nn.ModuleList(
            nn.ModuleList(_fused(made, channels, j, i) for j in range(len(channels))) for i in range(outputs)
        )
        self.relus = nn.ModuleList(nn.ReLU() for _ in range(outputs))

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """Maps of the branches, finest first -> the same, or the first of them."""
        maps = [branch(x) for branch, x in zip(self.branches, maps)]
        if len(maps) == 1:
            return maps
        sums = []
        for layers, relu in zip(self.fuse_layers, self.relus):
            assert isinstance(layers, nn.ModuleList)
            brought = [layer(x) for layer, x in zip(layers, maps)]
            sums.append(relu(sum(brought[1:], brought[0])))
        return sums


def _fused(made: _Made, channels: Sequence[int], source: int, target: int) -> nn.Module:
    """From the size and channels of one branch to those of another."""
    if source == target:
        return nn.Identity()
    inputs, outputs = channels[source], channels[target]
    if source > target:
        larger = nn.Upsample(scale_factor=2 ** (source - target), mode="nearest")
        return nn.Sequential(*made.conv_norm(inputs, outputs, 1), larger)
    steps = [nn.Sequential(*made.conv_norm(inputs, inputs, stride=2), nn.ReLU()) for _ in range(target - source - 1)]
    return nn.Sequential(*steps, nn.Sequential(*made.conv_norm(inputs, outputs, stride=2)))


@register(scope="mmdet")
class HRNet(nn.Module):
    """HRNet. State: ``conv1``, ``bn1``, ``conv2``, ``bn2``, ``layer1``, ``transition1``, ``stage2``, ...

    Args:
        extra: ``stage1`` to ``stage4``, each a dict of ``num_modules``, ``num_branches``, ``block`` (``BASIC`` or
            ``BOTTLENECK``), ``num_blocks`` and ``num_channels`` of each branch.
        in_channels: of the image.
        conv_cfg, norm_cfg: of convolutions and normalization.
        norm_eval: batch norms keep their statistics in training.
        with_cp: compute the inside of blocks twice, to save memory.
        zero_init_residual: blocks begin as the identity.
        multiscale_output: give all maps; False: the finest.
        pretrained: a checkpoint, as ``init_cfg=dict(type="Pretrained", checkpoint=pretrained)``.
        init_cfg: of first weights; None: He's.

    Attributes:
        feature_info: channels and strides of the maps.
    """

    def __init__(
        self,
        extra: Spec,
        in_channels: int = 3,
        conv_cfg: Spec | None = None,
        norm_cfg: Spec = _BN,
        norm_eval: bool = True,
        with_cp: bool = False,
        zero_init_residual: bool = False,
        multiscale_output: bool = True,
        pretrained: str | None = None,
        init_cfg: Annotated[InitCfg, AsWritten] = None,
    ) -> None:
        super().__init__()
        _check(extra)
        if init_cfg is not None and pretrained is not None:
            raise ValueError("init_cfg and pretrained both say the first weights; leave pretrained out")
        self.norm_eval, self._norms = norm_eval, (norm_name(norm_cfg, 1), norm_name(norm_cfg, 2))
        made = _Made(conv_cfg, norm_cfg, with_cp)
        self.conv1, self.conv2 = made.conv(in_channels, 64, stride=2), made.conv(64, 64, stride=2)
        for name in self._norms:
            self.add_module(name, build_norm(norm_cfg, 64))
        self.relu1, self.relu2 = nn.ReLU(inplace=True), nn.ReLU(inplace=True)
        first = extra["stage1"]
        block, planes = BLOCKS[first["block"]], first["num_channels"][0]
        self.layer1 = made.blocks(block, 64, planes, first["num_blocks"][0])
        channels = [planes * block.expansion]
        for number in (2, 3, 4):
            stage = extra[f"stage{number}"]
            own = [count * BLOCKS[stage["block"]].expansion for count in stage["num_channels"]]
            self.add_module(f"transition{number - 1}", _transition(made, channels, own))
            self.add_module(f"stage{number}", _stage(made, stage, own, multiscale_output or number < 4))
            channels = own
        given = len(channels) if multiscale_output else 1
        self.feature_info = FeatureInfo(tuple(channels[:given]), tuple(4 * 2**i for i in range(given)))
        if pretrained is not None:
            init_cfg = {"type": "Pretrained", "checkpoint": pretrained}
        initialize(self, KAIMING if init_cfg is None else init_cfg)
        if init_cfg is None and zero_init_residual:
            for module in self.modules():
                if isinstance(module, Block):
                    constant_init(module.last_norm, 0)

    def train(self, mode: bool = True) -> HRNet:
        """Training mode, but for the statistics that are kept."""
        super().train(mode)
        keep_frozen(self, (), mode and self.norm_eval)
        return self

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """(B, C, H, W) -> maps (B, C_i, H_i, W_i), finest first."""
        x = self.relu1(getattr(self, self._norms[0])(self.conv1(x)))
        x = self.relu2(getattr(self, self._norms[1])(self.conv2(x)))
        maps = [self.layer1(x)]
        for number in (2, 3, 4):
            layers = getattr(self, f"transition{number - 1}")
            # A new branch comes from the coarsest map that is there.
            maps = [layer(maps[min(i, len(maps) - 1)]) for i, layer in enumerate(layers)]
            maps = getattr(self, f"stage{number}")(maps)
        return tuple(maps)


def _check(extra: Mapping[str, Any]) -> None:
    for name in ("stage1", "stage2", "stage3", "stage4"):
        stage = extra.get(name)
        if stage is None:
            raise ValueError(f"extra has no {name}; give stage1 to stage4")
        if stage["block"] not in BLOCKS:
            raise ValueError(f"extra, {name}: block={stage['block']!r}; write BASIC or BOTTLENECK")
        branches, blocks, channels = stage["num_branches"], len(stage["num_blocks"]), len(stage["num_channels"])
        if not branches == blocks == channels:
            raise ValueError(
                f"extra, {name}: {branches} branches with {blocks} num_blocks and {channels} num_channels; "
                "give one of each for each branch"
            )


def _transition(made: _Made, before: Sequence[int], after: Sequence[int]) -> nn.ModuleList:
    """From the branches of one stage to those of the next: new channels, or new branches of half the size."""
    layers: list[nn.Module] = []
    for i, outputs in enumerate(after):
        if i >= len(before):
            inputs = before[-1]
            ends = [inputs] * (i - len(before)) + [outputs]
            steps = [nn.Sequential(*made.conv_norm(inputs, end, stride=2), nn.ReLU(inplace=True)) for end in ends]
            layers.append(nn.Sequential(*steps))
        elif before[i] != outputs:
            layers.append(nn.Sequential(*made.conv_norm(before[i], outputs), nn.ReLU(inplace=True)))
        else:
            layers.append(nn.Identity())
    return nn.ModuleList(layers)


def _stage(made: _Made, stage: Mapping[str, Any], channels: Sequence[int], all_outputs: bool) -> nn.Sequential:
    block, count = BLOCKS[stage["block"]], stage["num_modules"]
    return nn.Sequential(
        *(
            HRModule(
                made, block, stage["num_blocks"], stage["num_channels"], channels,
                len(channels) if all_outputs or i < count - 1 else 1,
            )
            for i in range(count)
        )
    )  # fmt: skip
