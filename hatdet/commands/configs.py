"""List the configs that come with hatdet, each with the first line of what it says of itself.

hatdet configs
hatdet configs rtmdet
"""

from __future__ import annotations

import argparse
import ast
import textwrap

from hatdet.commands.shared.process import command
from hatdet.utils.errors import UserError

WIDTH = 80


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("word", nargs="?", metavar="WORD", help="only those whose name has this in it")


def run(args: argparse.Namespace) -> None:
    from hatdet.config.shipped import locate, names

    known = names()
    found = [name for name in known if args.word is None or args.word.lower() in name.lower()]
    if not found:
        folders = sorted({name.split(":")[1].rpartition("/")[0] for name in known} - {""})
        raise UserError(f"no config that comes with hatdet has {args.word!r} in its name; try {', '.join(folders)}")
    for name in found:
        text = ast.get_docstring(ast.parse(locate(name).read_text(encoding="utf-8"))) or ""
        print(name)
        for line in textwrap.wrap(text.split("\n\n")[0], WIDTH - 4)[:2]:
            print(f"    {line}")
    print("\nUse one as CONFIG of any command, or as the base of your own: _base_ = " + repr(found[0]))


main = command(__doc__, add_arguments, run)
