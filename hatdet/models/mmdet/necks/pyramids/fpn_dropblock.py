"""A feature pyramid that is trained with gaps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from hatdet.models.mmdet.building import build
from hatdet.models.mmdet.layers.csp.defaults import XAVIER
from hatdet.models.mmdet.layers.init import initialize
from hatdet.models.mmdet.necks.pyramids.fpn import FPN, NEAREST
from hatdet.registry import register
from hatdet.utils.annotations import Spec

_DROP_BLOCK: Spec = {"type": "DropBlock", "drop_prob": 0.3, "block_size": 3, "warmup_iters": 0}


@register(scope="mmdet")
class FPN_DropBlock(FPN):
    """:class:`FPN` with ``plugin`` after each addition from above. The other arguments are as there.

    Args:
        plugin: a layer, ``DropBlock`` (arXiv 1810.12890); None: none.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int,
        num_outs: int,
        start_level: int = 0,
        end_level: int = -1,
        add_extra_convs: bool | str = False,
        relu_before_extra_convs: bool = False,
        no_norm_on_lateral: bool = False,
        conv_cfg: Spec | None = None,
        norm_cfg: Spec | None = None,
        act_cfg: Spec | None = None,
        upsample_cfg: Spec = NEAREST,
        init_cfg: Spec | list[Any] | None = XAVIER,
        plugin: Spec | None = _DROP_BLOCK,
    ) -> None:
        super().__init__(
            in_channels, out_channels, num_outs, start_level, end_level, add_extra_convs, relu_before_extra_convs,
            no_norm_on_lateral, conv_cfg, norm_cfg, act_cfg, upsample_cfg, init_cfg=None,
        )  # fmt: skip
        self.plugin = build(plugin)
        initialize(self, init_cfg)

    def onto(self, coarse: Tensor, fine: Tensor) -> Tensor:
        merged = super().onto(coarse, fine)
        return merged if self.plugin is None else self.plugin(merged)  # type: ignore[no-any-return]
