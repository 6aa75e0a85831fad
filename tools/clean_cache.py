"""List and remove packed copies of data sets that nothing uses any more; see --help."""

from __future__ import annotations

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from hatdet.data.packers.caches import main
from hatdet.utils.cli import run

if __name__ == "__main__":
    run(main)
