"""Input normalization as integers need it: one scale for all channels, so that a pixel's code is ``pixel - 128``."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import fx, nn

from hatdet.quantization.recorded import evaluating
from hatdet.quantization.two_sizes import recorded_graph

INTEGER_MEAN, INTEGER_STD = (0.0,), (255.0,)
logger = logging.getLogger("hatdet")


def fold_normalization(detector: nn.Module) -> bool:
    """Move a mean and std that differ between channels into the convolutions that read the image; in place.

    ``conv((p - mean) / std)`` becomes ``conv'(p / 255)``: ``w' = w * 255 / std``, ``b' = b - sum(w * mean / std)``.
    Exact but for the convolution's zero padding, which then stands for pixel 0 and not for the mean pixel: the
    outermost positions change a little, and everything measured afterwards measures that model.

    Args:
        detector: folded already (:func:`~hatdet.quantization.fuse.fuse_bn`); offers ``network()`` and ``preprocessor``.

    Returns:
        Whether there was something to fold.

    Raises:
        ValueError: something other than a convolution with 3 input channels reads the image.
    """
    preprocessor: Any = getattr(detector, "preprocessor", None)
    if preprocessor is None or (len(set(preprocessor.mean)) == 1 and len(set(preprocessor.std)) == 1):
        return False
    network = cast(nn.Module, detector.network())  # type: ignore[operator]
    modules = dict(network.named_modules(remove_duplicate=False))
    with evaluating(network):
        users = [node.users for node in recorded_graph(network).nodes if node.op == "placeholder"]
    readers = {reader_name(user): modules.get(str(user.target)) for user in (users[0] if users else ())}
    for name, conv in readers.items():
        if not isinstance(conv, nn.Conv2d) or conv.in_channels != 3:  # of one channel there is nothing to fold
            raise ValueError(
                f"{name} reads the image and is no convolution of 3 channels, so mean {list(preprocessor.mean)} and "
                f"std {list(preprocessor.std)} cannot be folded into it; train with mean=0, std=255"
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
    shape = (1, 3, 1, 1)
    weight = conv.weight.double()
    means, stds = (weight.new_tensor(v if len(v) == 3 else [v[0]] * 3).reshape(shape) for v in (mean, std))
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
