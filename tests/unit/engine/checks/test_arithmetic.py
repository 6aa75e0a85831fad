"""One arithmetic in all stages of a config, under a known name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from hatdet.config.config import Config
from hatdet.config.load import load_config
from hatdet.engine.checks.arithmetic import STAGES, config_arithmetic
from hatdet.utils.errors import UserError

CONFIGS = Path(__file__).resolve().parents[4] / "configs"
SHIPPED = sorted(path for path in CONFIGS.rglob("*.py") if "_base_" not in path.parts)


def stage(arithmetic: object = None, converter: str = "Float2QAT") -> Mapping[str, Any]:
    params = {} if arithmetic is None else {"qconfig_params": {"arithmetic": arithmetic}}
    return {"model_convert_pipeline": {"converters": [{"type": "FuseBN"}, {"type": converter}], **params}}


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: str(path.relative_to(CONFIGS)))
def test_every_shipped_config_has_the_option(path: Path) -> None:
    assert config_arithmetic(load_config(path)) == "tflite_ref"
    config = load_config(path, {"arithmetic": "xnnpack"})
    assert config_arithmetic(config) == "xnnpack" and config["arithmetic"] == "xnnpack"
    said = [config[name]["model_convert_pipeline"]["qconfig_params"]["arithmetic"] for name in STAGES if name in config]
    assert said == ["xnnpack"] * 3


def test_what_is_not_said_is_the_references() -> None:
    assert config_arithmetic(Config({})) == "tflite_ref"
    assert config_arithmetic(Config({"int_infer": stage()})) == "tflite_ref"
    assert config_arithmetic(Config({"float_trainer": stage("xnnpack"), "int_infer": stage()})) == "tflite_ref"
    assert config_arithmetic(Config({"qat_trainer": stage("xnnpack", "FuseBN"), "int_infer": stage()})) == "tflite_ref"


def test_an_unknown_name_is_refused_with_the_nearest() -> None:
    with pytest.raises(UserError, match=r"^unknown arithmetic 'xnpack'; did you mean 'xnnpack'.*there are tflite_"):
        config_arithmetic(Config({"int_infer": stage("xnpack")}))
    for value in (8, "", ["xnnpack"], {"name": "xnnpack"}):
        with pytest.raises(UserError, match=rf"^unknown arithmetic {re.escape(repr(value))}; (did|there are tflite)"):
            config_arithmetic(Config({"int_infer": stage(value)}))


@pytest.mark.parametrize("name", ["both+xnnpack", "xnnpack+xnnpack", "tflite_ref+", "xnnpack + tflite_ref"])
def test_pairs_that_are_none_are_refused(name: str) -> None:
    with pytest.raises(UserError, match=rf"^unknown arithmetic '{re.escape(name)}'; did you mean '\w+'\? there are "):
        config_arithmetic(Config({"int_infer": stage(name)}))


def test_stages_have_one() -> None:
    calibration = stage("xnnpack", "Float2Calibration")
    with pytest.raises(UserError, match=r"'xnnpack' in calibration_trainer and 'tflite_ref' in qat_trainer; the int"):
        config_arithmetic(Config({"calibration_trainer": calibration, "qat_trainer": stage()}, "c.py"))


@pytest.mark.parametrize("value", ["'xnn' + 'pack'", "{'name': 'xnnpack'}"])
def test_a_constant_that_reaches_no_stage_is_refused(tmp_path: Path, value: str) -> None:
    path = tmp_path / "c.py"
    path.write_text(f"_base_ = 'hatdet:rtmdet/rtmdet_nano_ncadc_relu6_small_data.py'\narithmetic = {value}\n")
    found = re.escape(repr(eval(value)))
    with pytest.raises(UserError, match=rf"c.py: arithmetic is {found}, but 'tflite_ref' in calibration_trainer; ass"):
        config_arithmetic(load_config(path))


def test_an_option_reaches_the_stages_where_a_computed_constant_does_not(tmp_path: Path) -> None:
    path = tmp_path / "c.py"
    path.write_text("_base_ = 'hatdet:rtmdet/rtmdet_nano_ncadc_relu6_small_data.py'\narithmetic = 'xnn' + 'pack'\n")
    assert config_arithmetic(load_config(path, {"arithmetic": "xnnpack"})) == "xnnpack"
