"""Where AP is lost, class by class: precision over recall as errors of one kind after another are forgiven."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).absolute().parents[2]))

from hatdet.commands.analysis.coco_error_analysis import main

if __name__ == "__main__":
    raise SystemExit(main())
