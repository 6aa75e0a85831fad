"""Parameters and multiply-accumulates of a config's model at its image size."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).absolute().parents[2]))

from hatdet.commands.analysis.get_flops import main

if __name__ == "__main__":
    raise SystemExit(main())
