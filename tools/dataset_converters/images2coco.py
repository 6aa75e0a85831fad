"""A folder of images without annotations as COCO json: for predictions, or to be annotated."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).absolute().parents[2]))

from hatdet.commands.converters.images2coco import main

if __name__ == "__main__":
    raise SystemExit(main())
