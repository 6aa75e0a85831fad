"""Packages give their usual names, and import nothing for it until one is asked for."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

NAMES = {
    "hatdet.config": "Config MissingNameError Problem load_config parse_options",
    "hatdet.models.layers": "ACTIVATIONS SPP CSPLayer ChannelAttention ConvModule DepthwiseSeparableConvModule",
    "hatdet.models.losses": "FocalLossV2 GIoULoss QualityFocalLoss SmoothL1Loss mean_over_ranks",
    "hatdet.models.task_modules": "AnchorGenerator AnchorTargets AssignResult BBoxTargetGenerator DataPreprocessor "
    "DistancePointBBoxCoder DynamicSoftLabelAssigner MatchLabelSepEncoder MaxIoUMatcher MlvlPointGenerator "
    "OneHotClassEncoder RTMDetPostProcess RetinaNetPostProcess RetinanetMultiStrideFilter XYWHBBoxEncoder",
    "hatdet.ops": "aligned_giou aligned_iou batched_nms box_area pairwise_giou pairwise_iou",
    "hatdet.profiling": "OpsReport OpsRow count_ops parse_shape",
}


@pytest.mark.parametrize("package", NAMES)
def test_names(package: str) -> None:
    module = importlib.import_module(package)
    for name in NAMES[package].split():
        found = getattr(module, name)
        assert getattr(found, "__name__", name) == name
    with pytest.raises(AttributeError, match=f"module '{package}' has no attribute 'nothing'"):
        getattr(module, "nothing")  # noqa: B009


def test_importing_a_package_imports_none_of_it() -> None:
    code = "import sys, hatdet.config, hatdet.models.losses; print([m for m in sys.modules if m.startswith('torch')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
