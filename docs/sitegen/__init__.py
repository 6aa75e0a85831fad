"""What makes the pages of the documentation site that are not written by hand."""

import sys
from pathlib import Path

_ROOT = str(Path(__file__).resolve().parents[2])
if _ROOT not in sys.path:  # the pages tell of this checkout, whatever hatdet is installed
    sys.path.insert(0, _ROOT)
