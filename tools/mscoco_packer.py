"""Pack a COCO detection set into an LMDB folder; see --help."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from hatdet.utils.cli import run


def start(argv: Sequence[str] | None) -> None:
    """Import only now: a Ctrl-C meanwhile is one line too."""
    from hatdet.data.packers.command import main

    main(argv)


if __name__ == "__main__":
    run(start)
