"""Convert RTMDet checkpoints between MMDetection, MMYOLO and hatdet."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).absolute().parents[1]))

from hatdet.commands.convert_checkpoint import main

if __name__ == "__main__":
    raise SystemExit(main())
