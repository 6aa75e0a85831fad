"""Show what a model finds in pictures: boxes, classes and scores drawn, and listed as json."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).absolute().parents[1]))

from hatdet.commands.infer.command import main

if __name__ == "__main__":
    raise SystemExit(main())
