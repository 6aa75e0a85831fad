"""A page for each command, out of its parser: what ``hatdet COMMAND --help`` says, so it cannot say anything else."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import re
import sys
from collections.abc import Iterator
from unittest import mock

from hatdet.commands.program.names import ALIASES, commands, sections
from hatdet.commands.shared.arguments import make_parser
from hatdet.commands.table import GROUPS
from hatdet.utils.starting import program
from sitegen.text import code, dedented, help_cell, prose

TITLES = {"positional arguments": "Arguments", "options": "Options"}
COMMAND_LINE = re.compile(r"^\s*(?:hatdet |python |make |torchrun |eval |pip )")


@contextlib.contextmanager
def as_hatdet(name: str) -> Iterator[None]:
    """Inside, texts are those of the program ``hatdet`` and its command ``name``, in a terminal of 84 columns."""
    before = program._command
    with mock.patch.object(sys, "argv", ["hatdet"]), mock.patch.dict(os.environ, COLUMNS="84", NO_COLOR="1"):
        program.begin(name)
        try:
            yield
        finally:
            program.begin(before)


def parser_of(name: str) -> argparse.ArgumentParser:
    """The parser of a command, as its main function makes it; call it inside :func:`as_hatdet`."""
    module = importlib.import_module(commands()[name].module)
    parser = make_parser(module.__doc__)
    module.add_arguments(parser)
    return parser


def page_name(name: str) -> str:
    return f"commands/{name.replace(' ', '_')}.md"


def pages() -> dict[str, str]:
    return {"commands/index.md": index()} | {page_name(name): page(name) for name in commands()}


def nav() -> list[dict[str, object] | str]:
    made: list[dict[str, object] | str] = ["commands/index.md"]
    for heading, rows in sections():
        inside: list[dict[str, str]] = []
        for name, _ in rows:
            inside += [{f"hatdet {each}": page_name(each)} for each in members(name)]
        made.append({heading: inside})
    return made


def members(name: str) -> list[str]:
    """A command itself, or the commands of a group."""
    return [each for each in commands() if each.startswith(f"{name} ")] if name in GROUPS else [name]


INDEX = """\
# Commands

All of `hatdet`, in the order of a project's day. A page says what `hatdet COMMAND --help` says.
In a checkout `python tools/train.py` is `hatdet train`, and so on.
"""


def index() -> str:
    lines = [INDEX]
    for heading, rows in sections():
        lines += [f"## {heading}", "", "| command | |", "|---|---|"]
        for name, _ in rows:
            for each in members(name):
                link = page_name(each).removeprefix("commands/")
                lines.append(f"| [`hatdet {each}`]({link}) | {help_cell(commands()[each].help)} |")
        lines.append("")
    return "\n".join(lines)


def page(name: str) -> str:
    with as_hatdet(name):
        parser = parser_of(name)
        others = [f"`hatdet {alias}`" for alias, full in ALIASES.items() if full == name]
        lines = [f"# hatdet {name}", ""]
        lines += [f"Also {', '.join(others)}.", ""] if others else []
        return "\n".join([*lines, *described(parser), *tables(parser, 2)]) + "\n"


def described(parser: argparse.ArgumentParser) -> list[str]:
    """A parser's description, paragraph by paragraph, and its usage."""
    lines: list[str] = []
    for block in re.split(r"\n\s*\n", program.help_text(parser.description or "").strip("\n")):
        rows = block.split("\n")
        while rows:
            kind = is_code(rows[0])
            count = next((n for n, row in enumerate(rows) if is_code(row) is not kind), len(rows))
            part, rows = rows[:count], rows[count:]
            lines += ["", "```text", dedented(part), "```"] if kind else ["", *(prose(line) for line in part)]
    usage = [line.removeprefix("usage: ").removeprefix(" " * 7) for line in parser.format_usage().rstrip().split("\n")]
    return [*lines, "", "```text", *usage, "```", ""]


def is_code(line: str) -> bool:
    return line.startswith("  ") or bool(COMMAND_LINE.match(line))


def tables(parser: argparse.ArgumentParser, level: int) -> list[str]:
    """The arguments of a parser, group by group, then those of its own commands."""
    lines: list[str] = []
    inside: list[tuple[str, argparse.ArgumentParser]] = []
    for group in parser._action_groups:
        rows = []
        for action in group._group_actions:
            if isinstance(action, argparse._SubParsersAction):
                inside += unique(action)
            elif action.help != argparse.SUPPRESS and not isinstance(action, argparse._HelpAction):
                rows.append(f"| {' '.join(code(each) for each in spellings(action))} | {meaning(parser, action)} |")
        if rows:
            title = str(group.title)
            lines += [f"{'#' * level} {TITLES.get(title, title)}", "", "| | |", "|---|---|", *rows, ""]
    for name, child in inside:
        lines += [f"{'#' * level} {name}", "", *described(child), *tables(child, level + 1)]
    return lines


def unique(action: argparse._SubParsersAction[argparse.ArgumentParser]) -> list[tuple[str, argparse.ArgumentParser]]:
    """Commands of a command, each once, by its first name."""
    found: dict[int, tuple[str, argparse.ArgumentParser]] = {}
    for name, child in action.choices.items():
        found.setdefault(id(child), (name, child))
    return list(found.values())


def spellings(action: argparse.Action) -> list[str]:
    """How an argument is written: its flags, the first one with its values."""
    formatter = argparse.HelpFormatter("")
    if not action.option_strings:
        return [str(formatter._metavar_formatter(action, action.dest)(1)[0])]
    values = "" if action.nargs == 0 else f" {formatter._format_args(action, action.dest.upper())}"
    return [action.option_strings[0] + values, *action.option_strings[1:]]


def meaning(parser: argparse.ArgumentParser, action: argparse.Action) -> str:
    text = parser._get_formatter()._expand_help(action) if action.help else ""
    return help_cell(program.help_text(text))
