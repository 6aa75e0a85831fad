"""What is taken for what: the confusion matrix of detections, as a picture and as numbers."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).absolute().parents[2]))

from hatdet.commands.analysis.confusion_matrix import main

if __name__ == "__main__":
    raise SystemExit(main())
