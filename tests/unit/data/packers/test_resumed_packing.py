"""A packing that is interrupted goes on where it was, and gives what an undisturbed one gives."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import hatdet.data.packers.mscoco as mscoco
from hatdet.data.packers.freshness import PackOptions
from hatdet.data.packers.mscoco import pack_coco
from hatdet.data.packers.records import unpack
from hatdet.data.packers.store import journal as journals
from hatdet.data.packers.store import writer
from hatdet.data.packers.store.lmdb_format import Store
from hatdet.data.packers.store.publish import UnfinishedError
from hatdet.utils.errors import UserError

ROOT = Path(__file__).parents[4]
BEGUN = ".train_lmdb.packing"


@pytest.fixture(autouse=True)
def every_image_is_saved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "CHECKPOINT_SECONDS", 0.0)


def pack(root: Path, name: str = "out", **options: Any) -> tuple[dict[str, Any], list[str]]:
    lines: list[str] = []
    file = root / "annotations" / "instances_train.json"
    settings: dict[str, Any] = {"num_workers": 0, "quiet": True, "log": lines.append, **options}
    return pack_coco(file, root / "train", root / name / "train_lmdb", **settings), lines


def contents(folder: Path) -> Iterator[Any]:
    store = Store(folder)
    yield store.header["fingerprint"], store.header["warnings"], store.listed()
    for position in range(len(store.index)):
        yield store.picture(position), store.image_bytes(position), store.boxes(position).packed()


def interrupt(monkeypatch: pytest.MonkeyPatch, at: int, error: BaseException) -> list[int]:
    """The images that are looked at from now on; ``error`` comes instead of one."""
    seen: list[int] = []
    original = mscoco.pack_image

    def pack_image(task: Any) -> Any:
        if task.position == at:
            raise error
        seen.append(task.position)
        return original(task)

    monkeypatch.setattr(mscoco, "pack_image", pack_image)
    return seen


@pytest.mark.parametrize("error", [KeyboardInterrupt(), UnfinishedError("a packing process was killed")])
def test_it_goes_on_at_the_next_image(coco_root: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    (coco_root / "train" / "02.png").write_bytes(b"no picture")  # one is left out, with a warning, before the end
    pack(coco_root, "whole")
    with monkeypatch.context() as patch:
        interrupt(patch, 5, error)
        with pytest.raises(type(error)):
            pack(coco_root)
    assert [path.name for path in (coco_root / "out").iterdir()] == [BEGUN]
    seen = interrupt(monkeypatch, -1, error)
    _, lines = pack(coco_root)
    assert seen == [5, 6, 7, 8]
    assert lines[0] == "going on with an interrupted packing: 5 of 9 images are there"
    assert [path.name for path in (coco_root / "out").iterdir()] == ["train_lmdb"]
    assert sorted(path.name for path in (coco_root / "out" / "train_lmdb").iterdir()) == [
        "data.mdb", "records.idx", "verified",
    ]  # fmt: skip
    assert list(contents(coco_root / "out" / "train_lmdb")) == list(contents(coco_root / "whole" / "train_lmdb"))


def test_without_time_for_the_journal_nothing_is_lost_by_ctrl_c(
    coco_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "CHECKPOINT_SECONDS", 1e9)
    with monkeypatch.context() as patch:
        interrupt(patch, 5, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            pack(coco_root)
    assert pack(coco_root)[1][0] == "going on with an interrupted packing: 5 of 9 images are there"


def other_json(root: Path) -> None:
    file = root / "annotations" / "instances_train.json"
    content = json.loads(file.read_text())
    content["annotations"].pop()
    file.write_text(json.dumps(content))


def other_picture(root: Path) -> None:
    cv2.imwrite(str(root / "train" / "07.png"), np.zeros((33, 33, 3), np.uint8))


def damaged_data(root: Path) -> None:
    data = root / "out" / BEGUN / "data.mdb"
    content = bytearray(data.read_bytes())
    picture = (root / "train" / "00.png").read_bytes()
    content[content.index(picture) + 8] ^= 1
    data.write_bytes(content)


def cut_data(root: Path) -> None:
    os.truncate(root / "out" / BEGUN / "data.mdb", 5000)


def no_journal(root: Path) -> None:
    (root / "out" / BEGUN / "journal").write_bytes(b"hatdet-journal 9\n")


@pytest.mark.parametrize(
    ("change", "options"),
    [
        (other_json, {}), (other_picture, {}), (damaged_data, {}), (cut_data, {}), (no_journal, {}),
        (lambda root: None, {"options": PackOptions(max_side=20)}), (lambda root: None, {"force": True}),
    ],
)  # fmt: skip
def test_what_is_of_other_files_or_damaged_is_begun_anew(
    coco_root: Path, monkeypatch: pytest.MonkeyPatch, change: Any, options: dict[str, Any]
) -> None:
    with monkeypatch.context() as patch:
        interrupt(patch, 5, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            pack(coco_root)
    change(coco_root)
    seen = interrupt(monkeypatch, -1, KeyboardInterrupt())
    pack(coco_root, **options)
    assert seen == list(range(9))
    pack(coco_root, "whole", **options)
    assert list(contents(coco_root / "out" / "train_lmdb")) == list(contents(coco_root / "whole" / "train_lmdb"))


def test_what_is_damaged_at_its_end_is_gone_on_with_before_it(
    coco_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        interrupt(patch, 6, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            pack(coco_root)
    journal = coco_root / "out" / BEGUN / "journal"
    os.truncate(journal, journal.stat().st_size - 3)  # the last piece is cut: nothing was in it
    data = coco_root / "out" / BEGUN / "data.mdb"
    content = bytearray(data.read_bytes())
    content[content.index((coco_root / "train" / "04.png").read_bytes()) + 9] ^= 1
    data.write_bytes(content)
    seen = interrupt(monkeypatch, -1, KeyboardInterrupt())
    pack(coco_root)
    assert seen == [4, 5, 6, 7, 8]
    pack(coco_root, "whole")
    assert list(contents(coco_root / "out" / "train_lmdb")) == list(contents(coco_root / "whole" / "train_lmdb"))


def test_an_entry_that_stands_twice_ends_what_is_taken(coco_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An interruption between writing a piece and forgetting it."""
    original, twice = journals.Journal.append, list[int]()

    def append(self: journals.Journal, entries: Any) -> None:
        original(self, entries)
        if len(entries) and not twice:
            twice.append(1)
            original(self, entries)

    with monkeypatch.context() as patch:
        patch.setattr(journals.Journal, "append", append)
        interrupt(patch, 5, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            pack(coco_root)
    pack(coco_root)
    pack(coco_root, "whole")
    assert list(contents(coco_root / "out" / "train_lmdb")) == list(contents(coco_root / "whole" / "train_lmdb"))


def test_an_error_of_the_data_leaves_nothing(coco_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupt(monkeypatch, 5, UserError("something is wrong with the data"))
    with pytest.raises(UserError, match="something is wrong"):
        pack(coco_root)
    assert not list((coco_root / "out").iterdir())


KILLED = """
import os, signal, sys
import hatdet.data.packers.mscoco as m
from hatdet.data.packers.store import writer
writer.CHECKPOINT_SECONDS = 0.0
original = m.pack_image
def pack_image(task):
    if task.position == 6:
        os.kill(os.getpid(), signal.SIGKILL)
    return original(task)
m.pack_image = pack_image
root = sys.argv[1]
m.pack_coco(root + "/annotations/instances_train.json", root + "/train", root + "/out/train_lmdb", num_workers=0,
            quiet=True)
"""


def test_a_packer_that_was_killed_is_gone_on_with(coco_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, str(coco_root)], env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.returncode == -signal.SIGKILL
    seen = interrupt(monkeypatch, -1, KeyboardInterrupt())
    pack(coco_root)
    assert seen == [6, 7, 8]
    pack(coco_root, "whole")
    assert list(contents(coco_root / "out" / "train_lmdb")) == list(contents(coco_root / "whole" / "train_lmdb"))


def test_the_data_file_has_the_same_keys_as_of_an_undisturbed_packing(
    coco_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import lmdb

    with monkeypatch.context() as patch:
        interrupt(patch, 5, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            pack(coco_root)
    pack(coco_root)
    pack(coco_root, "whole")
    found = []
    for name in ("out", "whole"):
        folder = str(coco_root / name / "train_lmdb")
        with lmdb.open(folder, readonly=True, lock=False) as data, data.begin() as reading:
            found.append({bytes(key): bytes(value) for key, value in reading.cursor()})
    assert found[0] == found[1] and unpack(found[0][b"header"])["complete"]
