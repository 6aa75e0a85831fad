"""Print the resolved config, with inheritance and options applied, as a runnable Python file."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).absolute().parents[2]))

from hatdet.commands.print_config import main

if __name__ == "__main__":
    raise SystemExit(main())
