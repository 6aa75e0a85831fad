"""Non-local networks (arXiv 1711.07971)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hatdet.models.mmdet.layers.conv import ConvModule
from hatdet.models.mmdet.layers.init import constant_init, normal_init
from hatdet.registry import register
from hatdet.utils.annotations import Spec


@register("NonLocal", scope="mmdet")
class NonLocal2d(nn.Module):
    """To each position a mean over all positions, weighted by likeness, is added.

    State: ``g``, ``theta``, ``phi``, ``conv_out``, ``concat_project``, each a convolution with what follows it.

    Args:
        in_channels: of the map.
        sub_sample: compare with a map of half the size.
        conv_cfg: of the convolutions.
        reduction: ``in_channels / reduction`` channels in between.
        use_scale: divide likenesses by the root of the channels before the softmax (``embedded_gaussian``).
        norm_cfg: after ``conv_out``.
        mode: of likeness: ``embedded_gaussian``, ``gaussian``, ``dot_product`` or ``concatenation``.
        zeros_init: begin as the identity.
    """

    plugin_name = "nonlocal_block"
    keeps_init = True
    one_operator = True  # a quantizer refuses it by its name, not by what it is made of

    def __init__(
        self,
        in_channels: int,
        sub_sample: bool = False,
        conv_cfg: Spec | None = None,
        reduction: int = 2,
        use_scale: bool = True,
        norm_cfg: Spec | None = None,
        mode: str = "embedded_gaussian",
        zeros_init: bool = True,
    ) -> None:
        super().__init__()
        modes = ("embedded_gaussian", "gaussian", "dot_product", "concatenation")
        if mode not in modes:
            raise ValueError(f"mode={mode!r}: write one of {', '.join(modes)}")
        self.mode, self.use_scale = mode, use_scale
        self.inter_channels = between = max(in_channels // reduction, 1)

        def conv(inputs: int, outputs: int, norm: Spec | None = None) -> ConvModule:
            return ConvModule(inputs, outputs, 1, conv_cfg=conv_cfg, norm_cfg=norm, act_cfg=None)

        g = conv(in_channels, between)
        self.conv_out = conv(between, in_channels, norm_cfg)
        normal_init(g.conv, std=0.01)
        phi: nn.Module = nn.Identity()
        if mode != "gaussian":
            self.theta, phi = conv(in_channels, between), conv(in_channels, between)
            for module in (self.theta, phi):
                normal_init(module.conv, std=0.01)  # type: ignore[arg-type]
        if mode == "concatenation":
            self.concat_project = ConvModule(between * 2, 1, 1, bias=False)
            normal_init(self.concat_project.conv, std=0.01)
        last = self.conv_out.norm or self.conv_out.conv
        if zeros_init:
            constant_init(last, 0)
        else:
            normal_init(last, std=0.01)
        if sub_sample:
            pool = nn.MaxPool2d(2)
            self.g: nn.Module = nn.Sequential(g, pool)
            self.phi: nn.Module = pool if mode == "gaussian" else nn.Sequential(phi, pool)
        else:
            self.g, self.phi = g, phi

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        values = self.g(x).flatten(2).transpose(1, 2)  # (B, keys, C')
        queries = (x if self.mode == "gaussian" else self.theta(x)).flatten(2)  # (B, C', queries)
        keys = self.phi(x).flatten(2)
        mean = torch.matmul(self._likeness(queries, keys), values).transpose(1, 2)
        return x + self.conv_out(mean.reshape(len(x), self.inter_channels, *x.shape[2:]))  # type: ignore[no-any-return]

    def _likeness(self, queries: Tensor, keys: Tensor) -> Tensor:
        """(B, C', q) and (B, C', k) -> weights (B, q, k)."""
        if self.mode == "concatenation":
            q, k = queries.shape[2], keys.shape[2]
            both = (queries.unsqueeze(3).expand(-1, -1, -1, k), keys.unsqueeze(2).expand(-1, -1, q, -1))
            return self.concat_project(torch.cat(both, dim=1)).squeeze(1) / k  # type: ignore[no-any-return]
        products = torch.matmul(queries.transpose(1, 2), keys)
        if self.mode == "dot_product":
            return products / keys.shape[2]
        if self.mode == "embedded_gaussian" and self.use_scale:
            products = products / queries.shape[1] ** 0.5
        return products.softmax(dim=-1)
