"""Anchor sizes that fit a data set, for detectors whose anchors are base sizes (YOLOv3)."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).absolute().parents[2]))

from hatdet.commands.analysis.optimize_anchors import main

if __name__ == "__main__":
    raise SystemExit(main())
