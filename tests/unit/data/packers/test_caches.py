"""Listing and removing packed copies that nothing uses any more."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hatdet.commands.clean_cache import main
from hatdet.data.datasets.coco import CocoDataset
from hatdet.data.packers.mscoco import pack_coco
from hatdet.data.packers.store.publish import locked_now
from hatdet.utils.errors import UserError
from tests.helpers.folders import COCO_DEFAULTS, write_yolo

ROOT = Path(__file__).parents[4]
SETTINGS: dict[str, Any] = {"ann_file": "annotations/instances_train.json", "img_prefix": "train", "transforms": []}


@pytest.fixture(autouse=True)
def no_other_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("HATDET_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))


@pytest.fixture
def cache(coco_root: Path) -> Path:
    """The packed copy of a data set in its own cache."""
    return CocoDataset(data_root=coco_root, **SETTINGS).data_path


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> list[str]:
    capsys.readouterr()
    main([str(argument) for argument in arguments])
    return capsys.readouterr().out.splitlines()


def test_what_is_used_is_listed_and_kept(coco_root: Path, cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = run(capsys, coco_root.parent, "--remove")
    file = coco_root / "annotations" / "instances_train.json"
    assert lines[0].startswith(f"{cache}: ") and f", 9 images of {file}, last used 20" in lines[0]
    assert lines[0].endswith(": in use")
    assert lines[1].startswith("1 packed copies, ") and lines[1].endswith("; unused: 0, 0 bytes")
    assert cache.exists()


def test_jsons_of_other_formats_are_listed_and_removed_with_their_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A json of a YOLO folder is in use until a label changes; then it and the copy that was packed of it go."""
    root = write_yolo(tmp_path / "set")
    CocoDataset(data_root=root, transforms=[], **COCO_DEFAULTS["train"])
    lines = run(capsys, root)
    jsons = [line for line in lines if ".json: " in line and "as a COCO json" in line]
    assert len(jsons) == 2 and all(line.endswith(": in use") for line in jsons), lines
    assert f"the split 'train' of {root} as a COCO json" in "".join(jsons)
    assert lines[-1].startswith("1 packed copies and 2 jsons, ") and "unused: 0, " in lines[-1]
    killed = root / ".hatdet_cache" / ".yolo-val-0123456789.json.4711"
    killed.touch()
    os.utime(killed, (0, 0))
    (root / "labels" / "train" / "0.txt").write_text("0 0.5 0.5 0.1 0.1\n")
    lines = run(capsys, root)
    assert sum(line.endswith(f"unused: {root} has changed since") for line in lines) == 2
    assert any(line.endswith("unused: left by a command that was killed") for line in lines)
    assert lines[-1].endswith("; remove them with --remove") and killed.exists()
    run(capsys, root, "--remove")
    assert not list((root / ".hatdet_cache").glob("*.json")) and not killed.exists()
    lines = run(capsys, root, "--remove")
    assert any("does not exist any more" in line for line in lines), "the copy that was packed of the json"
    assert run(capsys, root)[-1].startswith("0 packed copies, ")


def moved(root: Path, cache: Path) -> str:
    root.rename(root.parent / "elsewhere")
    return f"{root}/annotations/instances_train.json does not exist any more"


def copied(root: Path, cache: Path) -> str:
    (root.parent / "copy").mkdir()
    shutil.copytree(cache.parent, root.parent / "copy" / ".hatdet_cache")
    return f"it belongs to the data set of {root}/annotations/instances_train.json, not to {root.parent}/copy"


def edited(root: Path, cache: Path) -> str:
    file = root / "annotations" / "instances_train.json"
    file.write_text(json.dumps(json.loads(file.read_text()), indent=1))
    return "it was packed from other annotations: instances_train.json has changed"


def damaged(root: Path, cache: Path) -> str:
    os.truncate(cache / "data.mdb", 9000)
    return "it is damaged, or of an earlier version"


def killed(root: Path, cache: Path) -> str:
    (cache.parent / f".{cache.name}.packing-77").mkdir()
    return "left by a packer that was killed"


def old(root: Path, cache: Path) -> str:
    os.utime(cache / "verified", (0, 0))
    return "not used for"


@pytest.mark.parametrize("change", [moved, copied, edited, damaged, killed, old], ids=lambda f: f.__name__)
def test_what_nothing_uses_is_named_and_removed(
    coco_root: Path, cache: Path, change: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    reason = change(coco_root, cache)
    flags = [coco_root.parent, "--older-than", "30"]
    lines = run(capsys, *flags)
    [line] = [line for line in lines if ": unused: " in line]
    assert f": unused: {reason}" in line
    assert "unused: 1, " in lines[-1] and lines[-1].endswith("; remove them with --remove")
    path = Path(line.split(": ")[0])
    assert path.exists()
    assert run(capsys, *flags, "--remove")[-1].startswith(f"removed {path} (")
    assert not path.exists()
    assert "unused: 0" in run(capsys, *flags)[-1]
    if change in (copied, killed):
        assert cache.exists()


def test_the_common_caches_are_listed_too_and_other_data_is_not(
    coco_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HATDET_CACHE", str(tmp_path / "mine"))
    path = CocoDataset(data_root=coco_root, **SETTINGS).data_path
    file = coco_root / "annotations" / "instances_train.json"
    pack_coco(file, coco_root / "train", tmp_path / "mine" / "train_lmdb", quiet=True, log=lambda line: None)
    (tmp_path / "mine" / "notes.txt").touch()
    file.unlink()
    assert run(capsys, "--remove")[0].startswith(f"{path}: ")
    assert sorted(p.name for p in (tmp_path / "mine").iterdir()) == ["notes.txt", "train_lmdb"]


def test_what_is_being_packed_is_kept(coco_root: Path, cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (cache.parent / f".{cache.name}.packing-77").mkdir()
    with locked_now(cache):
        lines = run(capsys, coco_root, "--remove")
    assert sum(f"process {os.getpid()} on" in line and "is packing: in use" in line for line in lines) == 2
    assert (cache.parent / f".{cache.name}.packing-77").exists()


def test_the_command(coco_root: Path, cache: Path) -> None:
    command = [sys.executable, str(ROOT / "tools" / "clean_cache.py"), str(coco_root)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[0].endswith(": in use") and not done.stderr
    with pytest.raises(UserError, match="nowhere does not exist or is not a folder; give the folders of data sets"):
        main(["nowhere"])
