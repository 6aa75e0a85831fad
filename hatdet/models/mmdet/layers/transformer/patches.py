"""Maps in patches: from a map to tokens, and from tokens to fewer of them."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from hatdet.models.mmdet.layers.other_convs import CornerPadding, SamePadding
from hatdet.models.mmdet.layers.transformer.tokens import LN, to_map, to_tokens, token_norm
from hatdet.utils.annotations import Spec

Size = int | tuple[int, int]


def pair(value: Any) -> tuple[int, int]:
    """Rows and columns of one number, or of two.

    Raises:
        ValueError: more of them.
    """
    found = (value,) if isinstance(value, int) else tuple(value)
    if len(found) not in (1, 2):
        raise ValueError(f"{value}: write one number, or two: rows and columns")
    return int(found[0]), int(found[-1])


def adaptive_padding(mode: str, kernel: Size, stride: Size, dilation: Size) -> SamePadding:
    """Zeros so that a filter reaches every row and column.

    Args:
        mode: ``corner``: below and to the right; ``same``: around.

    Raises:
        ValueError: another mode.
    """
    kinds = {"corner": CornerPadding, "same": SamePadding}
    if mode not in kinds:
        raise ValueError(f"padding={mode!r}; write 'corner', 'same' or numbers")
    return kinds[mode](pair(kernel), pair(stride), pair(dilation))


def _sides(kernel: Size, stride: Size | None, padding: Size | str, dilation: Size) -> tuple[Size, Any, Size]:
    """Stride, the module that pads first (or None), and the zeros that the filter itself puts around."""
    stride = kernel if stride is None else stride
    if isinstance(padding, str):
        return stride, adaptive_padding(padding, kernel, stride, dilation), 0
    return stride, None, padding


class PatchEmbed(nn.Module):
    """(B, C, H, W) -> tokens (B, H' * W', ``embed_dims``) and (H', W'): a convolution (``projection``), ``norm``.

    Args:
        in_channels, embed_dims: of the map, of a token.
        kernel_size, stride, dilation, bias: of the convolution; a stride of None is the kernel's size.
        padding: of the convolution, or ``corner`` or ``same``: :func:`adaptive_padding`.
        norm_cfg: of the tokens; None: none.
    """

    def __init__(
        self,
        in_channels: int = 3,
        embed_dims: int = 768,
        kernel_size: Size = 16,
        stride: Size | None = 16,
        padding: Size | str = "corner",
        dilation: Size = 1,
        bias: bool = True,
        norm_cfg: Spec | None = None,
    ) -> None:
        super().__init__()
        stride, self.adap_padding, padding = _sides(kernel_size, stride, padding, dilation)
        self.projection = nn.Conv2d(
            in_channels, embed_dims, pair(kernel_size), pair(stride), pair(padding), pair(dilation), bias=bias
        )
        self.norm = token_norm(norm_cfg, embed_dims)

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[int, int]]:
        x = self.projection(x if self.adap_padding is None else self.adap_padding(x))
        tokens = to_tokens(x)
        return tokens if self.norm is None else self.norm(tokens), (x.shape[2], x.shape[3])


class PatchMerging(nn.Module):
    """Tokens of a map -> tokens of a smaller one: those below the kernel side by side, ``norm``, ``reduction``.

    The numbers of a patch stand channel after channel, within each in the order of ``nn.Unfold``: row by row.

    Args:
        in_channels, out_channels: of a token before and after.
        kernel_size, stride, dilation: of the patches; a stride of None is the kernel's size.
        padding: zeros around, or ``corner`` or ``same``: :func:`adaptive_padding`.
        bias: of the reduction.
        norm_cfg: of the patches; None: none.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size = 2,
        stride: Size | None = None,
        padding: Size | str = "corner",
        dilation: Size = 1,
        bias: bool = False,
        norm_cfg: Spec | None = LN,
    ) -> None:
        super().__init__()
        stride, self.adap_padding, padding = _sides(kernel_size, stride, padding, dilation)
        self.kernel, self.stride = pair(kernel_size), pair(stride)
        self.padding, self.dilation = pair(padding), pair(dilation)
        width = self.kernel[0] * self.kernel[1] * in_channels
        self.norm = token_norm(norm_cfg, width)
        self.reduction = nn.Linear(width, out_channels, bias=bias)

    def forward(self, x: Tensor, hw: tuple[int, int]) -> tuple[Tensor, tuple[int, int]]:
        """(B, H * W, ``in_channels``) and (H, W) -> (B, H' * W', ``out_channels``) and (H', W')."""
        image = to_map(x, hw)
        if self.adap_padding is not None:
            image = self.adap_padding(image)
        rows, columns = (
            (side + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
            for side, padding, dilation, kernel, stride in zip(
                image.shape[-2:], self.padding, self.dilation, self.kernel, self.stride, strict=True
            )
        )
        patches = F.unfold(image, self.kernel, self.dilation, self.padding, self.stride).transpose(1, 2)
        return self.reduction(patches if self.norm is None else self.norm(patches)), (rows, columns)
