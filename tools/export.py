"""Write a model as files that other runtimes read, and check each against the model."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).absolute().parents[1]))

from hatdet.commands.export.command import main

if __name__ == "__main__":
    raise SystemExit(main())
