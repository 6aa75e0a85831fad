"""The integer executor against the float network, for every model that ships."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.parts import Parts
from benchmarks.timing import Row, interleave
from hatdet.building import Builder
from hatdet.config.load import load_config
from hatdet.integer.executor import IntExecutor
from hatdet.quantization.converters import Float2QAT
from hatdet.quantization.detector import QuantizedDetector

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
TARGET = 1 / 0.7  # at least 0.7 times the float model's speed
# name, config, batch size, image size
MODELS = (
    ("nano relu6", "rtmdet/rtmdet_nano_8xb32_300e_coco_ncadc_relu6.py", 8, 320),
    ("nano relu", "rtmdet/rtmdet_nano_8xb32_300e_coco_relu.py", 8, 320),
    ("nano hardswish", "rtmdet/rtmdet_nano_8xb32_300e_coco_hardswish.py", 8, 320),
    ("nano silu", "rtmdet/rtmdet_nano_8xb32_300e_coco_silu.py", 8, 320),
    ("tiny", "rtmdet/rtmdet_tiny_8xb32_300e_coco.py", 4, 320),
    ("retinanet vargnetv2", "detection/retinanet/retinanet_vargnetv2_fpn_mscoco.py", 1, 256),
    ("retinanet vargnetv2 tiny", "detection/retinanet/retinanet_vargnetv2_tiny_coco.py", 8, 256),
)


def executors(parts: Parts, repeat: int) -> list[Row]:
    """One row a model: raw maps of the same pictures by both."""
    rows = []
    for name, path, batch, side in MODELS:
        pictures = parts.batch["img"][:batch, :, :side, :side].contiguous(memory_format=torch.channels_last)
        torch.manual_seed(0)
        model: Any = Builder().build(copy.deepcopy(load_config(CONFIGS / path).model), "model")
        for module in model.modules():  # RetinaNet's own start lets its maps fade to nothing, as no trained head's do
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        rows.append(_row(f"executor {name}", model.to(memory_format=torch.channels_last), pictures, repeat))
    return rows


@torch.no_grad()
def _row(name: str, model: Any, pictures: Tensor, repeat: int) -> Row:
    images = model.preprocess(pictures).contiguous(memory_format=torch.channels_last)
    model.train()
    for _ in range(2):  # batch normalization with its first statistics would let a random network fade to nothing
        model.run_network(images)
    network: nn.Module = copy.deepcopy(model).network().eval()
    quantized = Float2QAT()(copy.deepcopy(model).eval())
    assert isinstance(quantized, QuantizedDetector)
    real = quantized.preprocess(pictures)
    quantized.run_network(real)
    quantized.set_observing(False)
    height, width = pictures.shape[2:]
    executor = IntExecutor(quantized.int_graph((height, width)))

    def float_forward() -> None:
        with torch.no_grad():
            network(images)

    calls: dict[str, Callable[[], object]] = {"integer": lambda: executor.run_real(real), "float": float_forward}
    times = interleave(calls, repeat)
    return Row(f"{name} ({executor.backend})", times["integer"], times["float"], "float forward, eval mode", TARGET)
