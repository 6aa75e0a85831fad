"""Pack an image-folder classification set into an LMDB folder; see --help."""

from __future__ import annotations

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from hatdet.data.packers.image_folder import main
from hatdet.utils.cli import run

if __name__ == "__main__":
    run(main)
