"""Input normalization as integers need it: one scale for all channels, so that a pixel's code is ``pixel - 128``."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import fx, nn

from hatdet.quantization.tracing.two_sizes import recorded_graph
from hatdet.utils.input_format import input_channels

INTEGER_MEAN, INTEGER_STD = (0.0,), (255.0,)
logger = logging.getLogger("hatdet")


def needs_folding(mean: Sequence[float], std: Sequence[float], channels: int) -> bool:
    """Whether the integer input has no scale and zero point for a normalization: it differs between channels, or, of
    gray pictures, the mean is no whole level (with three channels that is refused)."""
    if len(set(mean)) > 1 or len(set(std)) > 1:
        return True
    return channels == 1 and not (mean[0] == int(mean[0]) and 0 <= mean[0] <= 255)


def input_quantization(detector: nn.Module) -> tuple[float, int]:
    """Scale and zero point with which ``pixel - 128`` is the input code; needs one mean and one std for all channels.

    Raises:
        ValueError: the normalization differs between channels, or puts pixel 0 off the integer grid.
    """
    data = detector.metadata()  # type: ignore[operator, union-attr]
    means, stds = np.ravel(data["mean"]).tolist(), np.ravel(data["std"]).tolist()
    if len(set(means)) > 1 or len(set(stds)) > 1:
        raise ValueError(
            f"the integer input needs one mean and one std for all channels, got mean {means}, std {stds}; train with "
            "mean=0, std=255"
        )
    zero_point = means[0] - 128
    if zero_point != int(zero_point) or not -128 <= zero_point <= 127:
        raise ValueError(f"the integer input needs a whole mean in [0, 255], got {means[0]}")
    return float(np.float32(1.0 / stds[0])), int(zero_point)


def fold_normalization(detector: nn.Module) -> bool:
    """Move a mean and std that the integer input cannot say (:func:`needs_folding`) into the convolutions that read
    the image; in place.

    ``conv((p - mean) / std)`` becomes ``conv'(p / 255)``: ``w' = w * 255 / std``, ``b' = b - sum(w * mean / std)``.
    Exact but for the convolution's zero padding, which then stands for pixel 0 and not for the mean pixel: the
    outermost positions change a little, and everything measured afterwards measures that model.

    Args:
        detector: folded already (:func:`~hatdet.quantization.fuse.fuse_bn`); offers ``network()`` and ``preprocessor``.

    Returns:
        Whether there was something to fold.

    Raises:
        ValueError: something other than a convolution of all the image's channels reads it.
    """
    preprocessor: Any = getattr(detector, "preprocessor", None)
    channels = input_channels(detector)
    if preprocessor is None or not needs_folding(preprocessor.mean, preprocessor.std, channels):
        return False
    network = cast(nn.Module, detector.network())  # type: ignore[operator]
    modules = dict(network.named_modules(remove_duplicate=False))
    users = [node.users for node in recorded_graph(network).nodes if node.op == "placeholder"]
    readers = {reader_name(user): modules.get(str(user.target)) for user in (users[0] if users else ())}
    for name, conv in readers.items():
        if not isinstance(conv, nn.Conv2d) or conv.in_channels != channels:
            raise ValueError(
                f"{name} reads the image and is no convolution of {channels} channels, so mean "
                f"{list(preprocessor.mean)} and std {list(preprocessor.std)} cannot be folded into it; train with "
                "mean=0, std=255"
            )
        _fold(conv, preprocessor.mean, preprocessor.std)
    logger.info("folded mean %s and std %s into %s", preprocessor.mean, preprocessor.std, ", ".join(readers))
    preprocessor.mean, preprocessor.std = INTEGER_MEAN, INTEGER_STD
    return True


def reader_name(node: fx.Node) -> str:
    """A module's path, or what a function is called."""
    return str(node.target) if node.op == "call_module" else node.name


@torch.no_grad()
def _fold(conv: nn.Conv2d, mean: Sequence[float], std: Sequence[float]) -> None:
    weight = conv.weight.double()
    means, stds = (weight.new_tensor(v).expand(weight.shape[1]).reshape(1, -1, 1, 1) for v in (mean, std))
    offset = (weight * means / stds).sum((1, 2, 3))
    bias = conv.bias.double() if conv.bias is not None else torch.zeros_like(offset)
    conv.weight.copy_(weight * (INTEGER_STD[0] / stds))
    conv.bias = nn.Parameter((bias - offset).to(conv.weight.dtype))


def use_normalization(detector: Any, metadata: dict[str, Any]) -> None:
    """Give ``detector`` the mean and std that an integer model was made for, as its metadata says."""
    preprocessor = getattr(detector, "preprocessor", None)
    if preprocessor is not None and "mean" in metadata and "std" in metadata:
        preprocessor.mean = tuple(float(v) for v in metadata["mean"])
        preprocessor.std = tuple(float(v) for v in metadata["std"])


def adopt_metadata(detector: Any, metadata: dict[str, Any]) -> None:
    """Let ``detector`` have what an integer model or an exported file was made with, besides its network: mean and
    std, and, where it asks for more (``adopt``), that."""
    use_normalization(detector, metadata)
    if callable(adopt := getattr(detector, "adopt", None)):
        adopt(metadata)
