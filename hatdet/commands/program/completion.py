"""Print what makes a shell complete the lines of hatdet: commands, flags, choices, configs, files.

For this shell:      eval "$(hatdet completion bash)"      (zsh the same; fish: hatdet completion fish | source)
For all new shells:  hatdet completion bash >> ~/.bashrc
                     hatdet completion zsh >> ~/.zshrc              (after compinit)
                     hatdet completion fish > ~/.config/fish/completions/hatdet.fish

Needs argcomplete: pip install "hatdet[completion]".
"""

from __future__ import annotations

import argparse
import importlib
import os
from typing import Any

from hatdet.commands.shared.process import command
from hatdet.utils.errors import UserError

SHELLS = ("bash", "zsh", "fish")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=SHELLS, help="whose language to print")


def run(args: argparse.Namespace) -> None:
    try:
        import argcomplete
    except ImportError as error:
        raise UserError(
            'argcomplete, which does the completion, is not installed: pip install "hatdet[completion]"'
        ) from error
    print(argcomplete.shellcode(["hatdet"], shell=args.shell))


def complete() -> None:
    """Answer a shell that asks what may come next, and end the process."""
    try:
        import argcomplete
    except ImportError:
        os._exit(1)
    words = os.environ.get("COMP_LINE", "").split()[1:]
    argcomplete.autocomplete(parser_for(words), always_complete_options="long")


def parser_for(words: list[str]) -> argparse.ArgumentParser:
    """A parser of all commands in which the one that ``words`` begin with has its arguments; the others have none.

    So one module is imported, not all of them.
    """
    from hatdet.commands.program.names import commands, find
    from hatdet.commands.table import GROUPS

    try:
        wanted = find(words).name if words else ""
    except UserError:
        wanted = ""
    parser = argparse.ArgumentParser("hatdet", add_help=True, allow_abbrev=False)
    parser.add_argument("--version", action="store_true")
    top: Any = parser.add_subparsers(parser_class=argparse.ArgumentParser)
    inside = {name: top.add_parser(name, help=group.help).add_subparsers() for name, group in GROUPS.items()}
    for name, row in commands().items():
        group, _, own = name.rpartition(" ")
        child = (inside[group] if group else top).add_parser(own, help=row.help, allow_abbrev=False)
        if name == wanted:
            importlib.import_module(row.module).add_arguments(child)
            _complete_configs(child)
    return parser


def _complete_configs(parser: argparse.ArgumentParser) -> None:
    """Where a config is asked for: Python files, and the names of shipped configs."""
    from argcomplete.completers import FilesCompleter

    files = FilesCompleter(("py",))

    def configs(prefix: str, **kwargs: Any) -> list[str]:
        from hatdet.config.shipped import names

        return [*files(prefix, **kwargs), *(name for name in names() if name.startswith(prefix) or not prefix)]

    for action in parser._actions:
        if action.metavar == "CONFIG":
            action.completer = configs  # type: ignore[attr-defined]


main = command(__doc__, add_arguments, run)
