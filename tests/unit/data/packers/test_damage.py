"""Packed data that was cut, changed, copied or made by others: noticed, named, packed anew; never a crash."""

from __future__ import annotations

import json
import logging
import os
import pickle
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lmdb
import numpy as np
import pytest
import torch

from hatdet.data.coco_json import file_state
from hatdet.data.datasets.coco import CocoDataset
from hatdet.data.datasets.coco_lmdb import CocoFromLMDB
from hatdet.data.loader import build_data_loader
from hatdet.data.packers.mscoco import pack_coco
from hatdet.data.packers.records import pack, unpack
from hatdet.data.packers.store.files import DamagedError
from hatdet.data.packers.store.lmdb_format import Store
from hatdet.data.packers.store.pages import PageError, record_places
from hatdet.data.packers.store.table import Table
from hatdet.data.transforms.geometry import Pad
from hatdet.utils.errors import UserError
from tests.unit.data.conftest import annotation, write_coco

COUNT = 200  # enough for branch pages


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A packed set of 200 images, in leaf and in overflow pages, below two branches; not to be changed."""
    root = tmp_path_factory.mktemp("whole")
    write_coco(root)
    file = root / "annotations" / "instances_train.json"
    content = json.loads(file.read_text())
    first = content["images"]
    content["images"] = [{**first[i % 9], "id": i} for i in range(COUNT)]
    content["annotations"] = []
    for i in range(COUNT):
        content["annotations"].append(annotation(content, i, 7, [1, 2, 10 + i % 7, 9]))
    file.write_text(json.dumps(content))
    pack_coco(file, root / "train", root / "train_lmdb", num_workers=0, quiet=True, log=lambda line: None)
    return root / "train_lmdb"


@pytest.fixture
def copy(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "train_lmdb"))


def everything(store: Store) -> Iterator[bytes]:
    for i in range(len(store.index.ids)):
        yield store.image_bytes(i)
        record = store.boxes(i)
        yield record.bbox.tobytes() + record.labels.tobytes() + record.boxes.tobytes()


def flip(file: Path, offset: int, bit: int = 0) -> None:
    with file.open("r+b") as opened:
        opened.seek(offset)
        value = opened.read(1)[0]
        opened.seek(offset)
        opened.write(bytes([value ^ 1 << bit]))


def test_places_are_those_that_lmdb_knows(whole: Path) -> None:
    data = (whole / "data.mdb").read_bytes()
    with lmdb.open(str(whole), readonly=True, lock=False) as environment, environment.begin() as transaction:
        expected = dict(transaction.cursor())
        assert environment.stat()["depth"] == 2 and environment.stat()["branch_pages"] == 1
    places = {key: data[offset : offset + length] for key, offset, length in record_places(whole / "data.mdb")}
    assert places == expected and len(places) == 2 * COUNT + 2


def test_many_commits_and_a_map_that_grows_give_the_same_records(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pages are freed and used again between commits; the places are those of the last one."""
    sizes: list[int] = []
    original = lmdb.open

    def small(path: Any, **settings: Any) -> Any:
        sizes.append(settings.pop("map_size"))
        return original(path, map_size=1 << 18, **settings)

    monkeypatch.setattr("hatdet.data.packers.store.writer.COMMIT_BYTES", 20_000)
    monkeypatch.setattr(lmdb, "open", small)
    file = whole.parent / "annotations" / "instances_train.json"
    pack_coco(file, whole.parent / "train", tmp_path / "t", num_workers=0, quiet=True, log=lambda line: None)
    assert sizes == [1 << 30] and (tmp_path / "t" / "data.mdb").stat().st_size > 1 << 18
    assert list(everything(Store(tmp_path / "t"))) == list(everything(Store(whole)))


def offsets(file: Path, count: int) -> list[int]:
    """All over the file, and every few bytes of the first pages, where LMDB's own numbers are."""
    rng = np.random.default_rng(0)
    return [*range(0, 160, 3), *range(4096, 4256, 5), *rng.integers(0, file.stat().st_size, count).tolist()]


def test_one_flipped_bit_is_noticed_or_changes_nothing(whole: Path, copy: Path) -> None:
    expected = list(everything(Store(whole)))
    places = [(o, o + n) for key, o, n in record_places(whole / "data.mdb") if key not in (b"header", b"index")]
    noticed = 0
    for name in ("data.mdb", "records.idx"):
        for number, offset in enumerate(offsets(copy / name, 400)):
            flip(copy / name, offset, number % 8)
            if name == "records.idx" or any(start <= offset < end for start, end in places):
                with pytest.raises(DamagedError, match="train_lmdb is damaged: .* pack it again"):
                    Store(copy)
                noticed += 1
            else:  # LMDB's own numbers and the space between records are not read
                assert list(everything(Store(copy))) == expected
            flip(copy / name, offset, number % 8)
    assert list(everything(Store(copy))) == expected
    assert noticed > 600


@pytest.mark.parametrize("name", ["data.mdb", "records.idx"])
def test_a_cut_or_longer_file_is_refused_when_it_is_opened(copy: Path, name: str) -> None:
    size = (copy / name).stat().st_size
    for length in (0, 1, 100, 4096, 8192, size // 3, size - 4096, size - 1, size + 1, size + 4096):
        kept = (copy / name).read_bytes()
        (copy / name).write_bytes((kept + bytes(4096))[: max(0, length)])
        with pytest.raises(DamagedError, match="train_lmdb is damaged: .*pack it again"):
            Store(copy)
        (copy / name).write_bytes(kept)
    assert len(Store(copy).index.ids) == COUNT


def test_a_file_that_is_cut_while_it_is_read_is_an_error_and_no_crash(copy: Path) -> None:
    store = Store(copy)
    os.truncate(copy / "data.mdb", 8192)
    with pytest.raises(DamagedError, match=r"damaged: data\.mdb has been cut off while in use, before the end of im"):
        store.image_bytes(COUNT - 1)


def test_damage_that_leaves_no_trace_is_found_by_reading_and_remembered(copy: Path) -> None:
    """A disk that forgets: neither size nor times say anything."""
    store = Store(copy)
    offset = int(store.index.column("offset")[7, 0]) + 5
    flip(copy / "data.mdb", offset)
    (copy / "verified").write_text(json.dumps(file_state((copy / "data.mdb").stat())))
    store = Store(copy)
    assert store.image_bytes(6)
    with pytest.raises(DamagedError, match="image/00000007 has another checksum than when .* packed; pack it again"):
        store.image_bytes(7)
    with pytest.raises(DamagedError, match="image/00000007 has another checksum"):
        Store(copy)
    flip(copy / "data.mdb", offset)
    assert Store(copy).image_bytes(7)


def test_damage_that_a_data_worker_meets_is_one_line(copy: Path) -> None:
    dataset = CocoFromLMDB(data_path=copy, transforms=[Pad(size=(96, 96))])
    flip(copy / "data.mdb", int(dataset.store.index.column("offset")[7, 0]) + 5)
    with pytest.raises(UserError) as error:
        list(build_data_loader(dataset, batch_size=4, num_workers=1))
    assert str(error.value).startswith(f"{copy} is damaged: image/00000007 has another checksum than when it was p")
    assert "\n" not in str(error.value)


def test_a_copy_is_checked_once(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[int] = []
    original = Table._read
    monkeypatch.setattr(Table, "_read", lambda *arguments: reads.append(1) or original(*arguments))
    os.utime(copy / "data.mdb", ns=(1, 1))
    (copy / "verified").unlink()
    monkeypatch.setattr("hatdet.data.packers.store.lmdb_format.TICK_NS", 0)
    Store(copy)
    assert len(reads) == 2 * COUNT
    Store(copy)
    assert len(reads) == 2 * COUNT


def test_a_read_only_folder_is_checked_once_a_process(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[int] = []
    original = Table._read
    monkeypatch.setattr(Table, "_read", lambda *arguments: reads.append(1) or original(*arguments))
    monkeypatch.setattr("hatdet.data.packers.store.lmdb_format.TICK_NS", 0)
    monkeypatch.setattr("hatdet.data.packers.store.lmdb_format.mark_verified", lambda *arguments: None)
    (copy / "verified").unlink()
    for _ in range(3):
        Store(copy)
    assert len(reads) == 2 * COUNT


def test_data_that_was_packed_anew_is_not_read_with_the_old_table(copy: Path) -> None:
    """A spawned worker opens the folder again by its name."""
    state = pickle.dumps(Store(copy))
    assert pickle.loads(state).image_bytes(3)
    data = (copy / "data.mdb").read_bytes()
    (copy / "new").write_bytes(data)
    (copy / "new").rename(copy / "data.mdb")
    with pytest.raises(UserError, match="train_lmdb has been packed anew since this run began: start the run again"):
        pickle.loads(state).image_bytes(3)


# -------------------------------------------------------------------------------------------- version 1
def make_version_1(folder: Path) -> None:
    """What the packer wrote before there were checksums."""
    for name in ("records.idx", "verified"):
        (folder / name).unlink()
    with lmdb.open(str(folder), lock=False, map_size=1 << 30) as database, database.begin(write=True) as transaction:
        header = unpack(transaction.get(b"header"))
        transaction.put(b"header", pack({**header, "version": 1}))


def test_packed_data_of_version_1_is_read_with_a_warning(
    whole: Path, copy: Path, caplog: pytest.LogCaptureFixture
) -> None:
    make_version_1(copy)
    assert list(everything(Store(copy))) == list(everything(Store(whole)))
    with caplog.at_level(logging.WARNING, "hatdet"):
        CocoFromLMDB(data_path=copy, transforms=[])
    [message] = caplog.messages
    assert message.startswith(f"{copy} was packed by an earlier version, without checksums: damage is not noticed")


def test_damaged_data_of_version_1_never_crashes(copy: Path) -> None:
    make_version_1(copy)
    size = (copy / "data.mdb").stat().st_size
    for number, offset in enumerate(offsets(copy / "data.mdb", 200)):
        flip(copy / "data.mdb", offset, number % 8)
        try:
            list(everything(Store(copy)))
        except UserError as error:
            assert "\n" not in str(error)
        flip(copy / "data.mdb", offset, number % 8)
    for length in (size // 2, 8192, 5000, 100, 0):
        os.truncate(copy / "data.mdb", length)
        with pytest.raises(UserError, match=r"train_lmdb is (damaged: data\.mdb is|not a)"):
            list(everything(Store(copy)))


def test_pages_that_point_at_each_other_end(copy: Path) -> None:
    data = bytearray((copy / "data.mdb").read_bytes())
    places = {key: offset for key, offset, _ in record_places(copy / "data.mdb")}
    assert places
    for number in range(2, len(data) // 4096):  # every branch's first child becomes the branch itself
        if data[number * 4096 + 10] == 1:
            position = int.from_bytes(data[number * 4096 + 16 : number * 4096 + 18], "little")
            data[number * 4096 + position : number * 4096 + position + 4] = number.to_bytes(4, "little")
    (copy / "data.mdb").write_bytes(data)
    with pytest.raises(PageError, match="point at each other"):
        list(record_places(copy / "data.mdb"))


# -------------------------------------------------------------------------------------------- packed anew
def cut(folder: Path) -> None:
    os.truncate(folder / "data.mdb", 20_000)


def flipped(folder: Path) -> None:
    flip(folder / "data.mdb", int(Store(folder).index.column("offset")[0, 0]) + 1)


def foreign(folder: Path) -> None:
    shutil.rmtree(folder)
    with lmdb.open(str(folder)) as environment, environment.begin(write=True) as transaction:
        transaction.put(b"key", b"value of another program")


def garbage(folder: Path) -> None:
    (folder / "records.idx").unlink()
    (folder / "data.mdb").write_bytes(b"x" * 8192)


def no_table(folder: Path) -> None:
    (folder / "records.idx").unlink()


def no_data(folder: Path) -> None:
    (folder / "data.mdb").unlink()


def a_pipe(folder: Path) -> None:
    (folder / "verified").unlink()
    (folder / "records.idx").unlink()
    os.mkfifo(folder / "verified")
    os.mkfifo(folder / "records.idx")


def newer(folder: Path) -> None:
    (folder / "records.idx").write_bytes(b"hatdet-records 9\n" + bytes(100))


DAMAGES: list[tuple[Callable[[Path], None], str]] = [
    (cut, "is damaged: data.mdb has 20,000 bytes, "),
    (flipped, "is damaged: image/00000000 has another checksum than when it was packed"),
    (foreign, "is not a data set of format hatdet-coco-lmdb"),
    (garbage, "is damaged: data.mdb is not a readable LMDB data file of version 1"),
    (no_table, "is damaged: its records.idx is missing"),
    (no_data, "has lost its data.mdb"),
    (a_pipe, "is damaged: records.idx cannot be read (it is not a regular file)"),
    (newer, "is damaged: records.idx is not of the version that this program reads"),
    (make_version_1, "was packed by an earlier version, without checksums"),
]


@pytest.mark.parametrize(("damage", "reason"), DAMAGES, ids=lambda value: getattr(value, "__name__", None))
def test_a_damaged_cache_is_packed_anew_with_one_line(
    coco_root: Path, damage: Callable[[Path], None], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    settings: dict[str, Any] = {"ann_file": "annotations/instances_train.json", "img_prefix": "train", "transforms": []}
    before = CocoDataset(data_root=coco_root, **settings)
    picture = before[0]["img"]
    damage(before.data_path)
    capsys.readouterr()
    after = CocoDataset(data_root=coco_root, **settings)
    lines = [line for line in capsys.readouterr().err.splitlines() if " anew: " in line]
    assert len(lines) == 1 and f"packing {before.data_path} anew: it {reason}" in lines[0]
    assert after.data_path == before.data_path
    assert torch.equal(after[0]["img"], picture)
    capsys.readouterr()
    CocoDataset(data_root=coco_root, **settings)
    assert not capsys.readouterr().err


@pytest.mark.parametrize(("damage", "reason"), DAMAGES[:-1], ids=lambda value: getattr(value, "__name__", None))
def test_a_damaged_folder_of_the_user_is_refused_in_one_line(
    coco_root: Path, damage: Callable[[Path], None], reason: str
) -> None:
    target = coco_root / "packed" / "train_lmdb"
    file = coco_root / "annotations" / "instances_train.json"
    pack_coco(file, coco_root / "train", target, num_workers=0, quiet=True, log=lambda line: None)
    damage(target)
    with pytest.raises(UserError) as error:
        CocoFromLMDB(data_path=target, transforms=[])
    assert str(target) in str(error.value) and "\n" not in str(error.value)
    assert "again" in str(error.value) or "make it with" in str(error.value)
