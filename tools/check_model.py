"""Before any training: can a config's model become integers, and does the target run every operator of it?"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).absolute().parents[1]))

from hatdet.commands.check_model import main

if __name__ == "__main__":
    raise SystemExit(main())
