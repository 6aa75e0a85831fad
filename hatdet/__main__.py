"""``python -m hatdet`` is the command ``hatdet``."""

from hatdet.commands.program.main import main

if __name__ == "__main__":
    main()
