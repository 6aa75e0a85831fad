"""What heads with one point a position and two stacks of convolutions have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from hatdet.models.mmdet.building import build
from hatdet.models.mmdet.heads.prediction import PredictingHead
from hatdet.models.mmdet.heads.towers import FOCAL_LOSS, kind_after_kind, part, sigmoid_of, through, tower
from hatdet.models.mmdet.layers.init import initialize


class AnchorFreeHead(PredictingHead):
    """Two stacks of convolutions, shared by all levels: ``cls_convs`` and ``reg_convs``; ``conv_cls``, ``conv_reg``.

    A subclass's constructor ends with :meth:`build_layers`.

    Args:
        num_classes: of foreground.
        in_channels: of the feature maps.
        feat_channels: of the stacks.
        stacked_convs: how many in each.
        strides: of the levels in pixels.
        dcn_on_last_conv: the last of each stack is deformable (DCNv2).
        conv_bias: of the stacks; ``auto``: where no normalization follows.
        loss_cls, loss_bbox: built losses.
        bbox_coder: between points and boxes.
        conv_cfg, norm_cfg: of the stacks.
        train_cfg: built parts and numbers.
        test_cfg: ``score_thr``, ``nms_pre``, ``nms``, ``max_per_img``, ``min_bbox_size``.
        init_cfg: first weights.

    Raises:
        ValueError: ``conv_bias`` is neither bool nor ``auto``.
    """

    kinds: tuple[str, ...] = ("cls", "bbox")

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        feat_channels: int = 256,
        stacked_convs: int = 4,
        strides: Sequence[int] = (4, 8, 16, 32, 64),
        dcn_on_last_conv: bool = False,
        conv_bias: bool | str = "auto",
        loss_cls: nn.Module | None = None,
        loss_bbox: nn.Module | None = None,
        bbox_coder: Any = None,
        conv_cfg: Mapping[str, Any] | None = None,
        norm_cfg: Mapping[str, Any] | None = None,
        train_cfg: Mapping[str, Any] | None = None,
        test_cfg: Mapping[str, Any] | None = None,
        init_cfg: Any = None,
    ) -> None:
        super().__init__()
        if conv_bias != "auto" and not isinstance(conv_bias, bool):
            raise ValueError(f"conv_bias is {conv_bias!r}; write True, False or 'auto'")
        self.num_classes, self.in_channels, self.feat_channels = num_classes, in_channels, feat_channels
        self.stacked_convs, self.strides = stacked_convs, list(strides)
        self.dcn_on_last_conv, self.conv_bias = dcn_on_last_conv, conv_bias
        self.conv_cfg, self.norm_cfg = conv_cfg, norm_cfg
        self.train_cfg, self.test_cfg, self.init_cfg = train_cfg, test_cfg, init_cfg
        self.loss_cls = part(loss_cls, FOCAL_LOSS)
        self.loss_bbox = part(loss_bbox, {"type": "IoULoss", "loss_weight": 1.0})
        self.use_sigmoid_cls = sigmoid_of(self.loss_cls)
        self.cls_out_channels = num_classes + (not self.use_sigmoid_cls)
        self.bbox_coder = part(bbox_coder, {"type": "DistancePointBBoxCoder"})
        self.prior_generator = build({"type": "MlvlPointGenerator"}, strides=self.strides)

    def build_layers(self) -> None:
        """The layers, with their first weights."""
        self._init_layers()
        self.init_weights()

    def _init_layers(self) -> None:
        self.cls_convs, self.reg_convs = self._stack(), self._stack()
        self.conv_cls = nn.Conv2d(self.feat_channels, self.cls_out_channels, 3, padding=1)
        self.conv_reg = nn.Conv2d(self.feat_channels, 4, 3, padding=1)

    def _stack(self) -> nn.ModuleList:
        return tower(
            self.in_channels, self.feat_channels, self.stacked_convs, conv_cfg=self.conv_cfg, norm_cfg=self.norm_cfg,
            bias=self.conv_bias, last_conv_cfg={"type": "DCNv2"} if self.dcn_on_last_conv else None,
        )  # fmt: skip

    def init_weights(self) -> None:
        """First weights, as ``init_cfg`` says."""
        initialize(self, self.init_cfg)

    def forward(self, feats: Sequence[Tensor]) -> tuple[Tensor, ...]:
        return kind_after_kind([self.forward_single(x) for x in feats])

    def forward_single(self, x: Tensor) -> tuple[Tensor, ...]:
        """The raw maps of one level, a map of each kind."""
        return self.conv_cls(through(self.cls_convs, x)), self.conv_reg(through(self.reg_convs, x))

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, local_metadata: dict[str, Any], *args: Any
    ) -> None:
        """Files of the first MMDetection 2 have the last layers under the method's name: ``fcos_cls``."""
        if local_metadata.get("version") is None and hasattr(self, "conv_cls"):
            for name in [name for name in state_dict if name.startswith(prefix)]:
                layer, _, rest = name.removeprefix(prefix).partition(".")
                for kind in ("cls", "reg", "centerness"):
                    new = f"{prefix}conv_{kind}.{rest}"
                    if layer.endswith(f"_{kind}") and layer != f"conv_{kind}" and new not in state_dict:
                        state_dict[new] = state_dict.pop(name)
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *args)
