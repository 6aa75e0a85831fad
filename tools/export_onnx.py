"""Write a stage's model as ONNX and compare it with the model under onnxruntime."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).absolute().parents[1]))

from hatdet.commands.export_onnx.command import main

if __name__ == "__main__":
    raise SystemExit(main())
