"""Print parameters and multiply-accumulates of a config's model, for each module and in total."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).absolute().parents[1]))

from hatdet.commands.calops import main

if __name__ == "__main__":
    raise SystemExit(main())
