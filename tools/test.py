"""Score a model file on the config's validation data: the 12 COCO numbers and AP per class."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).absolute().parents[1]))

from hatdet.commands.test import main

if __name__ == "__main__":
    raise SystemExit(main())
