"""Pascal VOC's annotations (XML) as COCO json."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).absolute().parents[2]))

from hatdet.commands.converters.pascal_voc import main

if __name__ == "__main__":
    raise SystemExit(main())
