"""The command ``hatdet``: names, help, near misses, and what it may import before a command runs."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from hatdet.commands.program import names
from hatdet.commands.program.main import dispatch, group_overview, overview
from hatdet.commands.table import ELSEWHERE, GROUPS
from hatdet.utils.errors import UserError
from hatdet.utils.starting import program


def test_every_script_is_a_command_by_the_name_that_texts_give_it(repo_root: Path) -> None:
    tools = repo_root / "tools"
    for script in tools.rglob("[a-z]*.py"):
        folder = None if script.parent == tools else script.parent.name
        assert program.command_of(folder, script.stem) in names.commands(), script


def test_groups_and_others_are_the_scripts_in_folders(repo_root: Path) -> None:
    folders = {"analysis_tools": GROUPS["analysis"].commands, "dataset_converters": GROUPS["convert"].commands,
               "model_converters": ELSEWHERE}  # fmt: skip
    for folder, rows in folders.items():
        assert sorted(rows) == sorted(file.stem for file in (repo_root / "tools" / folder).glob("*.py"))


def test_the_overview_lists_each_command_once_under_a_heading_of_its_own() -> None:
    text = overview()
    shown = re.findall(r"^  ([a-z][\w-]*)  ", text, flags=re.MULTILINE)
    tops = {name for name in names.commands() if " " not in name} | set(GROUPS)
    assert sorted(shown) == sorted(tops)
    assert "\nMore\n" not in text, "put the command below a heading of SECTIONS"
    assert max(len(line) for line in text.splitlines()[1:]) <= 80
    assert text.index("\nBegin\n") < text.index("\nTrain\n") < text.index("\nHand over\n")
    commands = re.findall(r"^  hatdet ([\w-]+) ", text, flags=re.MULTILINE)
    assert commands[1:] == ["train", "train", "train", "predict", "export"]


def test_a_group_lists_its_own() -> None:
    text = group_overview("convert")
    assert re.findall(r"^  convert ([\w-]+)", text, flags=re.MULTILINE) == [
        "pascal-voc", "cityscapes", "crowdhuman2coco", "images2coco"]  # fmt: skip


@pytest.mark.parametrize(
    ("line", "name", "rest"),
    [
        ("train c.py --amp", "train", ["c.py", "--amp"]),
        ("quant_analysis", "quant-analysis", []),
        ("analysis confusion-matrix a b", "analysis confusion-matrix", ["a", "b"]),
        ("analyze logs x", "analysis analyze-logs", ["x"]),
        ("convert voc d", "convert pascal-voc", ["d"]),
        ("convert checkpoint d", "convert-checkpoint", ["d"]),
        ("pack --help", "mscoco-packer", ["--help"]),
    ],
)
def test_a_line_means_a_command(line: str, name: str, rest: list[str]) -> None:
    found = names.find(line.split())
    assert (found.name, found.words) == (name, rest)
    assert found.command == names.commands()[name]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("trian", "no command 'trian'; did you mean 'train'? `hatdet --help` lists all commands"),
        ("confusion_matrix a", "no command 'confusion_matrix'; did you mean 'analysis confusion-matrix'?"
         " `hatdet --help` lists all commands"),
        ("xyzzy", "no command 'xyzzy'; `hatdet --help` lists all commands"),
        ("--stage", "no command '--stage'; "),
        ("val m.tflite", "no command 'val': `hatdet test CONFIG FILE` scores a model file, `hatdet predict"),
        ("analysis confusionmatrix", "hatdet analysis: no command 'confusionmatrix'; did you mean 'confusion-matrix'?"
         " `hatdet analysis --help` lists all commands"),
    ],
)  # fmt: skip
def test_a_near_miss_is_told(line: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        dispatch(line.split())
    assert str(caught.value).startswith(message)


def test_aliases_lead_to_commands_and_hide_none() -> None:
    known = {*names.commands(), *GROUPS}
    assert set(names.ALIASES.values()) <= known
    assert not (set(names.ALIASES) | set(names.AMBIGUOUS)) & known


def hatdet(*words: str, root: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "hatdet", *words], capture_output=True, text=True, cwd=root)


def test_the_process_speaks_of_itself_as_hatdet(repo_root: Path) -> None:
    done = hatdet("train", "--stgae", root=repo_root)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "hatdet train: error: unrecognized arguments: --stgae; did you mean '--stage'?\n"
    done = hatdet("help", "train", root=repo_root)
    assert done.returncode == 0 and done.stdout.startswith("usage: hatdet train [-h]")
    assert "hatdet train --stage float --config hatdet:rtmdet/" in done.stdout and "tools/" not in done.stdout


@pytest.mark.parametrize("name", names.commands())
def test_the_help_of_a_command_speaks_of_hatdet(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["/venv/bin/hatdet"])
    monkeypatch.setattr(program, "_command", "")
    with pytest.raises(SystemExit) as caught:
        dispatch([*name.split(), "--help"])
    out = capsys.readouterr().out
    assert caught.value.code == 0 and out.startswith(f"usage: hatdet {name} ")
    assert "tools/" not in out and "python " not in out


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["analysis"], ["train", "--help"]])
def test_help_and_version_import_nothing_large(words: list[str], repo_root: Path) -> None:
    code = "import sys; sys.argv = ['hatdet', *sys.argv[1:]]\n"
    code += "from hatdet.commands.program.main import dispatch\n"
    code += "try:\n    dispatch(sys.argv[1:])\nexcept SystemExit as error:\n    assert not error.code\n"
    code += "print({'torch', 'numpy', 'cv2', 'lmdb', 'rich', 'importlib.metadata'} & {*sys.modules})"
    done = subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, cwd=repo_root, check=True
    )
    assert done.stdout.endswith("\nset()\n")
