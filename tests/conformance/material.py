"""MMDetection's official configs of both versions, in a cache outside of git, and the rows that describe them."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / "build" / "conformance"
RELEASES = {3: "3.3.0", 2: "2.28.2"}
ROWS = ROOT.parent / "shared" / "golden" / "components" / "mmdet_configs.json"
TWO_STAGE = frozenset(
    ("FasterRCNN", "CascadeRCNN", "GridRCNN", "FastRCNN", "DINO", "DETR", "DeformableDETR", "ConditionalDETR",
     "DABDETR")
)  # fmt: skip
BROKEN = frozenset(
    ("bytetrack/bytetrack_yolox_x_8xb4-amp-80e_crowdhuman-mot17halftrain_test-mot17test.py",
     "sort/faster-rcnn_r50_fpn_8xb2-4e_mot17train_test-mot17train.py",
     "sort/faster-rcnn_r50_fpn_8xb2-8e_mot20halftrain_test-mot20halfval.py",
     "sort/faster-rcnn_r50_fpn_8xb2-8e_mot20train_test-mot20train.py")
)  # fmt: skip
"""Files of 3.3.0 that name a base which does not exist."""
FOREIGN = ("mmpretrain.TIMMBackbone", "mmcls.TIMMBackbone", "mmpretrain.ConvNeXt", "RTMDetInsSepBNHead")
"""Parts of other packages, and of masks."""
ELSEWHERE = "rtmdet/classification/"
"""Files whose bases are another package's."""


def configs(version: int) -> Path:
    """The folder of the official configs of a version; fetched where it is not there yet."""
    release = RELEASES[version]
    folder = CACHE / f"mmdet-{release}"
    if not (folder / "configs").is_dir():
        wheels = CACHE / "wheels"
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", f"mmdet=={release}", "-d", wheels]
        subprocess.run([str(word) for word in command], check=True)
        (wheel,) = wheels.glob(f"mmdet-{release}-*.whl")
        _unpack(wheel, folder)
    return folder / "configs"


def _unpack(wheel: Path, folder: Path) -> None:
    inside = "mmdet/.mim/"
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            if name.startswith(f"{inside}configs/") and not name.endswith("/"):
                place = folder / name.removeprefix(inside)
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(archive.read(name))


def rows(dense: bool = True) -> list[dict[str, Any]]:
    """The reference's rows, those of dense detectors alone; none where they are not beside the checkout."""
    if not ROWS.is_file():
        return []
    found = json.loads(ROWS.read_text(encoding="utf-8"))
    return [row for row in found if row["builds"] and not (dense and row["detector"] in TWO_STAGE)]
