"""About a hundred broken COCO sets: each is packed, or refused with a message that names the fault."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from hatdet.data.packers.layouts import find_source
from hatdet.data.packers.mscoco import pack_coco
from hatdet.utils.errors import UserError

ROOT = Path(__file__).parents[4]
HOSTILE = ROOT / ".." / "shared" / "data" / "hostile"
CASES = json.loads((HOSTILE / "CASES.json").read_text()) if HOSTILE.is_dir() else []

pytestmark = pytest.mark.skipif(not CASES, reason="the hostile data sets are not beside the checkout")


def pack_both(case: str, target: Path) -> tuple[list[str], str | None]:
    """Pack train and val: the lines that were printed, and the error's text if there was one."""
    lines: list[str] = []
    try:
        for split in ("train", "val"):
            source = find_source(HOSTILE / "cases" / case, split, None, None)
            pack_coco(*source, target / f"{split}_lmdb", log=lines.append, num_workers=0, quiet=True)
    except UserError as error:
        return lines, str(error)
    return lines, None


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["case"])
def test_case(case: dict[str, str], tmp_path: Path) -> None:
    lines, error = pack_both(case["case"], tmp_path)
    warnings = [line for line in lines if line.startswith("warning:")]
    expect = case["expect"]
    if case["kind"] == "control":
        assert not warnings
    if expect in ("ok", "ok_warn"):
        assert error is None
    elif expect == "error":
        assert error is not None
        assert not any("train_lmdb" in p.name for p in tmp_path.iterdir()) or "val" in case["mention"]
    elif expect in ("skip_or_error", "warn_or_error"):
        assert error is not None or warnings
    message = " ".join([*warnings, error or ""])
    if expect in ("error", "skip_or_error", "warn_or_error") or (expect == "ok_or_error" and error):
        for word in case["mention"].split():
            assert word in message, (word, message)
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")], "leftovers"


def test_a_claimed_12_gigabytes_are_refused_before_anything_is_allocated(tmp_path: Path) -> None:
    code = """
import resource, sys
sys.path.insert(0, sys.argv[1])
import cv2, lmdb
from hatdet.data.packers.mscoco import pack_coco
used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 30) + (300 << 20),) * 2)
for case, name in (("h35_jpeg_lies_65000", "12"), ("h32_bomb_14000x14000", "bomb")):
    root = f"{sys.argv[2]}/cases/{case}"
    lines = []
    pack_coco(f"{root}/annotations/instances_train.json", f"{root}/train", f"{sys.argv[3]}/{name}",
              log=lines.append, num_workers=0, quiet=True)
    print(*lines, sep="\\n")
"""
    run = subprocess.run(
        [sys.executable, "-c", code, str(ROOT), str(HOSTILE), str(tmp_path)], capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    assert "65000x65000" in run.stdout and "14000x14000" in run.stdout
    assert "more than the limit of 128,000,000" in run.stdout
