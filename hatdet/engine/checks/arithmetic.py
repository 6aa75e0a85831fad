"""The arithmetic that a config's integer stages follow: a known one, and the same in all of them."""

from __future__ import annotations

from collections.abc import Mapping

from hatdet.config.config import Config
from hatdet.engine.stages import INT_INFER_NAMES, converters_of, type_name
from hatdet.integer.agreement.together import arithmetic_named
from hatdet.integer.arithmetic import PROFILE
from hatdet.utils.errors import UserError

QUANTIZERS = ("Float2Calibration", "Float2QAT")
STAGES = ("calibration_trainer", "calibration_predictor", "qat_trainer", "qat_predictor", *INT_INFER_NAMES)


def config_arithmetic(config: Config) -> str:
    """Name of the arithmetic that the config's integers follow; the reference's where it does not say.

    Raises:
        UserError: there is none of that name, the stages have different ones, or another than the config's constant.
    """
    said: dict[str, str] = {}  # arithmetic -> the first stage that has it
    for stage in STAGES:
        section = config.get(stage)
        if isinstance(section, Mapping) and any(type_name(part) in QUANTIZERS for part in converters_of(section)):
            params = section["model_convert_pipeline"].get("qconfig_params") or {}
            name = params.get("arithmetic", PROFILE)
            arithmetic_named(name)
            said.setdefault(name, stage)
    shown = " and ".join(f"{name!r} in {stage}" for name, stage in said.items())
    if len(said) > 1:
        raise UserError(
            f"{config.path}: arithmetic is {shown}; the integers of all stages follow one: write one name for all"
        )
    constant = config.get("arithmetic")
    if said and constant is not None and constant not in list(said):  # bases are computed from literals alone
        raise UserError(
            f"{config.path}: arithmetic is {constant!r}, but {shown}; assign one name as a literal, or give "
            "--cfg-options arithmetic=NAME, and all stages follow it"
        )
    return next(iter(said), PROFILE)
