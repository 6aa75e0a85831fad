"""From float weights to the int8 file in one run: calibration, QAT, integer model, export, comparison."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).absolute().parents[1]))

from hatdet.commands.quantization.command import main

if __name__ == "__main__":
    raise SystemExit(main())
