"""Files of published weights under hatdet's names: torchvision's, timm's, MMPretrain's, EfficientNet-Lite's.

Names are facts of the files. torchvision (ResNet, MobileNetV2, MobileNetV3, ShuffleNetV2) and MMPretrain (CSPNeXt) name
layers as the backbones here do, MMPretrain with ``backbone.`` before them. timm names a block of MobileNets and
EfficientNets by stage and place in it, and its layers by what they do: ``blocks.2.0.conv_dw.weight``, where torchvision
has ``features.4.conv.1.0.weight``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from hatdet.models.backbones.efficientnet_lite import EfficientNetLite, MBConv
from hatdet.models.backbones.mobilenetv2 import Expansion, MobileNetV2
from hatdet.models.backbones.mobilenetv3 import MobileNetV3, SqueezeExcitation
from hatdet.models.pretrained.published import IMAGENET, LITE, Normalization

_PREFIXES = ("module.", "backbone.")


@dataclass(frozen=True)
class Renamed:
    """Weights under a backbone's names, as far as they have one there."""

    weights: dict[str, Tensor]
    normalization: Normalization
    """what the pictures were put through that they were trained on"""


def renamed(backbone: nn.Module, weights: Mapping[str, Tensor]) -> Renamed:
    """``weights`` of a file under the names of ``backbone``: whichever of the known ways fits more of them."""
    given = dict(weights)
    for prefix in _PREFIXES:
        inside = {key.removeprefix(prefix): value for key, value in given.items() if key.startswith(prefix)}
        others = {key: value for key, value in given.items() if not key.startswith(prefix)}
        given = {**others, **inside}
    own = set(backbone.state_dict())
    names = timm_names(backbone)
    of_timm = {_under(names, key): value for key, value in given.items()}
    if len(own & of_timm.keys()) > len(own & given.keys()):
        return Renamed(of_timm, IMAGENET)
    return Renamed(given, LITE if isinstance(backbone, EfficientNetLite) else IMAGENET)


def _under(names: Mapping[str, str], key: str) -> str:
    module, _, tensor = key.rpartition(".")
    return f"{names[module]}.{tensor}" if module in names else key


def timm_names(backbone: nn.Module) -> dict[str, str]:
    """timm's name of each layer with weights, and the backbone's; empty where the two have the same names."""
    if isinstance(backbone, EfficientNetLite):
        names = {"conv_stem": "_conv_stem", "bn1": "_bn0"}
    elif isinstance(backbone, (MobileNetV2, MobileNetV3)):
        names = {"conv_stem": "features.0.0", "bn1": "features.0.1"}
    else:
        return {}
    for number, stage in enumerate(backbone.stages[1:]):
        for place, name in enumerate(stage):
            block = backbone.get_submodule(name)
            theirs = f"blocks.{number}.{place}"
            if isinstance(block, MBConv):
                names |= {f"{theirs}.{a}": f"{name}.{b}" for a, b in _lite_block(block).items()}
            elif isinstance(block, Expansion):
                names |= {f"{theirs}.conv_pw": f"{name}.conv.0.0", f"{theirs}.bn1": f"{name}.conv.0.1"}
            elif isinstance(block, nn.Sequential):  # the last 1x1 convolution: MobileNetV2's belongs to timm's head
                head = isinstance(backbone, MobileNetV2)
                conv, norm = ("conv_head", "bn2") if head else (f"{theirs}.conv", f"{theirs}.bn1")
                names |= {conv: f"{name}.0", norm: f"{name}.1"}
            else:
                names |= {f"{theirs}.{a}": f"{name}.{b}" for a, b in _block(block).items()}
    return names


def _lite_block(block: MBConv) -> dict[str, str]:
    if not block.expands:
        return {"conv_dw": "_depthwise_conv", "bn1": "_bn1", "conv_pw": "_project_conv", "bn2": "_bn2"}
    convs = {"conv_pw": "_expand_conv", "conv_dw": "_depthwise_conv", "conv_pwl": "_project_conv"}
    return {**convs, "bn1": "_bn0", "bn2": "_bn1", "bn3": "_bn2"}


def _block(block: nn.Module) -> dict[str, str]:
    """Of torchvision's inverted residuals: a list of layers, of which a convolution with its norm is one or two."""
    inside = "conv" if hasattr(block, "conv") else "block"
    layers = block.get_submodule(inside)
    assert isinstance(layers, nn.Sequential)
    pairs: list[tuple[str, str]] = []
    found: dict[str, str] = {}
    for i, layer in enumerate(layers):
        if isinstance(layer, nn.Conv2d):
            pairs.append((f"{inside}.{i}", f"{inside}.{i + 1}"))
        elif isinstance(layer, nn.Sequential):
            pairs.append((f"{inside}.{i}.0", f"{inside}.{i}.1"))
        elif isinstance(layer, SqueezeExcitation):
            found |= {"se.conv_reduce": f"{inside}.{i}.fc1", "se.conv_expand": f"{inside}.{i}.fc2"}
    convs = ("conv_pw", "conv_dw", "conv_pwl") if len(pairs) == 3 else ("conv_dw", "conv_pw")
    for i, (conv, (ours, norm)) in enumerate(zip(convs, pairs, strict=True), start=1):
        found |= {conv: ours, f"bn{i}": norm}
    return found
