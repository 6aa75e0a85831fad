"""Before a training a model is traced once; what passed is known by all that the verdict comes from."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hatdet.commands.shared import target_check
from hatdet.commands.shared.required_target import record_of, require_target
from hatdet.config.config import Config
from hatdet.config.load import load_config
from hatdet.utils.errors import UserError

NANO = "configs/rtmdet/rtmdet_nano_8xb32_300e_coco_ncadc_relu6.py"


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Config]:
    """The configs that were checked, each found good, with a cache folder of the test's own."""
    monkeypatch.setenv("HATDET_CACHE", str(tmp_path / "cache"))
    found: list[Config] = []

    def check(config: Config) -> Any:
        found.append(config)
        return SimpleNamespace(ok=True)

    monkeypatch.setattr(target_check, "check_config", check)
    return found


def nano(repo_root: Path, **options: Any) -> Config:
    return load_config(str(repo_root / NANO), {"imgsz": (64, 64), **options})


def test_a_model_that_passed_is_not_traced_again(traced: list[Config], repo_root: Path) -> None:
    for _ in range(3):
        require_target(nano(repo_root), "float")
    require_target(nano(repo_root, epochs=7, work_dir="elsewhere"), "float")  # says nothing of the network
    assert len(traced) == 1


@pytest.mark.parametrize(
    "options",
    [{"num_classes": 3}, {"imgsz": (64, 96)}, {"target": "ethos-u55-128"}, {"arithmetic": "xnnpack"}],
    ids=lambda options: next(iter(options)),
)
def test_another_model_is_traced(traced: list[Config], repo_root: Path, options: dict[str, Any]) -> None:
    for settings in ({}, options, options):
        require_target(nano(repo_root, **settings), "float")
    assert len(traced) == 2


def test_settings_of_the_integer_stage_count(traced: list[Config], repo_root: Path) -> None:
    require_target(nano(repo_root), "float")
    config = nano(repo_root)
    config["int_infer"]["model_convert_pipeline"]["qconfig_params"]["keep_float"] = ["bbox_head.rtm_cls.0"]
    require_target(config, "float")
    assert len(traced) == 2


def test_code_counts(repo_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A project's own module, by the file of its class; a class without a file: no record."""
    file = tmp_path / "own_head_of_a_test.py"
    file.write_text("from torch import nn\nclass Own(nn.Identity):\n    pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    from own_head_of_a_test import Own  # type: ignore[import-not-found]

    config = nano(repo_root)
    config["model"] = {"type": Own}
    first = record_of(config)
    assert first is not None and first == record_of(config)
    file.write_text(file.read_text() + "# changed\n")
    assert record_of(config) != first

    monkeypatch.setattr(Own, "__module__", "nowhere")
    assert record_of(config) is None
    config["model"] = {"type": "torch.Generator"}
    assert record_of(config) is None


def test_what_is_refused_is_traced_and_told_each_time(
    traced: list[Config], repo_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = SimpleNamespace(ok=False, refused=["too large"], target=SimpleNamespace(name="tflite"))
    monkeypatch.setattr(target_check, "check_config", lambda config: traced.append(config) or report)
    for _ in range(2):
        with pytest.raises(UserError, match="does not suit target='tflite':\n  too large"):
            require_target(nano(repo_root), "float")
    assert len(traced) == 2


def test_a_folder_that_cannot_be_written(
    traced: list[Config], repo_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("HATDET_CACHE", str(tmp_path / "file"))
    for _ in range(2):
        require_target(nano(repo_root), "float")
    assert len(traced) == 2


def test_a_config_without_a_target_is_not_looked_at(traced: list[Config], repo_root: Path) -> None:
    require_target(nano(repo_root, target=None), "float")
    assert not traced
