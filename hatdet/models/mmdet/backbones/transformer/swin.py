"""Swin Transformer (arXiv 2103.14030)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from hatdet.models.backbones.freezing import freeze, keep_frozen
from hatdet.models.mmdet.backbones.transformer.base import Transformer, drop_path_rates
from hatdet.models.mmdet.backbones.transformer.original import resized_table, swin_names
from hatdet.models.mmdet.layers.transformer.feed_forward import FFN
from hatdet.models.mmdet.layers.transformer.patches import PatchEmbed, PatchMerging, pair
from hatdet.models.mmdet.layers.transformer.tokens import GELU, LN, to_map, token_norm
from hatdet.models.mmdet.layers.transformer.windows import ShiftWindowMSA
from hatdet.registry import register
from hatdet.utils.annotations import Spec

_S = TypeVar("_S", bound="SwinTransformer")


class SwinBlock(nn.Module):
    """Attention inside of windows (``norm1``, ``attn``), then two linear layers (``norm2``, ``ffn``), each added."""

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        feedforward_channels: int,
        window_size: int,
        shift: bool,
        qkv_bias: bool,
        qk_scale: float | None,
        drop_rate: float,
        attn_drop_rate: float,
        drop_path_rate: float,
        act_cfg: Spec,
        norm_cfg: Spec,
        with_cp: bool,
    ) -> None:
        super().__init__()
        self.with_cp = with_cp
        self.norm1 = token_norm(norm_cfg, embed_dims)
        self.attn = ShiftWindowMSA(
            embed_dims, num_heads, window_size, window_size // 2 if shift else 0, qkv_bias, qk_scale, attn_drop_rate,
            drop_rate, drop_path_rate,
        )  # fmt: skip
        self.norm2 = token_norm(norm_cfg, embed_dims)
        self.ffn = FFN(embed_dims, feedforward_channels, act_cfg, drop_rate, drop_path_rate)

    def body(self, x: Tensor, hw: tuple[int, int]) -> Tensor:
        """All of it."""
        x = x + self.attn(self.norm1(x), hw)  # type: ignore[misc]
        out: Tensor = self.ffn(self.norm2(x), x)  # type: ignore[misc]
        return out

    def forward(self, x: Tensor, hw: tuple[int, int]) -> Tensor:
        if not (self.with_cp and x.requires_grad):
            return self.body(x, hw)
        out: Tensor = checkpoint(self.body, x, hw, use_reentrant=False)
        return out


class SwinBlockSequence(nn.Module):
    """``blocks`` of a stage, and what makes the tokens of the next one (``downsample``; None behind the last)."""

    def __init__(self, blocks: Sequence[SwinBlock], downsample: PatchMerging | None) -> None:
        super().__init__()
        self.blocks, self.downsample = nn.ModuleList(blocks), downsample

    def forward(self, x: Tensor, hw: tuple[int, int]) -> Tensor:
        for block in self.blocks:
            x = block(x, hw)
        return x


def _check(patch: tuple[int, int], depths: Sequence[int], num_heads: Sequence[int], strides: Sequence[int]) -> None:
    if not len(num_heads) == len(strides) == len(depths):
        raise ValueError(
            f"depths={list(depths)}, num_heads={list(num_heads)}, strides={list(strides)}: give a number for each stage"
        )
    if pair(strides[0]) != patch:
        raise ValueError(f"strides[0]={strides[0]} and patch_size={patch[0]}: patches do not overlap; write one number")


@register(scope="mmdet")
class SwinTransformer(Transformer):
    """(B, 3, H, W) -> maps of the stages, normalized (``norm<stage>``), at strides 4, 8, 16, 32; H and W as you like.

    Args:
        pretrain_img_size: height and width of the pictures that ``use_abs_pos_embed``'s vectors belong to.
        in_channels: of the picture.
        embed_dims: channels of the first stage; each further one has twice as many.
        patch_size: height and width of the patches that the picture is cut into; ``strides[0]``.
        window_size: rows and columns of the windows of attention; every second block shifts them by half.
        mlp_ratio: channels inside of a block's two layers, in channels of the stage.
        depths: blocks of each stage.
        num_heads: heads of its attention.
        strides: of its tokens, in tokens of the stage before.
        out_indices: numbers of the stages that are returned.
        qkv_bias: of the layer that makes queries, keys and values.
        qk_scale: factor of the attention's logits; None: 1 / sqrt(channels of a head).
        patch_norm: normalize the first tokens, and patches before they are merged.
        drop_rate: dropout after the layers of a block, and of the first tokens.
        attn_drop_rate: dropout of the weights of the attention.
        drop_path_rate: stochastic depth of the last block; it grows from 0 evenly.
        use_abs_pos_embed: a learned vector for each place is added to the first tokens; for pictures of another size
            than ``pretrain_img_size`` the vectors are resized (bicubic, as the authors' detectors do).
        act_cfg, norm_cfg: of the blocks.
        with_cp: save memory in training, at the price of a second forward.
        pretrained: checkpoint to begin with, a short form of ``init_cfg``.
        convert_weights: such a file has the authors' names.
        frozen_stages: -1: none; 0: the making of the first tokens; n: also the first n stages keep their weights.

    Raises:
        ValueError: patches that overlap, sequences of different lengths, or stages that do not exist.
    """

    authors = "layers."

    def __init__(
        self,
        pretrain_img_size: int | Sequence[int] = 224,
        in_channels: int = 3,
        embed_dims: int = 96,
        patch_size: int | Sequence[int] = 4,
        window_size: int = 7,
        mlp_ratio: int = 4,
        depths: Sequence[int] = (2, 2, 6, 2),
        num_heads: Sequence[int] = (3, 6, 12, 24),
        strides: Sequence[int] = (4, 2, 2, 2),
        out_indices: Sequence[int] = (0, 1, 2, 3),
        qkv_bias: bool = True,
        qk_scale: float | None = None,
        patch_norm: bool = True,
        drop_rate: float = 0.0,
        attn_drop_rate: float = 0.0,
        drop_path_rate: float = 0.1,
        use_abs_pos_embed: bool = False,
        act_cfg: Spec = GELU,
        norm_cfg: Spec = LN,
        with_cp: bool = False,
        pretrained: str | None = None,
        convert_weights: bool = False,
        frozen_stages: int = -1,
        init_cfg: Spec | list[Any] | None = None,
    ) -> None:
        super().__init__()
        patch = pair(patch_size)
        _check(patch, depths, num_heads, strides)
        self.convert_weights, self.num_features = convert_weights, [embed_dims * 2**i for i in range(len(depths))]
        norm = norm_cfg if patch_norm else None
        self.patch_embed = PatchEmbed(in_channels, embed_dims, patch, patch, norm_cfg=norm)
        rows, columns = (side // step for side, step in zip(pair(pretrain_img_size), patch, strict=True))
        self.pos_shape, self.use_abs_pos_embed = (rows, columns), use_abs_pos_embed
        if use_abs_pos_embed:
            self.absolute_pos_embed = nn.Parameter(torch.zeros(1, rows * columns, embed_dims))
            nn.init.trunc_normal_(self.absolute_pos_embed, std=0.02)
        self.drop_after_pos = nn.Dropout(drop_rate)
        parts: dict[str, Any] = {
            "window_size": window_size, "qkv_bias": qkv_bias, "qk_scale": qk_scale, "drop_rate": drop_rate,
            "attn_drop_rate": attn_drop_rate, "act_cfg": act_cfg, "norm_cfg": norm_cfg, "with_cp": with_cp,
        }  # fmt: skip
        rates = iter(drop_path_rates(drop_path_rate, sum(depths)))
        self.stages = nn.ModuleList()
        for i, width in enumerate(self.num_features):
            blocks = [
                SwinBlock(width, num_heads[i], mlp_ratio * width, shift=j % 2 == 1, drop_path_rate=next(rates), **parts)
                for j in range(depths[i])
            ]
            last = i + 1 == len(depths)
            merging = None if last else PatchMerging(width, 2 * width, 2, strides[i + 1], norm_cfg=norm)
            self.stages.append(SwinBlockSequence(blocks, merging))
        self._returned(out_indices, self.num_features, [max(patch), *strides[1:]])
        for i in self.out_indices:
            self.add_module(f"norm{i}", token_norm(norm_cfg, self.num_features[i]))
        self._freeze(frozen_stages)
        self._begin(pretrained, init_cfg)

    def _freeze(self, frozen: int) -> None:
        if frozen > len(self.stages):
            raise ValueError(f"frozen_stages={frozen}, but there are {len(self.stages)} stages; write at most that")
        self._kept = ["patch_embed", "drop_after_pos"] if frozen >= 0 else []
        for i in range(frozen):
            self._kept += [f"stages.{i}", *([f"norm{i}"] if i in self.out_indices else [])]
        freeze(map(self.get_submodule, self._kept))
        if frozen >= 0 and self.use_abs_pos_embed:
            self.absolute_pos_embed.requires_grad_(False)

    def train(self: _S, mode: bool = True) -> _S:
        super().train(mode)
        keep_frozen(self, map(self.get_submodule, self._kept), norm_eval=False)
        return self

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        tokens, hw = self.patch_embed(x)
        if self.use_abs_pos_embed:
            tokens = tokens + self._positions(hw)
        tokens = self.drop_after_pos(tokens)
        maps = []
        for i, stage in enumerate(self.stages):
            tokens = stage(tokens, hw)
            if i in self.out_indices:
                maps.append(to_map(self.get_submodule(f"norm{i}")(tokens), hw))
            if stage.downsample is not None:
                tokens, hw = stage.downsample(tokens, hw)  # type: ignore[operator]
        return tuple(maps)

    def _positions(self, hw: tuple[int, int]) -> Tensor:
        found: Tensor = self.absolute_pos_embed
        if hw != self.pos_shape:
            found = F.interpolate(to_map(found, self.pos_shape), hw, mode="bicubic").flatten(2).transpose(1, 2)
        return found

    def _from_original(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return swin_names(weights)

    def _resized(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """Tables of biases that were learned in windows of another size."""
        for name, own in self.state_dict().items():
            table = weights.get(name)
            if not name.endswith("relative_position_bias_table") or table is None or len(table) == len(own):
                continue
            if table.shape[1] == own.shape[1]:
                weights[name] = resized_table(table, len(own))
        return weights
