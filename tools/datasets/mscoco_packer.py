"""The same as tools/mscoco_packer.py, under the path that HAT's users know."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).absolute().parents[2]))

from hatdet.commands.mscoco_packer import main

if __name__ == "__main__":
    raise SystemExit(main())
