"""Compile the int8 model for an Arm Ethos-U and report what it costs there, operator by operator."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).absolute().parents[1]))

from hatdet.commands.compile_perf.command import main

if __name__ == "__main__":
    raise SystemExit(main())
