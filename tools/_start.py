"""How the scripts beside this file begin: with the checkout that they stand in, installed or not."""

import importlib
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).absolute().parents[1]))


def start(caller: str, command: str) -> None:
    """Run a command of ``hatdet.commands.table``, where ``caller`` is the program and not a module of it."""
    if caller == "__main__":
        from hatdet.commands.table import COMMANDS

        raise SystemExit(importlib.import_module(COMMANDS[command].module).main())
