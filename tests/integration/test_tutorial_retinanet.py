"""The commands of docs/tutorial_retinanet.md, in their order, at a small size."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.mini_coco import mini_coco

ROOT = Path(__file__).resolve().parents[2]
DOCS = [ROOT / "docs" / name for name in ("tutorial_retinanet.md", "tutorial_retinanet.zh.md")]
SMALL = [
    *("num_classes=2", "imgsz=(64,64)", "epochs=1", "batch_size_per_gpu=2", "workers=0", "calibration_step=2"),
    *("pretrained=None", "lr=0.001"),
]
WITHOUT_OPTIONS = ("mscoco_packer.py",)


def commands(path: Path) -> list[str]:
    """The lines of the document's bash blocks."""
    blocks = re.findall(r"```bash\n(.*?)```", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line.strip()]


def test_both_languages_have_the_same_commands() -> None:
    english, chinese = (commands(path) for path in DOCS)
    assert english == chinese and len(english) >= 15


def small(command: str, picture: Path, out: Path) -> list[str]:
    """The command for this Python, this place and small sizes."""
    words = shlex.split(command.replace("${img_path}", str(picture)).replace("${save_path}", str(out)))
    assert words[0] == "python3"
    words = [sys.executable, str(ROOT / words[1]), *words[2:]]
    words = [str(ROOT / word) if word.startswith("configs/") else word for word in words]
    words = [word.replace("1,3,1024,1024", "1,3,64,64") for word in words]
    if any(word.endswith(WITHOUT_OPTIONS) for word in words):
        return words
    return [*words, "--cfg-options", *SMALL]


@pytest.mark.slow
def test_every_command_of_the_tutorial_runs(tmp_path: Path) -> None:
    data = tmp_path / "tmp_data" / "mscoco"
    mini_coco(data, count=6)
    picture = sorted((data / "val2017").glob("*"))[0]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    for command in commands(DOCS[0]):
        words = small(command, picture, tmp_path / "drawn")
        done = subprocess.run(words, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=600, check=False)
        assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    work = tmp_path / "work_dirs" / "retinanet_vargnetv2_fpn_mscoco"
    for stage in ("float", "calibration", "qat"):
        assert (work / f"{stage}-checkpoint-best.pth.tar").is_file()
    assert any((tmp_path / "drawn").iterdir())
    assert any((tmp_path / "perf").glob("*_vela.tflite"))
    assert (work / "align_bpu_validation").is_dir() and (work / "quant_analysis").is_dir()
