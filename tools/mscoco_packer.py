"""Pack a COCO detection set into an LMDB folder."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).absolute().parents[1]))

from hatdet.commands.mscoco_packer import main

if __name__ == "__main__":
    raise SystemExit(main())
