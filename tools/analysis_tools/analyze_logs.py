"""Curves and times of training runs."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).absolute().parents[2]))

from hatdet.commands.analysis.analyze_logs import main

if __name__ == "__main__":
    raise SystemExit(main())
