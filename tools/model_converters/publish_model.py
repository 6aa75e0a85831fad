"""A checkpoint without what only training needs, its hash in its name."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).absolute().parents[2]))

from hatdet.commands.converters.publish_model import main

if __name__ == "__main__":
    raise SystemExit(main())
