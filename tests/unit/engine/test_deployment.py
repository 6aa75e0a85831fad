"""What a config says of the device."""

from __future__ import annotations

from pathlib import Path

import pytest

from hatdet.config.config import Config
from hatdet.config.load import load_config
from hatdet.engine.deployment import deployed_name, deployed_shape
from hatdet.utils.errors import UserError


def config_of(folder: Path, text: str) -> Config:
    path = folder / "mine.py"
    path.write_text(text)
    return load_config(path)


def test_model_and_shape(tmp_path: Path) -> None:
    plain = config_of(tmp_path, "model = dict(type='RTMDet')")
    assert (deployed_name(plain), deployed_shape(plain)) == ("model", None)
    both = config_of(tmp_path, "model = deploy_model = dict(type='RTMDet')\ndeploy_inputs = dict(img=(1, 3, 64, 96))")
    assert (deployed_name(both), deployed_shape(both)) == ("deploy_model", (1, 3, 64, 96))


@pytest.mark.parametrize("inputs", ["dict(img=(3, 64, 64))", "dict(img=(1, 3, 0, 64))", "(1, 3, 64, 64)", "dict()"])
def test_a_shape_that_is_none(tmp_path: Path, inputs: str) -> None:
    with pytest.raises(UserError, match=r"write deploy_inputs = dict\(img=\(1, 3, height, width\)\)"):
        deployed_shape(config_of(tmp_path, f"deploy_inputs = {inputs}"))
