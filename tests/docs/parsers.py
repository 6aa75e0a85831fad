"""What a parser accepts."""

from __future__ import annotations

import argparse


def flags(parser: argparse.ArgumentParser) -> set[str]:
    """All flags that its help shows, those of its own commands too, but for ``--help``."""
    found: set[str] = set()
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            found = found.union(*map(flags, action.choices.values()))
        elif action.help != argparse.SUPPRESS:
            found |= {flag for flag in action.option_strings if flag not in ("-h", "--help")}
    return found
