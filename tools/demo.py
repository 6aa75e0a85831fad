"""The whole road on a rendered data set: train, calibrate, QAT, integer model, .tflite, bit-for-bit check, report."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).absolute().parents[1]))

from hatdet.commands.demo import main

if __name__ == "__main__":
    raise SystemExit(main())
