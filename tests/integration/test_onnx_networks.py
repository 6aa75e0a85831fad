"""Whole networks as ONNX: every tensor of the exact form is the integer model's, the float file is torch's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from hatdet.building import Builder
from hatdet.config.load import load_config
from hatdet.export.calibrate import calibrate
from hatdet.export.evaluate import quantize_images
from hatdet.export.formats.onnx import export_exact_onnx, export_float_onnx, export_qdq_onnx
from hatdet.export.onnx.evaluate import OnnxDetector

pytest.importorskip("onnx", reason="onnx is not installed")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
RTMDET, RETINANET = "configs/rtmdet/rtmdet_", "configs/detection/retinanet/retinanet_vargnetv2_"
NETWORKS = {
    RTMDET + "nano_8xb32_300e_coco_ncadc_relu6.py": {"add", "conv", "max_pool", "resize_nearest"},
    RTMDET + "nano_8xb32_300e_coco_hardswish.py": {"activation", "add", "conv"},
    RTMDET + "tiny_8xb32_300e_coco.py": {"activation", "global_average_pool", "mul"},
    RETINANET + "tiny_coco.py": {"add", "conv", "resize_bilinear"},
}


def detector_of(path: str) -> Any:
    """With random weights and lively batch normalization; no image of zeros, no map of zeros."""
    torch.manual_seed(0)
    model = Builder().build(load_config(path, {"num_classes": 3})["model"]).eval()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.bias)
            torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
    for conv in model.bbox_head.modules():
        if isinstance(conv, torch.nn.Conv2d) and conv.bias is not None:
            torch.nn.init.normal_(conv.weight, std=0.05)
    for conv in getattr(model.bbox_head, "rtm_reg", ()):  # RTMDet's boxes need distances above 0
        torch.nn.init.constant_(conv.bias, 1.5)
    return model


@pytest.mark.slow
@pytest.mark.parametrize("config", NETWORKS)
def test_a_network_in_all_forms(config: str, repo_root: Path, tmp_path: Path) -> None:
    size = (64, 96)
    detector = detector_of(str(repo_root / config))
    pixels = torch.randint(0, 256, (2, 3, *size), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    raw = export_float_onnx(detector, size, tmp_path / "f.onnx", pixels=pixels)
    decoded = export_float_onnx(detector, size, tmp_path / "d.onnx", pixels=pixels, decode=True, preprocess=True)
    assert raw.ok and decoded.ok, raw.text + decoded.text
    file = OnnxDetector(detector=detector, model=tmp_path / "d.onnx")
    file.layout.check_shapes(detector, "d.onnx")
    found, expected = file({"img": pixels})[0], detector({"img": pixels})[0]
    assert abs(len(found["boxes"]) - len(expected["boxes"])) <= 2 and len(found["boxes"]) > 10
    quantized, _ = calibrate(detector, [{"img": pixels}], 2)
    graph = quantized.int_graph(size)
    assert {op.kind for op in graph.ops} >= NETWORKS[config]
    codes = quantize_images(quantized.task.preprocess(pixels), graph.qparams(graph.inputs[0]))
    exact = export_exact_onnx(graph, tmp_path / "e.onnx", codes=codes, intermediates=True)
    assert exact.ok, exact.text
    assert len(exact.checks["comparison"]["tensors"]) == len(graph.ops)
    assert max(t["levels"] for t in exact.checks["comparison"]["tensors"]) > 200
    drift = export_qdq_onnx(graph, tmp_path / "q.onnx", codes=codes).checks["comparison"]
    means = [t["sum_lsb"] / t["compared"] / 2 ** (t["bits"] - 8) for t in drift["tensors"]]  # in units of 8 bits
    assert max(means) > 0 and (max(means) < 4 or _saturates())


def _saturates() -> bool:
    """Whether onnxruntime adds 8-bit products in 16 bits here: x86 without VNNI, where heads share weights."""
    file = Path("/proc/cpuinfo")
    text = file.read_text() if file.is_file() else ""
    return "avx2" in text and "vnni" not in text

