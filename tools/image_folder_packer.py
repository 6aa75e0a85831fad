"""Pack an image folder (DIR/train/CLASS/*.jpg) into an LMDB folder for classification pretraining."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).absolute().parents[1]))

from hatdet.commands.image_folder_packer import main

if __name__ == "__main__":
    raise SystemExit(main())
