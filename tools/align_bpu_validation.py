"""Does the deployed model find what the toolbox reported? Image by image, to the last bit."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).absolute().parents[1]))

from hatdet.commands.align_bpu_validation.command import main

if __name__ == "__main__":
    raise SystemExit(main())
