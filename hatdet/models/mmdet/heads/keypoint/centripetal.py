"""CentripetalNet: corners belong together when they point to one centre (arXiv 2003.09119)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from hatdet.models.mmdet.heads.base import Levels, Losses, PictureMeta, Truth
from hatdet.models.mmdet.heads.keypoint.corner import CornerHead
from hatdet.models.mmdet.heads.keypoint.corner_decode import Corners
from hatdet.models.mmdet.heads.towers import part
from hatdet.models.mmdet.layers.conv import ConvModule
from hatdet.models.mmdet.layers.deform_conv import DeformConv2d
from hatdet.models.mmdet.layers.init import normal_init
from hatdet.registry import register
from hatdet.utils.annotations import Spec


@register(scope="mmdet")
class CentripetalHead(CornerHead):
    """Raw maps of the left top and right bottom corners: ``heat`` (B, classes, H, W) logits, ``off``, ``guiding`` and
    ``centripetal`` (B, 2, H, W).

    Pairs as :class:`CornerHead`, but by the centres that corners point to: exp(centripetal) positions right and down
    of left top corners, left and up of right bottom ones. ``guiding`` says where the features for that are read (a
    deformable convolution).

    Args:
        centripetal_shift_channels, guiding_shift_channels: have to be 2.
        feat_adaption_conv_kernel: of the deformable convolution.
        loss_guiding_shift, loss_centripetal_shift: built losses.
        others: see :class:`CornerHead`.

    Raises:
        ValueError: other channels than 2, or an ``init_cfg``.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        centripetal_shift_channels: int = 2,
        guiding_shift_channels: int = 2,
        feat_adaption_conv_kernel: int = 3,
        loss_guiding_shift: nn.Module | None = None,
        loss_centripetal_shift: nn.Module | None = None,
        init_cfg: Spec | None = None,
        num_feat_levels: int = 2,
        corner_emb_channels: int = 1,
        train_cfg: dict[str, Any] | None = None,
        test_cfg: Spec | None = None,
        loss_heatmap: nn.Module | None = None,
        loss_embedding: nn.Module | None = None,
        loss_offset: nn.Module | None = None,
    ) -> None:
        if (centripetal_shift_channels, guiding_shift_channels) != (2, 2):
            raise ValueError("a shift has two numbers; leave out centripetal_shift_channels and guiding_shift_channels")
        self.kernel = feat_adaption_conv_kernel
        super().__init__(
            num_classes, in_channels, num_feat_levels, corner_emb_channels, train_cfg, test_cfg, loss_heatmap,
            loss_embedding, loss_offset, init_cfg,
        )  # fmt: skip
        self.kinds = tuple(
            f"{corner}_{name}" for name in ("heat", "off", "guiding", "centripetal") for corner in ("tl", "br")
        )
        smooth = {"type": "SmoothL1Loss", "beta": 1.0}
        self.loss_guiding_shift = part(loss_guiding_shift, {**smooth, "loss_weight": 0.05})
        self.loss_centripetal_shift = part(loss_centripetal_shift, {**smooth, "loss_weight": 1})

    def _init_layers(self) -> None:
        super()._init_layers()
        channels, taps = self.in_channels, 2 * self.kernel**2
        levels = range(self.num_feat_levels)
        for corner in ("tl", "br"):
            adapt = [DeformConv2d(channels, channels, self.kernel, 1, 1) for _ in levels]
            offset = [ConvModule(2, taps, 1, bias=False, act_cfg=None) for _ in levels]
            self.add_module(f"{corner}_feat_adaption", nn.ModuleList(adapt))
            self.add_module(f"{corner}_dcn_offset", nn.ModuleList(offset))
            self.add_module(f"{corner}_guiding_shift", self._branches(2))
            self.add_module(f"{corner}_centripetal_shift", self._branches(2))

    def init_weights(self) -> None:
        super().init_weights()
        for corner in ("tl", "br"):
            for adapt, offset in zip(
                getattr(self, f"{corner}_feat_adaption"), getattr(self, f"{corner}_dcn_offset"), strict=True
            ):
                normal_init(adapt, std=0.01)
                normal_init(offset.conv, std=0.1)
            for name in ("guiding_shift", "centripetal_shift"):
                for branch in getattr(self, f"{corner}_{name}"):
                    for layer in branch:
                        layer.conv.reset_parameters()

    def _level(self, x: Tensor, level: int) -> tuple[Tensor, ...]:
        found: dict[str, Tensor] = {}
        for corner, pooled in self._pooled(x, level).items():
            found[f"{corner}_heat"] = self._branch(f"{corner}_heat", level, pooled)
            found[f"{corner}_off"] = self._branch(f"{corner}_off", level, pooled)
            guiding = self._branch(f"{corner}_guiding_shift", level, pooled)
            offset = self._branch(f"{corner}_dcn_offset", level, guiding.detach())
            adapted = getattr(self, f"{corner}_feat_adaption")[level](pooled, offset)
            found[f"{corner}_guiding"] = guiding
            found[f"{corner}_centripetal"] = self._branch(f"{corner}_centripetal_shift", level, adapted)
        return tuple(found[kind] for kind in self.kinds)

    def refine(self, *maps: Levels) -> tuple[Any, ...]:
        return maps

    def loss_by_feat(self, *maps: Any, truths: Sequence[Truth], metas: Sequence[PictureMeta]) -> Losses:
        targets = self.targets(maps[0], truths, metas)
        losses: dict[str, list[Tensor]] = {
            "det_loss": [], "off_loss": [], "guiding_loss": [], "centripetal_loss": [],
        }  # fmt: skip
        for level in zip(*maps, strict=True):
            found, moved = self._heat_and_offset(level[0:2], level[2:4], targets)
            losses["det_loss"].append(found)
            losses["off_loss"].append(moved)
            for name, loss, shifts, first in (
                ("guiding_loss", self.loss_guiding_shift, level[4:6], 2),
                ("centripetal_loss", self.loss_centripetal_shift, level[6:8], 4),
            ):
                both = [
                    loss(shift, target.values[:, first : first + 2], target.known, avg_factor=float(target.known.sum()))
                    for shift, target in zip(shifts, targets, strict=True)
                ]
                losses[name].append((both[0] + both[1]) / 2)
        return dict(losses)

    def _corners(self, maps: Sequence[Any]) -> tuple[Corners, Corners]:
        return tuple(Corners(maps[i][-1].sigmoid(), maps[2 + i][-1], shift=maps[6 + i][-1]) for i in (0, 1))  # type: ignore[return-value]
