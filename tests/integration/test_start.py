"""How little a training loads before its first step."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.mini_coco import CONFIG, mini_coco

TRAIN = """
import sys
from hatdet.commands.train.command import main
main(sys.argv[1:])
names = ["torch._dynamo.convert_frame", "torch._inductor", "sympy"]
names += ["onnx", "ai_edge_litert", "hatdet.export.targets.check"]
print("LOADED", [name for name in names if name in sys.modules])
"""


@pytest.mark.slow
def test_a_training_loads_no_compiler_and_no_exporters(repo_root: Path, tmp_path: Path) -> None:
    """Neither torch's compiler nor sympy; of a model that passed its target's check before, no writers of files."""
    data = mini_coco(tmp_path / "data", 4)
    options = [f"data_root={data}", "num_classes=2", "imgsz=(64,64)", "batch_size=2", "epochs=1", "workers=0"]
    words = [str(repo_root / CONFIG), "--overwrite", "--cfg-options", *options, f"work_dir={tmp_path / 'wd'}"]
    environment = {**os.environ, "HATDET_CACHE": str(tmp_path / "cache")}
    for writers in (["onnx", "ai_edge_litert", "hatdet.export.targets.check"], []):  # the first one traces
        done = subprocess.run(
            [sys.executable, "-c", TRAIN, *words], cwd=repo_root, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        assert set(ast.literal_eval(done.stdout.rpartition("LOADED ")[2])) <= set(writers)
