"""What has no integer form, and what to use instead."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, cast

from torch import fx, nn

from hatdet.quantization.qat.shared_conv import LeafConv2d

LIMITS: dict[type[nn.Module], str] = {nn.ReLU6: "relu6", nn.ReLU: "relu"}
"""Activations that only limit their input; a convolution or an addition takes them in."""

OWN_ACTIVATIONS: dict[type[nn.Module], str] = {
    nn.Hardswish: "hardswish",
    nn.SiLU: "silu",
    nn.Sigmoid: "sigmoid",
    nn.Hardsigmoid: "hardsigmoid",
}
"""Activations that are operators of their own (a hardsigmoid where no convolution takes it in)."""

NORMS = (nn.BatchNorm2d, nn.SyncBatchNorm)
AVERAGE_POOL_KERNEL = 8
"""Largest average pooling: what accelerators take."""

_ALLOWED = (
    "use convolutions, ReLU, ReLU6, Hardsigmoid, Hardswish, SiLU, Sigmoid, addition, product, concatenation, pooling, "
    "nearest or bilinear upsampling and zero padding"
)
_MAPS = "give (B, C, H, W) maps as outputs; reshaping belongs to the post-processing"
_FOLDED = "use BatchNorm2d directly after a convolution: it folds into the weights"
_RELU = "use ReLU, ReLU6 or Hardswish"
_PART = "use one convolution for each part"
_INSTEAD: dict[str, str] = {
    **dict.fromkeys(("LeakyReLU", "PReLU", "ELU", "leaky_relu", "prelu", "elu"), _RELU),
    **dict.fromkeys(("GELU", "gelu"), "use SiLU or Hardswish"),
    **dict.fromkeys(("Mish",), "use SiLU or Hardswish, or ReLU6 where speed counts"),
    "Softplus": "use ReLU",
    **dict.fromkeys(("Tanh", "tanh"), "use Hardswish, or a Sigmoid"),
    **dict.fromkeys(("Softmax", "softmax"), "leave it to the post-processing: give the raw maps as outputs"),
    **dict.fromkeys(("GroupNorm", "LayerNorm", "InstanceNorm2d", "group_norm", "layer_norm", "instance_norm"), _FOLDED),
    "batch_norm": "call an nn.BatchNorm2d module directly after a convolution: it folds into the weights",
    **dict.fromkeys(("ConvTranspose2d", "PixelShuffle"), "use Upsample(scale_factor=2) and a convolution"),
    **dict.fromkeys(("conv_transpose2d", "pixel_shuffle"), "use Upsample(scale_factor=2) and a convolution"),
    **dict.fromkeys(("Linear", "linear", "matmul"), "use Conv2d with kernel 1 on a (B, C, 1, 1) map"),
    "conv2d": "call an nn.Conv2d module, so that its weight can be quantized",
    **dict.fromkeys(("sub", "rsub", "neg"), "use an addition; a sign belongs into the convolution before it"),
    **dict.fromkeys(("chunk", "split", "getitem", "unbind", "tensor_split", "narrow", "index_select"), _PART),
    **dict.fromkeys(("flatten", "reshape", "view", "permute", "unflatten", "transpose", "squeeze", "unsqueeze"), _MAPS),
    **dict.fromkeys(("div", "true_divide", "divide"), "multiply the weights of the convolution before it instead"),
    "setitem": "make the parts separately and join them with torch.cat",
    "partial_write": "change whole tensors in place, or none",
    "adaptive_max_pool2d": "use the average of the whole map, AdaptiveAvgPool2d(1)",
    "AdaptiveMaxPool2d": "use the average of the whole map, AdaptiveAvgPool2d(1)",
    "amax": "use the average of the whole map, AdaptiveAvgPool2d(1)",
    "maximum": "use ReLU (0 and up) or ReLU6 (0 to 6)",
    "dropout": "leave out training=True: at inference it does nothing then",
    "Dropout": "let it follow the network's mode: at inference it does nothing then",
}
_WORDS = {
    "partial_write": "a tensor of which another view was changed in place",
    "setitem": "an assignment to a part of a tensor",
    "dropout": "dropout that is on at inference",
    "Dropout": "dropout that is on at inference",
    "view": "a view that changes the shape",
}


class NoModule(Exception):
    """A call without an integer form: ``args`` are what it is and what to use instead."""


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


def clamp(low: Any, high: Any) -> nn.Module:
    """ReLU or ReLU6 for these limits."""
    if low == 0 and (high is None or high == math.inf):
        return nn.ReLU()
    if low == 0 and high == 6:
        return nn.ReLU6()
    raise NoModule(f"a clamp to [{low}, {high}]", "use ReLU (0 and up) or ReLU6 (0 to 6)")


def check_module(module: nn.Module) -> None:
    """Check that a module with these settings has an integer form.

    Raises:
        NoModule: it has none.
    """
    name = type(module).__name__
    if type(module) is nn.Conv2d or isinstance(module, LeafConv2d):
        _check_convolution(module)
    elif isinstance(module, nn.MaxPool2d):
        if module.ceil_mode or pair(module.dilation) != (1, 1):
            raise NoModule("max pooling with ceil_mode or dilation", "leave both out")
        if module.return_indices:
            raise NoModule("max pooling with return_indices", "leave it out")
    elif isinstance(module, nn.AvgPool2d):
        _check_average_pool(module)
    elif isinstance(module, nn.AdaptiveAvgPool2d):
        if module.output_size not in (1, (1, 1), [1, 1]):
            raise NoModule(
                f"AdaptiveAvgPool2d to {module.output_size}: only the average of a whole map has an integer form",
                "set output_size=1, or use AvgPool2d",
            )
    elif isinstance(module, nn.Upsample):
        _check_upsample(module)
    elif isinstance(module, nn.Hardtanh):
        clamp(module.min_val, module.max_val)
    elif isinstance(module, nn.ZeroPad2d):
        if min(module.padding) < 0:
            raise NoModule(f"padding by {tuple(module.padding)}", "crop nothing: pad by numbers of 0 and up")
    elif type(module) not in LIMITS and type(module) not in OWN_ACTIVATIONS:
        if isinstance(module, nn.Conv2d):
            raise NoModule(f"{name} has no integer form", "use nn.Conv2d itself, without parametrizations")
        raise no_form(name)


def _check_convolution(module: nn.Conv2d) -> None:
    name = type(module).__name__
    if module.padding_mode != "zeros":
        raise NoModule(f"{name} with padding {module.padding!r} ({module.padding_mode})", "set padding_mode='zeros'")
    if numeric_padding(module) is None:
        raise NoModule(
            f"{name} with padding='same' and an even kernel, which pads unevenly",
            "set padding=0 and put nn.ZeroPad2d before it",
        )
    if not isinstance(module.weight, nn.Parameter):
        raise NoModule(
            f"{name} whose weight is computed in each call (weight or spectral normalization)",
            "remove the parametrization from the trained model first",
        )


def check_norm(norm: nn.Module, conv: nn.Module | None, source: fx.Node) -> None:
    """Check that a batch normalization folds into the convolution ``conv`` whose node is ``source``.

    Raises:
        NoModule: it does not.
    """
    name = type(norm).__name__
    if getattr(norm, "running_mean", None) is None:
        raise NoModule(
            f"{name} with track_running_stats=False, which normalizes by the statistics of each batch",
            "leave track_running_stats out: the running statistics fold into the weights",
        )
    if type(conv) is not nn.Conv2d:
        raise NoModule(
            f"{name} does not follow a convolution of its own",
            "put it directly after a convolution whose output nothing else uses: it folds into the weights",
        )
    if len(source.users) != 1:
        raise NoModule(
            f"{name} does not follow a convolution of its own: {source.target} is also read elsewhere",
            f"put it directly after a convolution whose output nothing else uses: give each reader of {source.target} "
            "a convolution of its own",
        )


def numeric_padding(conv: nn.Conv2d) -> tuple[int, int] | None:
    """Rows and columns of zeros on each side; None where the sides differ (``padding="same"``, even kernel)."""
    if conv.padding == "valid":
        return 0, 0
    if not isinstance(conv.padding, str):
        return pair(conv.padding)
    total = [d * (k - 1) for d, k in zip(pair(conv.dilation), pair(conv.kernel_size), strict=True)]
    return None if any(n % 2 for n in total) else (total[0] // 2, total[1] // 2)


def _check_average_pool(module: nn.AvgPool2d) -> None:
    if module.ceil_mode or module.divisor_override is not None:
        raise NoModule("average pooling with ceil_mode or divisor_override", "leave both out")
    if max(pair(module.kernel_size)) > AVERAGE_POOL_KERNEL:
        raise NoModule(
            f"average pooling with kernel {module.kernel_size}",
            f"at most {AVERAGE_POOL_KERNEL}, or AdaptiveAvgPool2d(1) for a whole map",
        )
    if not module.count_include_pad and pair(module.padding) != (0, 0):
        raise NoModule("average pooling that leaves padding out", "set count_include_pad=True or padding=0")


def _check_upsample(module: nn.Upsample) -> None:
    factor = module.scale_factor
    if module.size is not None:
        raise NoModule("upsampling to a size", "write scale_factor=2: the factor then holds for images of any size")
    factors = set(factor) if isinstance(factor, (tuple, list)) else {factor}
    if len(factors) != 1 or not float(cast(float, next(iter(factors)))).is_integer():
        raise NoModule(f"upsampling by {factor}", "use one whole factor for both axes")
    whole = int(cast(float, factors.pop()))
    if module.mode == "nearest":
        return
    if module.mode != "bilinear":
        raise NoModule(f"upsampling with mode {module.mode!r}", "use 'nearest' or 'bilinear'")
    if module.align_corners:
        raise NoModule("bilinear upsampling with align_corners=True", "set align_corners=False")
    if whole not in (2, 4, 8):
        raise NoModule(f"bilinear upsampling by {whole}", "use a factor of 2, 4 or 8")


def pair(value: Any) -> tuple[int, int]:
    return (int(value), int(value)) if isinstance(value, int) else (int(value[0]), int(value[-1]))
