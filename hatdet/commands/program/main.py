"""The main function of ``hatdet``: it lists the commands, or finds the one that the line means and calls it.

Nothing large is imported before a command runs, so help, version and completion are answered at once.
"""

from __future__ import annotations

import importlib
import os
import sys
import textwrap
from collections.abc import Sequence
from typing import NoReturn

import hatdet
from hatdet.commands.program.names import ALIASES, commands, find, sections
from hatdet.commands.shared.process import run
from hatdet.commands.table import GROUPS
from hatdet.utils.starting import program

WIDTH = 80
FIRST_STEPS = """\
First steps, from a data set to the integer model:
  hatdet init my_data                              writes my_data.py, a config
  hatdet train --stage float my_data.py
  hatdet train --stage calibration my_data.py
  hatdet train --stage qat my_data.py
  hatdet predict --stage int_infer my_data.py
  hatdet export my_data.py --verify 16"""


def main() -> NoReturn:
    """Do what the process's command line says, and end the process."""
    if "_ARGCOMPLETE" in os.environ:
        from hatdet.commands.program.completion import complete

        complete()
    run(lambda _: dispatch(sys.argv[1:]))


def dispatch(words: Sequence[str]) -> int:
    """Do what ``words`` say; gives the exit status.

    Raises:
        UserError: there is no such command; and what the command raises.
    """
    if words and words[0] == "help":
        words = [*words[1:], "--help"]
    if not words or words[0] in ("-h", "--help"):
        print(overview())
        return 0
    if words[0] in ("-V", "--version"):
        print(f"hatdet {hatdet.__version__}")
        return 0
    group = ALIASES.get(words[0], words[0])
    if group in GROUPS and (len(words) == 1 or words[1] in ("-h", "--help")):
        print(group_overview(group))
        return 0
    found = find(words)
    program.begin(found.name)
    return int(importlib.import_module(found.command.module).main(found.words))


def overview() -> str:
    """What ``hatdet --help`` prints: the commands in the order of a project's day."""
    lines = [
        f"hatdet {hatdet.__version__}: {(hatdet.__doc__ or '').split(': ', 1)[1]}",
        "",
        "usage: hatdet COMMAND [ARGUMENTS]     hatdet COMMAND --help     hatdet --version",
    ]
    width = max(len(name) for _, rows in sections() for name, _ in rows) + 4
    for heading, rows in sections():
        lines += ["", heading]
        for name, text in rows:
            lines += textwrap.wrap(text, WIDTH, initial_indent=f"  {name}".ljust(width), subsequent_indent=" " * width)
    return "\n".join([*lines, "", FIRST_STEPS])


def group_overview(group: str) -> str:
    """What ``hatdet GROUP --help`` prints."""
    rows = [(name, row.help) for name, row in commands().items() if name.startswith(group + " ")]
    width = max(len(name) for name, _ in rows) + 4
    lines = [f"{GROUPS[group].help}.", "", f"usage: hatdet {group} COMMAND [ARGUMENTS]", ""]
    for name, text in rows:
        lines += textwrap.wrap(text, WIDTH, initial_indent=f"  {name}".ljust(width), subsequent_indent=" " * width)
    return "\n".join(lines)
