"""What a shell is offered behind what was typed, and the code that makes it ask."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hatdet.commands.program import completion
from hatdet.commands.program.main import dispatch
from hatdet.utils.errors import UserError

MISSING = "argcomplete is not installed"


def offered(line: str, root: Path) -> list[str]:
    """What bash would be given: argcomplete's protocol, answers on file descriptor 8."""
    environment = {**os.environ, "_ARGCOMPLETE": "1", "COMP_LINE": line, "COMP_POINT": str(len(line)),
                   "_ARGCOMPLETE_COMP_WORDBREAKS": " \t\n\"'><=;|&(:", "_ARGCOMPLETE_IFS": "\n",
                   "PYTHON": sys.executable}  # fmt: skip
    script = f"exec {sys.executable} -m hatdet 8>&1 9>/dev/null >/dev/null"
    done = subprocess.run(["bash", "-c", script], env=environment, cwd=root, capture_output=True, text=True)
    return [word.strip() for word in done.stdout.split("\n") if word.strip()]


def test_commands_flags_and_choices_are_offered(repo_root: Path) -> None:
    pytest.importorskip("argcomplete", reason=MISSING)
    assert offered("hatdet quan", repo_root) == ["quantization", "quant-analysis"]
    assert offered("hatdet analysis conf", repo_root) == ["confusion-matrix"]
    assert offered("hatdet train --st", repo_root) == ["--stage"]
    assert offered("hatdet train --stage c", repo_root) == ["calibration"]
    assert offered("hatdet export --st", repo_root) == ["--stage"]


def test_configs_are_offered_files_and_shipped_ones(repo_root: Path) -> None:
    pytest.importorskip("argcomplete", reason=MISSING)
    # Bash takes the colon for the end of a word: it is given what follows.
    assert offered("hatdet train hatdet:rtmdet/rtmdet_ti", repo_root) == ["rtmdet/rtmdet_tiny_8xb32_300e_coco.py"]
    assert offered("hatdet train --config set", repo_root) == ["setup.py"]


@pytest.mark.parametrize("shell", completion.SHELLS)
def test_the_code_for_a_shell_is_for_hatdet(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("argcomplete", reason=MISSING)
    assert dispatch(["completion", shell]) == 0
    assert {"bash": "complete -o", "zsh": "compdef", "fish": "complete --command hatdet"}[shell] in (
        capsys.readouterr().out
    )


def test_without_argcomplete_one_line_says_what_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "argcomplete", None)
    with pytest.raises(UserError, match=r'not installed: pip install "hatdet\[completion\]"$'):
        dispatch(["completion", "bash"])


def test_only_the_command_on_the_line_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("argcomplete", reason=MISSING)
    imported = []
    original = completion.importlib.import_module
    monkeypatch.setattr(completion.importlib, "import_module", lambda name: imported.append(name) or original(name))
    parser = completion.parser_for(["train", "--st"])
    assert imported == ["hatdet.commands.train.command"]
    assert "train" in parser.format_help()
