"""Where quantization loses accuracy: compare two stages layer by layer on validation images."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).absolute().parents[1]))

from hatdet.commands.quant_analysis.command import main

if __name__ == "__main__":
    raise SystemExit(main())
