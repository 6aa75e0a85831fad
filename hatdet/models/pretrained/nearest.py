"""Which of the published backbones a file of weights belongs to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from torch import Tensor, nn

from hatdet.models.backbones.cspnext import CSPNeXt
from hatdet.models.backbones.efficientnet_lite import EfficientNetLite
from hatdet.models.backbones.mobilenetv2 import MobileNetV2
from hatdet.models.backbones.mobilenetv3 import MobileNetV3
from hatdet.models.backbones.mobilenetv4 import MobileNetV4
from hatdet.models.backbones.resnet import ARCHITECTURES, ResNet
from hatdet.models.backbones.shufflenetv2 import ShuffleNetV2
from hatdet.models.pretrained.fitting import unfit
from hatdet.models.pretrained.layouts import renamed

_CSPNEXTS = ((0.167, 0.375), (0.33, 0.5), (0.67, 0.75), (1.0, 1.0), (1.33, 1.25))  # tiny, s, m, l, x
_MARKS = (
    ("_conv_stem.", "lite"),
    ("layer1.0.", "resnet"),
    ("stage1.0.", "cspnext"),
    ("stage2.0.branch2.", "shufflenet"),
    ("features.", "mobile"),
    ("blocks.", "timm"),
)


def nearest_backbone(weights: Mapping[str, Tensor]) -> str | None:
    """``type='ResNet', depth=50``: what to write for the backbone that the whole file fits; None: no known one."""
    bare = [key.removeprefix("module.").removeprefix("backbone.") for key in weights]
    kinds = {kind for mark, kind in _MARKS if any(key.startswith(mark) for key in bare)}
    for text, backbone in _candidates(kinds):
        if not unfit(backbone, renamed(backbone, weights).weights):
            return text
    return None


def _candidates(kinds: set[str]) -> Iterator[tuple[str, nn.Module]]:
    """Built one by one, the small and usual ones of a kind first."""
    if "resnet" in kinds:
        for depth in ARCHITECTURES:
            yield f"type='ResNet', depth={depth}", ResNet(depth=depth)
    if kinds & {"lite", "timm"}:
        for version in range(5):
            yield f"type='EfficientNetLite', version={version}", EfficientNetLite(version=version)
    if kinds & {"mobile", "timm"}:
        for arch in ("small", "large"):
            yield f"type='MobileNetV3', arch='{arch}'", MobileNetV3(arch=arch)
        for factor in (1.0, 0.75, 0.5, 0.35, 1.4):
            yield f"type='MobileNetV2', widen_factor={factor}", MobileNetV2(widen_factor=factor)
    if "shufflenet" in kinds:
        for size in ("0.5x", "1.0x", "1.5x", "2.0x"):
            yield f"type='ShuffleNetV2', model_size='{size}'", ShuffleNetV2(model_size=size)  # type: ignore[arg-type]
    if "timm" in kinds:
        yield "type='MobileNetV4'", MobileNetV4()
    if "cspnext" in kinds:
        for deep, wide in _CSPNEXTS:
            yield f"type='CSPNeXt', deepen_factor={deep}, widen_factor={wide}", CSPNeXt(
                deepen_factor=deep, widen_factor=wide
            )
