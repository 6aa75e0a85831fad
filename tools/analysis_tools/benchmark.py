"""Images a second: of a model, of a data loader, of a data set."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).absolute().parents[2]))

from hatdet.commands.analysis.benchmark import main

if __name__ == "__main__":
    raise SystemExit(main())
