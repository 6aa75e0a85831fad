"""Cityscapes' instance pictures as COCO json: the boxes of its eight classes of things."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).absolute().parents[2]))

from hatdet.commands.converters.cityscapes import main

if __name__ == "__main__":
    raise SystemExit(main())
