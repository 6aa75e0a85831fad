"""CrowdHuman's annotations (a JSON object a line) as COCO json: whole persons, class ``pedestrian``."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).absolute().parents[2]))

from hatdet.commands.converters.crowdhuman2coco import main

if __name__ == "__main__":
    raise SystemExit(main())
