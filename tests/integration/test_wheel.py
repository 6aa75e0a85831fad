"""The wheel, built and installed into an environment with the other packages but not the checkout, does the work."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest

from hatdet.config import shipped
from tests.helpers.wheel import build_wheel, environment_beside, run
from tests.integration.mini_coco import mini_coco

SMALL = "hatdet:rtmdet/rtmdet_nano_ncadc_relu6_small_data.py"
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout."""
    pytest.importorskip("pip", reason="pip is not installed, which builds the wheel")
    return build_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def scripts(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of programs of a fresh environment with the wheel."""
    return environment_beside(tmp_path_factory.mktemp("environment"), wheel)


def test_the_wheel_holds_every_config_and_nothing_of_tests(wheel: Path, repo_root: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    inside = sorted(name for name in names if name.startswith("hatdet/configs/"))
    here = repo_root / "configs"
    assert inside == sorted(f"hatdet/configs/{file.relative_to(here).as_posix()}" for file in here.rglob("*.py"))
    assert {name.split("/")[0].split("-")[0] for name in names} == {"hatdet"}


def test_help_env_and_configs(scripts: Path, tmp_path: Path) -> None:
    text = run(scripts / "hatdet", "--help", cwd=tmp_path)
    assert "usage: hatdet COMMAND" in text and "\n  train " in text
    assert run(scripts / "python", "-m", "hatdet", "--version", cwd=tmp_path).startswith("hatdet ")
    found = json.loads(run(scripts / "hatdet", "env", "--json", cwd=tmp_path))
    assert Path(found["hatdet"]["hatdet lies in"]).is_relative_to(scripts.parent)
    listed = run(scripts / "hatdet", "configs", cwd=tmp_path).splitlines()
    assert [line for line in listed if line.startswith("hatdet:")] == shipped.names()
    assert "\nimgsz = (320, 320)\n" in run(scripts / "hatdet", "print-config", SMALL, cwd=tmp_path)


def test_the_demo_needs_no_checkout(scripts: Path, tmp_path: Path) -> None:
    """One epoch of four pictures: the road is walked; what such a model is worth decides the status, 0 or 1."""
    words = ("--train-images", 4, "--val-images", 2, "--image-size", 64, "--epochs", 1, "--qat-epochs", 1)
    text = run(scripts / "hatdet", "demo", *words, cwd=tmp_path, status=None)
    assert "ended with status" not in text and "ok      parity of the exported model" in text, text
    assert (tmp_path / "demo_out/report.html").is_file(), text


def test_from_a_data_set_to_a_trained_step(scripts: Path, tmp_path: Path) -> None:
    mini_coco(tmp_path / "shapes", count=4)
    text = run(scripts / "hatdet", "init", "shapes", cwd=tmp_path)
    assert "wrote shapes.py; next:\n  hatdet train --stage float shapes.py\n" in text
    options = ("--cfg-options", "imgsz=(64,64)", "epochs=1", "workers=0", "run_pictures=False")
    run(scripts / "hatdet", "train", "shapes.py", *options, cwd=tmp_path)
    assert (tmp_path / "work_dirs/shapes/float-checkpoint-last.pth.tar").is_file()
    text = run(scripts / "hatdet", "predict", "--stage", "qat", "shapes.py", cwd=tmp_path, status=2)
    assert "run `hatdet train --stage " in text and "tools/" not in text
