"""A data set and a shell like those of SSCMA's tutorials."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest


def roboflow_set(root: Path, count: int) -> None:
    """``train`` and ``valid``, each with pictures and ``_annotations.coco.json`` in one folder; the first category is
    the exporter's dummy."""
    rng = np.random.default_rng(0)
    categories = [
        {"id": 0, "name": "mask", "supercategory": "none"},
        {"id": 1, "name": "mask", "supercategory": "mask"},
        {"id": 2, "name": "no-mask", "supercategory": "mask"},
    ]
    for split in ("train", "valid"):
        folder = root / split
        folder.mkdir(parents=True)
        images, boxes = [], []
        for number in range(count):
            h, w, side, label = 56 + 3 * number, 80, int(rng.integers(20, 40)), int(rng.integers(2))
            picture = rng.integers(0, 60, (h, w, 3)).astype(np.uint8)
            x, y = int(rng.integers(0, w - side)), int(rng.integers(0, h - side))
            cv2.rectangle(picture, (x, y), (x + side, y + side), (40, 220, 90) if label else (200, 60, 230), -1)
            cv2.imwrite(str(folder / f"{number}.jpg"), picture)
            images.append({"id": number, "file_name": f"{number}.jpg", "height": h, "width": w})
            boxes.append({"id": number, "image_id": number, "category_id": 1 + label, "bbox": [x, y, side, side]})
            boxes[-1] |= {"area": side * side, "iscrowd": 0}
        content = {"images": images, "annotations": boxes, "categories": categories}
        (folder / "_annotations.coco.json").write_text(json.dumps(content))


def mask_folder(tmp_path_factory: pytest.TempPathFactory, name: str) -> Path:
    """A folder with the tutorial's data set in it, small."""
    pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed")
    root = tmp_path_factory.mktemp(name)
    roboflow_set(root / "datasets" / "coco_mask" / "mask", count=6)
    return root


def tutorial_runner(folder: Path, repo_root: Path) -> Callable[[str], str]:
    """What runs a command line of the tutorial in ``folder``, its ``$(pwd)``, and returns what it printed."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(repo_root)}

    def command(text: str) -> str:
        words = text.replace("$(pwd)", str(folder)).replace("'", "").split()
        words[0] = str(repo_root / words[0])
        words[1] = str(repo_root / words[1])
        done = subprocess.run(
            [sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True, timeout=600
        )
        assert done.returncode == 0, f"{text}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        return done.stdout + done.stderr

    return command
