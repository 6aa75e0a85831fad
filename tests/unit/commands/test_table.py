"""The table of commands is complete, and every command has the one shape that ``tools/`` and an entry point need."""

from __future__ import annotations

import argparse
import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

from hatdet.commands.shared.process import command
from hatdet.commands.table import COMMANDS
from hatdet.utils.errors import UserError


def test_every_script_is_in_the_table_and_every_row_has_a_script(repo_root: Path) -> None:
    assert sorted(COMMANDS) == sorted(file.stem for file in (repo_root / "tools").glob("[a-z]*.py"))


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_is_its_module(name: str, repo_root: Path) -> None:
    """``main``, ``add_arguments`` and ``run``; the script starts ``main`` and says the same of itself as ``--help``."""
    module = importlib.import_module(COMMANDS[name].module)
    assert list(inspect.signature(module.main).parameters) == ["argv"]
    assert list(inspect.signature(module.add_arguments).parameters) == ["parser"]
    assert list(inspect.signature(module.run).parameters) == ["args"]
    script = (repo_root / "tools" / f"{name}.py").read_text(encoding="utf-8")
    says = (module.__doc__ or "").splitlines()[0]
    assert script == f'"""{says}"""\n\nfrom _start import start\n\nstart(__name__, "{name}")\n'
    assert len(COMMANDS[name].help) <= 70 and not COMMANDS[name].help.endswith(".")


def test_commands_import_nothing_large_before_they_run(repo_root: Path) -> None:
    """``--help`` is answered at once, and Ctrl-C while torch is imported is one line."""
    code = "import sys, importlib\n"
    code += f"for name in {[row.module for row in COMMANDS.values()]}: importlib.import_module(name)\n"
    code += "print({'torch', 'numpy', 'cv2', 'lmdb', 'rich', 'hatdet.config.load'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=repo_root, check=True)
    assert done.stdout == "set()\n"


def test_main_returns_the_status_and_ends_the_process_only_for_its_own_command_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--status", type=int)

    def run(args: argparse.Namespace) -> int | None:
        if args.status == 9:
            raise UserError("nine is too many; give less")
        status: int | None = args.status
        return status

    main = command("A command.", add_arguments, run)
    assert (main([]), main(["--status", "3"])) == (0, 3)
    with pytest.raises(UserError, match="nine is too many"):
        main(["--status", "9"])
    for words, status in (([], 0), (["--status", "3"], 3), (["--status", "9"], 2)):
        monkeypatch.setattr(sys, "argv", ["tools/x.py", *words])
        with pytest.raises(SystemExit) as caught:
            main()
        assert caught.value.code == status
    assert capsys.readouterr().err == "x.py: error: nine is too many; give less\n"
