"""The training images as the network gets them, with their boxes, one file an image."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).absolute().parents[2]))

from hatdet.commands.analysis.browse_dataset import main

if __name__ == "__main__":
    raise SystemExit(main())
