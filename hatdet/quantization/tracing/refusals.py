"""What has no integer form, and what to use instead."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import fx, nn

NORMS = (nn.BatchNorm2d, nn.SyncBatchNorm, nn.BatchNorm1d)
NORMED: dict[type[nn.Module], int] = {nn.Conv2d: 0, nn.ConvTranspose2d: 1, nn.Linear: 0}
"""Modules into whose weight a batch normalization folds, and the weight's dimension of output channels."""

_ALLOWED = (
    "use convolutions, ReLU, ReLU6, LeakyReLU, Hardsigmoid, Hardswish, SiLU, Sigmoid, Tanh, sums, differences, "
    "products, minima and maxima, concatenation, parts of maps, shuffles of channels and pixels, pooling, nearest or "
    "bilinear resizing and zero padding"
)
_MAPS = (
    "give (B, C, H, W) maps as outputs and flatten only (B, C, 1, 1) maps, behind AdaptiveAvgPool2d(1); other "
    "reshaping belongs to the post-processing"
)
_FOLDED = 'use BatchNorm2d directly after a convolution (norm_cfg=dict(type="BN")): it folds into the weights'
_PART = "take ranges of channels, rows or columns that hold for maps of every size"
_INSTEAD: dict[str, str] = {
    **dict.fromkeys(("GLU", "glu"), "halve the channels: dim=1"),
    **dict.fromkeys(("Softmax", "softmax"), "leave it to the post-processing: give the raw maps as outputs"),
    **dict.fromkeys(("GroupNorm", "LayerNorm", "InstanceNorm2d", "group_norm", "layer_norm", "instance_norm"), _FOLDED),
    "batch_norm": "call an nn.BatchNorm2d module directly after a convolution: it folds into the weights",
    "conv_transpose2d": "call an nn.ConvTranspose2d module, so that its weight can be quantized",
    **dict.fromkeys(("linear", "matmul", "addmm", "mm"), "call an nn.Linear module: its weight can be quantized"),
    "conv2d": "call an nn.Conv2d module, so that its weight can be quantized",
    **dict.fromkeys(("chunk", "split", "getitem", "unbind", "tensor_split", "narrow", "index_select"), _PART),
    **dict.fromkeys(("flatten", "reshape", "view", "permute", "unflatten", "transpose", "squeeze", "unsqueeze"), _MAPS),
    **dict.fromkeys(("expand", "expand_as", "broadcast_to"), "leave it to the sum or product that reads it"),
    **dict.fromkeys(("rdiv", "rtruediv", "reciprocal"), "multiply by a map instead, a Sigmoid's for example"),
    **dict.fromkeys(("ReflectionPad2d", "ReplicationPad2d", "CircularPad2d"), "pad with zeros: nn.ZeroPad2d"),
    "L2Norm": "leave it out (neck.l2_norm_scale=None) and train without it",
    "setitem": "make the parts separately and join them with torch.cat",
    "partial_write": "change whole tensors in place, or none",
    "dropout": "leave out training=True: at inference it does nothing then",
    "Dropout": "let it follow the network's mode: at inference it does nothing then",
    **dict.fromkeys(
        ("DeformConv2dPack", "ModulatedDeformConv2dPack"),
        "use an ordinary convolution: leave dcn out, or set dcn_on_last_conv=False, use_dcn=False or num_dcn=0; in "
        "the place of NASFCOSHead take FCOSHead",
    ),
    **dict.fromkeys(
        ("DeformConv2d", "ModulatedDeformConv2d"),
        "take a part that reads its map where it stands: ATSSHead or FCOSHead of heads, FPN alone of necks",
    ),
    "CornerPool": "take a head whose boxes have centres: CenterNetHead, which reads the same backbone",
    **dict.fromkeys(
        ("SwinTransformer", "PyramidVisionTransformer", "PyramidVisionTransformerV2"),
        'take a backbone of convolutions with the same out_indices, and the neck\'s in_channels of it: '
        'backbone=dict(type="ResNet", depth=50), whose stages give 256, 512, 1024 and 2048',
    ),
    "SplitAttentionConv2d": "set radix=1, whose gate is a Sigmoid, or take ResNetV1d",
    **dict.fromkeys(("ConvWS2d", "ConvAWS2d", "SAConv2d"), "use nn.Conv2d itself: leave conv_cfg out"),
    "CARAFEPack": 'use upsample_cfg=dict(type="nearest", scale_factor=2)',
    **dict.fromkeys(
        ("NonLocal2d", "GeneralizedAttention", "ContextBlock", "CBAM", "ASPP"),
        'leave the plugin out, or use cfg=dict(type="SELayer", ratio=16)',
    ),
}
_WORDS = {
    "partial_write": "a tensor of which another view was changed in place",
    "setitem": "an assignment to a part of a tensor",
    "dropout": "dropout that is on at inference",
    "Dropout": "dropout that is on at inference",
    "view": "a view that changes the shape",
    "getitem": "a part of a map that is no range of channels, rows and columns, or holds for some sizes only,",
}


_AT_ONCE = ("CornerPool",)
"""Modules instead of which nothing can be written: of a network with one of them nothing else is worth a look."""


class NoModule(Exception):
    """A call without an integer form: ``args`` are what it is and what to use instead."""


class NoMap(NoModule):
    """An operator on a tensor that is no (B, C, H, W) map; what made that tensor is the problem to be named."""


class OddArguments(NoModule):
    """A call whose arguments are none that a module takes, or the function itself."""


class SizeDependent(NoModule):
    """A call whose arguments depend on the image's size in a way that has no integer form."""


@dataclass(frozen=True)
class Problem:
    """An operator without integer form: the module path, what it is, and what to use instead."""

    path: str
    what: str
    instead: str

    def __str__(self) -> str:
        return f"{self.path}: {self.what}; {self.instead}"


def no_form(name: str) -> NoModule:
    """The refusal of an operator that has no integer form at all."""
    return NoModule(f"{_WORDS.get(name, name)} has no integer form", _INSTEAD.get(name, _ALLOWED))


def instead_of_convolution(name: str) -> str:
    """What to use instead of a convolution of another class than torch's."""
    return _INSTEAD.get(name, "use nn.Conv2d itself, without parametrizations")


def refused_at_once(network: nn.Module) -> list[Problem]:
    """The modules for which a network is refused before anything in it runs; [] of one that is to be looked at."""
    named = [(path, module) for path, module in network.named_modules() if getattr(module, "one_operator", False)]
    return [
        Problem(path, *no_form(type(module).__name__).args)
        for path, module in named
        if type(module).__name__ in _AT_ONCE
    ]


def check_norm(norm: nn.Module, before: nn.Module | None, source: fx.Node) -> None:
    """Check that a batch normalization folds into weights: of what is ``before`` it, whose node is ``source``, or of a
    convolution that is put there.

    Raises:
        NoModule: it does not.
    """
    name = type(norm).__name__
    if getattr(norm, "running_mean", None) is None:
        raise NoModule(
            f"{name} with track_running_stats=False, which normalizes by the statistics of each batch",
            "leave track_running_stats out: the running statistics fold into the weights",
        )
    if isinstance(norm, nn.BatchNorm1d) and not follows(before, source):
        raise NoModule(
            f"{name} does not follow a layer of its own",
            "put it directly after an nn.Linear whose output nothing else uses: it folds into the weights",
        )


def follows(before: nn.Module | None, source: fx.Node) -> bool:
    """Whether a norm behind ``source`` can go into the module ``before`` it."""
    if before is None or type(before) not in NORMED or len(source.users) != 1:
        return False
    return NORMED[type(before)] == 0 or getattr(before, "groups", 1) == 1  # else outputs lie in two dimensions


def pair(value: Any) -> tuple[int, int]:
    return (int(value), int(value)) if isinstance(value, int) else (int(value[0]), int(value[-1]))
