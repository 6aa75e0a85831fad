"""The head of RTMDet with batch norms of their own for each level."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor, nn

from hatdet.models.fitting import told
from hatdet.models.heads.weights import init_head
from hatdet.models.layers.conv import ConvModule, conv_class
from hatdet.registry import register


@register
class RTMDetSepBNHead(nn.Module):
    """Two stacks of convolutions a level, one for classes, one for boxes (arXiv 2212.07784, section 3.2).

    Sequence of (B, in_channels, H_i, W_i) -> flat tuple (cls_0, cls_1, ..., reg_0, reg_1, ...):
    cls_i (B, num_classes, H_i, W_i) logits; reg_i (B, 4, H_i, W_i) raw distances left, top, right, bottom. A
    distance in pixels is ``reg * stride``, or ``exp(reg) * stride`` with ``exp_on_reg``: the loss and the
    prediction do that, so that every output of the network is a plain convolution, with one scale a level.

    Args:
        num_classes: classes without background.
        in_channels: channels of each input map; in a detector's config it may be left out.
        feat_channels: channels inside the stacks.
        stacked_convs: convolutions of a stack.
        strides: pixels per position of each level.
        share_conv: the stacks' convolutions are the same parameters at each level; batch norms never are.
        exp_on_reg: see above.
        pred_kernel_size: odd side of the predicting convolutions' kernel.
        use_depthwise: depthwise separable convolutions in the stacks.
        activation: class name of ``torch.nn``.
        initial_distance: from a position to each side of its box, in strides, as an untrained head predicts it. None:
            the reference's, which is 0 (1 with ``exp_on_reg``): boxes without an area, with whose IoUs the first few
            hundred steps teach little.

    Raises:
        ValueError: no class, no level, an even kernel, or a distance that is not above 0.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        in_channels: int | None = None,
        feat_channels: int = 256,
        stacked_convs: int = 2,
        strides: Sequence[int] = (8, 16, 32),
        share_conv: bool = True,
        exp_on_reg: bool = False,
        pred_kernel_size: int = 1,
        use_depthwise: bool = False,
        activation: str = "SiLU",
        initial_distance: float | None = None,
    ) -> None:
        super().__init__()
        if initial_distance is not None and initial_distance <= 0:
            raise ValueError(f"initial_distance must be above 0, got {initial_distance}")
        if num_classes < 1 or not strides:
            raise ValueError(
                f"at least one class and one stride are needed, got num_classes={num_classes}, strides={list(strides)}"
            )
        if pred_kernel_size % 2 == 0:
            raise ValueError(f"pred_kernel_size must be odd, got {pred_kernel_size}")
        in_channels = self.in_channels = told(in_channels, "in_channels")
        self.num_classes = num_classes
        self.strides = tuple(strides)
        self.exp_on_reg = exp_on_reg
        conv = conv_class(use_depthwise)

        def stack() -> nn.Sequential:
            inputs = [in_channels, *[feat_channels] * (stacked_convs - 1)][:stacked_convs]
            return nn.Sequential(*(conv(c, feat_channels, 3, activation=activation) for c in inputs))

        def predict(channels: int) -> nn.Conv2d:
            inputs = feat_channels if stacked_convs else in_channels
            return nn.Conv2d(inputs, channels, pred_kernel_size, padding=pred_kernel_size // 2)

        self.cls_convs = nn.ModuleList(stack() for _ in self.strides)
        self.reg_convs = nn.ModuleList(stack() for _ in self.strides)
        self.rtm_cls = nn.ModuleList(predict(num_classes) for _ in self.strides)
        self.rtm_reg = nn.ModuleList(predict(4) for _ in self.strides)
        if share_conv:
            for stacks in (self.cls_convs, self.reg_convs):
                for other in list(stacks)[1:]:
                    _share_convolutions(stacks[0], other)
        init_head(self, self.rtm_cls)
        if initial_distance is not None:
            for predictor in self.rtm_reg:
                assert isinstance(predictor, nn.Conv2d) and predictor.bias is not None
                nn.init.constant_(predictor.bias, math.log(initial_distance) if exp_on_reg else initial_distance)

    @property
    def output_names(self) -> tuple[str, ...]:
        """Names of the outputs in their order: ("cls_8", "cls_16", ..., "reg_8", ...)."""
        return tuple(f"{kind}_{stride}" for kind in ("cls", "reg") for stride in self.strides)

    def forward(self, feats: Sequence[Tensor]) -> tuple[Tensor, ...]:
        cls_maps, reg_maps = [], []
        for level in range(len(self.strides)):
            cls_maps.append(self.rtm_cls[level](self.cls_convs[level](feats[level])))
            reg_maps.append(self.rtm_reg[level](self.reg_convs[level](feats[level])))
        return (*cls_maps, *reg_maps)


def _share_convolutions(source: nn.Module, target: nn.Module) -> None:
    """Let each ConvModule of ``target`` use the convolution of its counterpart in ``source``."""
    for ours, theirs in zip(source.modules(), target.modules(), strict=True):
        if isinstance(ours, ConvModule):
            theirs.conv = ours.conv
