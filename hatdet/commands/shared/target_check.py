"""The body of ``tools/check_model.py``: does the target run this model?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from hatdet.building import Builder
from hatdet.config.config import Config
from hatdet.engine.checks.arithmetic import config_arithmetic
from hatdet.engine.deployment import deployed_name, deployed_shape
from hatdet.engine.stages import INT_INFER_NAMES, converters_of, type_name
from hatdet.export.bundle.board_check import check_board
from hatdet.export.targets.boards import board_target, get_board
from hatdet.export.targets.check import check_model
from hatdet.export.targets.report import CheckReport
from hatdet.export.targets.table import DEFAULT_TARGET, Target, get_target
from hatdet.inference.model_files import config_image_size
from hatdet.integer.agreement.together import arithmetic_named
from hatdet.integer.arithmetic import PROFILE
from hatdet.utils.errors import UserError

PIPELINES = (*INT_INFER_NAMES, "qat_trainer", "calibration_trainer")
"""Where a config says how its model is quantized, the most telling first."""

_DATA = ("LoadCheckpoint", "QAT2Int")


def config_target(config: Config, name: str | None = None) -> Target:
    """The target of that name; None: the config's ``target``, else ``tflite``.

    Raises:
        UserError: there is no such target.
    """
    return get_target(name or config.get("target") or DEFAULT_TARGET)


def check_config(
    config: Config,
    target: str | None = None,
    image_size: Sequence[int] | None = None,
    board: str | None = None,
    arithmetic: str | None = None,
) -> CheckReport:
    """Build a config's ``deploy_model`` (else ``model``), check it against a target; reads no data, no checkpoints.

    Args:
        target: None: the config's. image_size: one or two numbers, (h, w); None: the config's ``imgsz``, else that
            of its ``deploy_inputs``, else that of its integer model.
        board: name of one whose target is taken (instead of the config's) and whose limits are checked too.
        arithmetic: None: the config's.

    Raises:
        UserError: no such target, board or arithmetic, no image size, or a model that cannot be built.
    """
    named = get_board(board) if board is not None else None
    arithmetic = arithmetic if arithmetic is not None else config_arithmetic(config)
    arithmetic_named(arithmetic)
    chosen = board_target(named, target) if named is not None else config_target(config, target)
    size = (image_size[0], image_size[-1]) if image_size is not None else config_image_size(config)
    if size is None and (shape := deployed_shape(config)) is not None:
        size = shape[2:]
    if size is None:
        size = next((tuple(made) for c in _steps(config) if (made := c.get("image_size"))), None)
    if size is None:
        raise UserError(f"{config.path} has no imgsz; add imgsz = (H, W) (tools/check_model.py also takes --imgsz H W)")
    name = deployed_name(config)
    config.validate(name)
    detector = Builder(config).build(config[name], name)
    if not all(callable(getattr(detector, name, None)) for name in ("network", "metadata")):
        raise UserError(
            f"{config.path}: the model is {type(detector).__name__}, no detector: integer models are made of "
            "detectors and classifiers, e.g. RTMDet or ImageClassifier; set model, or deploy_model, to one"
        )
    report = check_model(detector, chosen, (int(size[0]), int(size[1])), converters(config, arithmetic), arithmetic)
    if named is not None:
        check_board(named, report)
    return report


def _steps(config: Config) -> list[dict[str, Any]]:
    """What the config's ``int_infer`` does to a model, as the config has it."""
    pipeline = (config.get("int_infer") or {}).get("model_convert_pipeline") or {}
    return [step for step in pipeline.get("converters", ()) if isinstance(step, dict)]


def converters(config: Config, arithmetic: str) -> Any:
    """How the config quantizes its model, without the weights that its converters would load; None: by default.

    The integer stage's own converters are taken, so that their settings (``int16_output``, ``keep_float``) count; their
    integers follow ``arithmetic``.
    """
    name = next((n for n in PIPELINES if n in config and converters_of(config[n])), None)
    if name is None:
        return None
    config.validate(name)
    kept = [
        {key: value for key, value in part.items() if key != "calibration_checkpoint"}
        for part in converters_of(config[name])
        if part is not None and type_name(part) not in _DATA
    ]
    pipeline = {**config[name]["model_convert_pipeline"], "converters": kept}
    params = pipeline.get("qconfig_params") or {}
    if params.get("arithmetic", PROFILE) != arithmetic:
        pipeline["qconfig_params"] = {**params, "arithmetic": arithmetic}
    build = Builder()

    def convert(model: nn.Module) -> nn.Module:
        converted: nn.Module = build.build(pipeline, f"{name}.model_convert_pipeline")(model)
        return converted

    return convert
