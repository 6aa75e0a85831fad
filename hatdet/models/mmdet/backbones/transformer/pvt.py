"""Pyramid Vision Transformer (arXiv 2102.12122) and its second version (arXiv 2106.13797)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hatdet.models.mmdet.backbones.transformer.base import Transformer, drop_path_rates
from hatdet.models.mmdet.backbones.transformer.original import pvt_names
from hatdet.models.mmdet.layers.init import normal_init
from hatdet.models.mmdet.layers.transformer.feed_forward import MixFFN
from hatdet.models.mmdet.layers.transformer.patches import PatchEmbed, pair
from hatdet.models.mmdet.layers.transformer.reduced_attention import SpatialReductionAttention
from hatdet.models.mmdet.layers.transformer.tokens import GELU, to_map, token_norm
from hatdet.registry import register
from hatdet.utils.annotations import Spec

_LN: Spec = {"type": "LN", "eps": 1e-6}


class AbsolutePositionEmbedding(nn.Module):
    """Adds a learned vector to each token (``pos_embed``), resized to the map.

    Args:
        pos_shape: rows and columns of the map that the vectors belong to.
        pos_dim: channels.
        drop_rate: dropout of the sum.
    """

    def __init__(self, pos_shape: tuple[int, int], pos_dim: int, drop_rate: float = 0.0) -> None:
        super().__init__()
        self.pos_shape = pos_shape
        self.pos_embed = nn.Parameter(torch.zeros(1, pos_shape[0] * pos_shape[1], pos_dim))
        self.drop = nn.Dropout(drop_rate)

    def forward(self, x: Tensor, hw: tuple[int, int]) -> Tensor:
        found: Tensor = self.pos_embed
        if hw != self.pos_shape:
            found = F.interpolate(to_map(found, self.pos_shape), hw, mode="bilinear").flatten(2).transpose(1, 2)
        added: Tensor = self.drop(x + found)
        return added


class PVTEncoderLayer(nn.Module):
    """Attention to the reduced map (``norm1``, ``attn``), then two convolutions (``norm2``, ``ffn``), each added."""

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        feedforward_channels: int,
        sr_ratio: int,
        drop_path_rate: float,
        drop_rate: float,
        attn_drop_rate: float,
        qkv_bias: bool,
        act_cfg: Spec,
        norm_cfg: Spec,
        use_conv_ffn: bool,
    ) -> None:
        super().__init__()
        self.norm1 = token_norm(norm_cfg, embed_dims)
        self.attn = SpatialReductionAttention(
            embed_dims, num_heads, attn_drop_rate, drop_rate, drop_path_rate, qkv_bias, norm_cfg, sr_ratio
        )
        self.norm2 = token_norm(norm_cfg, embed_dims)
        self.ffn = MixFFN(embed_dims, feedforward_channels, act_cfg, drop_rate, drop_path_rate, use_conv_ffn)

    def forward(self, x: Tensor, hw: tuple[int, int]) -> Tensor:
        x = self.attn(self.norm1(x), hw, x)  # type: ignore[misc]
        out: Tensor = self.ffn(self.norm2(x), hw, x)  # type: ignore[misc]
        return out


def _check_stages(stages: int, **given: Sequence[Any]) -> None:
    for name, numbers in given.items():
        if len(numbers) != stages:
            raise ValueError(f"{name}={list(numbers)}: with num_stages={stages} give {stages} numbers")


@register(scope="mmdet")
class PyramidVisionTransformer(Transformer):
    """(B, 3, H, W) -> maps of the stages, at strides 4, 8, 16, 32 (``layers.<stage>``: patches, blocks, norm).

    Args:
        pretrain_img_size: height and width of the pictures that ``use_abs_pos_embed``'s vectors belong to.
        in_channels: of the picture.
        embed_dims: channels of a head; a stage has as many times that as it has heads.
        num_stages: as many as the sequences that follow have entries.
        num_layers: blocks of each stage.
        num_heads: heads of its attention.
        patch_sizes, strides, paddings: of the convolution that makes its tokens.
        sr_ratios: rows and columns for one of those that its attention sees.
        out_indices: numbers of the stages that are returned.
        mlp_ratios: channels inside of a block's two layers, in channels of the stage.
        qkv_bias: of the linear layers of the attention.
        drop_rate: dropout after the layers of a block, and of the tokens with their positions.
        attn_drop_rate: dropout of the weights of the attention.
        drop_path_rate: stochastic depth of the last block; it grows from 0 evenly.
        use_abs_pos_embed: a learned vector for each place is added to the tokens of each stage.
        norm_after_stage: normalize what a stage gives.
        use_conv_ffn: a depthwise convolution between the two layers of a block.
        act_cfg, norm_cfg: of the blocks.
        pretrained: checkpoint to begin with, a short form of ``init_cfg``.
        convert_weights: such a file has the authors' names.
        init_cfg: what the weights begin as; here ``dict(checkpoint=...)`` alone is enough.

    Raises:
        ValueError: sequences of different lengths, or stages that do not exist.
    """

    authors = "block"

    def __init__(
        self,
        pretrain_img_size: int | Sequence[int] = 224,
        in_channels: int = 3,
        embed_dims: int = 64,
        num_stages: int = 4,
        num_layers: Sequence[int] = (3, 4, 6, 3),
        num_heads: Sequence[int] = (1, 2, 5, 8),
        patch_sizes: Sequence[int] = (4, 2, 2, 2),
        strides: Sequence[int] = (4, 2, 2, 2),
        paddings: Sequence[int | str] = (0, 0, 0, 0),
        sr_ratios: Sequence[int] = (8, 4, 2, 1),
        out_indices: Sequence[int] = (0, 1, 2, 3),
        mlp_ratios: Sequence[int] = (8, 8, 4, 4),
        qkv_bias: bool = True,
        drop_rate: float = 0.0,
        attn_drop_rate: float = 0.0,
        drop_path_rate: float = 0.1,
        use_abs_pos_embed: bool = True,
        norm_after_stage: bool = False,
        use_conv_ffn: bool = False,
        act_cfg: Spec = GELU,
        norm_cfg: Spec = _LN,
        pretrained: str | None = None,
        convert_weights: bool = True,
        init_cfg: Spec | list[Any] | None = None,
    ) -> None:
        super().__init__()
        _check_stages(
            num_stages, num_layers=num_layers, num_heads=num_heads, patch_sizes=patch_sizes, strides=strides,
            sr_ratios=sr_ratios, paddings=paddings[:num_stages], mlp_ratios=mlp_ratios[:num_stages],
        )  # fmt: skip
        self.convert_weights = convert_weights
        rates = iter(drop_path_rates(drop_path_rate, sum(num_layers)))
        parts = drop_rate, attn_drop_rate, qkv_bias, act_cfg, norm_cfg, use_conv_ffn
        (rows, columns), before = pair(pretrain_img_size), in_channels
        widths = [embed_dims * heads for heads in num_heads]
        self.layers = nn.ModuleList()
        for i, width in enumerate(widths):
            patches = PatchEmbed(before, width, patch_sizes[i], strides[i], paddings[i], norm_cfg=norm_cfg)
            blocks: list[nn.Module] = []
            if use_abs_pos_embed:
                step = math.prod(patch_sizes[: i + 1])
                blocks.append(AbsolutePositionEmbedding((rows // step, columns // step), width, drop_rate))
            for _ in range(num_layers[i]):
                inside = mlp_ratios[i] * width
                blocks.append(PVTEncoderLayer(width, num_heads[i], inside, sr_ratios[i], next(rates), *parts))
            norm = token_norm(norm_cfg, width) if norm_after_stage else nn.Identity()
            self.layers.append(nn.ModuleList([patches, nn.ModuleList(blocks), norm]))  # type: ignore[list-item]
            before = width
        self._returned(out_indices, widths, strides)
        self._draw()
        self._begin(pretrained, init_cfg)

    def _draw(self) -> None:
        for part in self.modules():
            if isinstance(part, nn.Conv2d):
                fan_out = math.prod(part.kernel_size) * part.out_channels // part.groups
                normal_init(part, std=math.sqrt(2 / fan_out))
            elif isinstance(part, AbsolutePositionEmbedding):
                nn.init.trunc_normal_(part.pos_embed, std=0.02)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        maps = []
        for i, stage in enumerate(self.layers):
            patches, blocks, norm = stage.children()
            tokens, hw = patches(x)
            for block in blocks.children():
                tokens = block(tokens, hw)
            x = to_map(norm(tokens), hw)
            if i in self.out_indices:
                maps.append(x)
        return tuple(maps)

    def _from_original(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return pvt_names(weights)


@register(scope="mmdet")
class PyramidVisionTransformerV2(PyramidVisionTransformer):
    """Patches overlap (7x7, then 3x3), blocks have a depthwise convolution and no positions, stages end with a norm.
    The other arguments are those of :class:`PyramidVisionTransformer`."""

    def __init__(
        self,
        pretrain_img_size: int | Sequence[int] = 224,
        in_channels: int = 3,
        embed_dims: int = 64,
        num_stages: int = 4,
        num_layers: Sequence[int] = (3, 4, 6, 3),
        num_heads: Sequence[int] = (1, 2, 5, 8),
        strides: Sequence[int] = (4, 2, 2, 2),
        sr_ratios: Sequence[int] = (8, 4, 2, 1),
        out_indices: Sequence[int] = (0, 1, 2, 3),
        mlp_ratios: Sequence[int] = (8, 8, 4, 4),
        qkv_bias: bool = True,
        drop_rate: float = 0.0,
        attn_drop_rate: float = 0.0,
        drop_path_rate: float = 0.1,
        act_cfg: Spec = GELU,
        norm_cfg: Spec = _LN,
        pretrained: str | None = None,
        convert_weights: bool = True,
        init_cfg: Spec | list[Any] | None = None,
    ) -> None:
        super().__init__(
            pretrain_img_size, in_channels, embed_dims, num_stages, num_layers, num_heads, (7, 3, 3, 3), strides,
            (3, 1, 1, 1), sr_ratios, out_indices, mlp_ratios, qkv_bias, drop_rate, attn_drop_rate, drop_path_rate,
            use_abs_pos_embed=False, norm_after_stage=True, use_conv_ffn=True, act_cfg=act_cfg, norm_cfg=norm_cfg,
            pretrained=pretrained, convert_weights=convert_weights, init_cfg=init_cfg,
        )  # fmt: skip
