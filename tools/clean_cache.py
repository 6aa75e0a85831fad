"""List the packed copies of data sets in caches, and remove those that nothing uses any more."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).absolute().parents[1]))

from hatdet.commands.clean_cache import main

if __name__ == "__main__":
    raise SystemExit(main())
