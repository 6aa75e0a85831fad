"""Configs by the name under which they come with hatdet, from a checkout and from an installed package."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from hatdet.config import shipped
from hatdet.config.load import load_config
from hatdet.utils.errors import ConfigError

SMALL = "hatdet:rtmdet/rtmdet_nano_ncadc_relu6_small_data.py"


def test_a_shipped_config_is_loaded_by_name(repo_root: Path) -> None:
    config = load_config(SMALL)
    assert config["imgsz"] == (320, 320)
    assert config["work_dir"] == "work_dirs/rtmdet_nano_ncadc_relu6_small_data"
    assert config.path == repo_root / "configs/rtmdet/rtmdet_nano_ncadc_relu6_small_data.py"


def test_a_shipped_config_is_a_base_wherever_the_file_lies(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(f'_base_ = "{SMALL}"\nnum_classes = 3\n', encoding="utf-8")
    config = load_config(tmp_path / "mine.py")
    assert config["model"]["bbox_head"]["num_classes"] == 3
    assert config["epochs"] == 60


def test_a_shipped_config_is_a_base_of_a_file_in_mmdetections_words(tmp_path: Path) -> None:
    text = '_base_ = "hatdet:mmdetection/fcos_int8.py"\nnum_classes = 5\n'
    (tmp_path / "mine.py").write_text(text, encoding="utf-8")
    assert load_config(tmp_path / "mine.py")["model"]["bbox_head"]["num_classes"] == 5


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("rtmdet/rtmdet_nano_ncadc_relu6_small_date.py", f"did you mean {SMALL}?"),
        ("rtmdet_nano_ncadc_relu6_small_data.py", f"did you mean {SMALL}?"),
        ("../setup.py", "`hatdet configs` lists them"),
        ("", "`hatdet configs` lists them"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest(name: str, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config("hatdet:" + name)
    assert str(caught.value) == f"no config hatdet:{name} comes with hatdet; {hint}"


def test_names_are_those_that_can_be_trained(repo_root: Path) -> None:
    names = shipped.names()
    assert SMALL in names and not [name for name in names if "_base_" in name]
    files = {file for file in (repo_root / "configs").rglob("*.py") if "_base_" not in file.parts}
    assert {shipped.locate(name) for name in names} == files


def test_an_installed_package_has_its_own(
    tmp_path: Path, repo_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "site-packages" / "hatdet"
    shutil.copytree(repo_root / "configs", package / "configs")
    monkeypatch.setattr(shipped, "_PACKAGE", package)
    config = load_config(SMALL)
    assert config.path.is_relative_to(package)
    assert shipped.spelled(config.path) == SMALL
    assert shipped.spelled(Path("configs/x.py")) == "configs/x.py"
    shutil.rmtree(package / "configs")
    with pytest.raises(ConfigError, match="install hatdet anew"):
        shipped.folder()
