"""The stages that tools/quant_analysis.py compares: which weights, in which arithmetic."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from hatdet.building import Builder
from hatdet.config.config import Config
from hatdet.engine.predictor import Predictor
from hatdet.engine.stages import PREDICT_STAGES, predictor_config
from hatdet.quantization.analysis.stage import MODES
from hatdet.quantization.converters import Float2Calibration, QAT2Int
from hatdet.quantization.detector import QuantizedDetector, device_of
from hatdet.utils.errors import UserError, did_you_mean

DEFAULT_STAGES = ("float", "int_infer")
SPECS = (
    "float",
    *(name if mode == "integer" else f"{name}:{mode}" for name in ("calibration", "qat") for mode in reversed(MODES)),
    "int_infer",
)


@dataclass(frozen=True)
class LoadedStage:
    """A stage's detector, traced, with its weights; ``predictor`` has its data and metric."""

    spec: str
    mode: str
    model: QuantizedDetector
    predictor: Predictor


def parse_spec(spec: str) -> tuple[str, str]:
    """``"qat:fake_quant"`` -> (stage, mode); without a mode: float for float, else integer.

    Raises:
        UserError: an unknown stage or mode.
    """
    if spec in ("int_infer:integer", "calibration:integer", "qat:integer", "float:float"):
        spec = spec.split(":")[0]
    if spec not in SPECS:
        raise UserError(f"unknown stage {spec!r}{did_you_mean(spec, SPECS)}; use two of {', '.join(SPECS)}")
    stage, _, mode = spec.partition(":")
    return stage, mode or ("float" if stage == "float" else "integer")


def parse_checkpoints(items: list[str]) -> dict[str, str]:
    """``["qat=FILE", ...]`` -> file by stage.

    Raises:
        UserError: not of that form, or an unknown stage.
    """
    found = {}
    for item in items:
        stage, mark, path = item.partition("=")
        if not mark or not path:
            raise UserError(f"--ckpt {item}: give STAGE=FILE, for example qat=work_dirs/x/qat-checkpoint-last.pth.tar")
        if stage not in PREDICT_STAGES:
            raise UserError(f"--ckpt {item}: unknown stage {stage!r}{did_you_mean(stage, PREDICT_STAGES)}")
        found[stage] = path
    return found


def load_stage(config: Config, spec: str, checkpoints: Mapping[str, str]) -> LoadedStage:
    """Build the stage's predictor and its traced detector.

    Raises:
        UserError: a checkpoint is missing or does not fit, or the stage has no quantized network.
    """
    stage, mode = parse_spec(spec)
    name, cfg = predictor_config(config, stage, checkpoints.get(stage))
    predictor: Predictor = Builder(config).build(cfg, name)
    pipeline: Any = predictor.model_convert_pipeline
    if stage == "int_infer" and pipeline is not None:
        pipeline.converters = [part for part in pipeline.converters if not isinstance(part, QAT2Int)]
    return LoadedStage(spec, mode, _traced(predictor.prepare(), stage), predictor)


def _traced(model: nn.Module, stage: str) -> QuantizedDetector:
    model.eval()
    if stage == "float":
        if isinstance(model, QuantizedDetector):
            raise UserError("float: the checkpoint's network is quantized already; name float weights")
        device = device_of(model)
        model = Float2Calibration()(model).to(device).eval()
    if not isinstance(model, QuantizedDetector):
        raise UserError(f"{stage}: its converters make no quantized network; it needs Float2Calibration or Float2QAT")
    return model.folded()
