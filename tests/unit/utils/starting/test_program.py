"""How texts name commands: by scripts for who runs scripts, by ``hatdet`` for who runs that."""

from __future__ import annotations

import sys

import pytest

from hatdet.utils.starting import program


@pytest.fixture
def as_hatdet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/venv/bin/hatdet", "train", "x.py"])
    monkeypatch.setattr(program, "_command", "")


@pytest.mark.parametrize(
    ("written", "spoken"),
    [
        ("run `python tools/train.py --stage qat` first", "run `hatdet train --stage qat` first"),
        ("see tools/check_model.py", "see hatdet check-model"),
        ("(tools/analysis_tools/analyze_logs.py)", "(hatdet analysis analyze-logs)"),
        ("tools/dataset_converters/pascal_voc.py, tools/misc/print_config.py",
         "hatdet convert pascal-voc, hatdet print-config"),
        ("tools/model_converters/publish_model.py", "hatdet publish-model"),
        ("torchrun --nproc-per-node 2 tools/train.py --stage float",
         "torchrun --nproc-per-node 2 -m hatdet train --stage float"),
        ("my/tools/train.py and tools/other/x.py stay", "my/tools/train.py and tools/other/x.py stay"),
    ],
)  # fmt: skip
def test_scripts_are_named_as_commands(as_hatdet: None, written: str, spoken: str) -> None:
    assert program.spoken(written) == spoken


def test_a_script_keeps_its_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["tools/predict.py"])
    text = "run `python tools/train.py configs/x.py`"
    assert program.spoken(text) == program.help_text(text) == text
    assert (program.name(), program.command_words("train")) == ("predict.py", ["python", "tools/train.py"])
    assert program.again() == ["tools/predict.py"]


def test_hatdet_starts_others_as_it_was_started(as_hatdet: None) -> None:
    program.begin("train")
    assert program.name() == "hatdet train"
    assert program.command_words("quant_analysis") == ["hatdet", "quant-analysis"]
    assert program.again() == ["--module", "hatdet", "train", "x.py"]
    assert program.help_text("hatdet X configs/a/b.py, my/configs/c.py") == "hatdet X hatdet:a/b.py, my/configs/c.py"


def test_python_m_hatdet_is_hatdet(monkeypatch: pytest.MonkeyPatch) -> None:
    for place, answer in (("/a/hatdet/__main__.py", True), ("/a/other/__main__.py", False), ("/b/pytest", False)):
        monkeypatch.setattr(sys, "argv", [place])
        assert program.is_hatdet() is answer
