"""The table of a packed set: rows that are read where they lie, and the form that it had before."""

from __future__ import annotations

import itertools
import pickle
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hatdet.data.datasets.coco_lmdb import CocoFromLMDB
from hatdet.data.packers.mscoco import pack_coco
from hatdet.data.packers.records import pack
from hatdet.data.packers.store import rows as row_module
from hatdet.data.packers.store import writer
from hatdet.data.packers.store.files import DamagedError
from hatdet.data.packers.store.lmdb_format import Store
from hatdet.data.packers.store.rows import ROW


def write_table_1(folder: Path, header: Any, data_bytes: int, rows: bytes, names: bytes, count: int) -> None:
    """What the packer wrote before: one msgpack map of everything."""
    fields = np.frombuffer(rows, ROW)
    ends = [0, *fields["name_end"].tolist()]
    columns = {"ids": "id", "sizes": "size", "num_boxes": "num_boxes", "num_crowds": "num_crowds"}
    index: dict[str, Any] = {key: fields[name].copy() for key, name in columns.items()}
    index["file_names"] = [names[a:b].decode() for a, b in itertools.pairwise(ends)]
    places = {f"{name}s": fields[name].T.ravel().copy() for name in ("offset", "length", "checksum")}
    content = pack({"header": header, "index": index, "data_bytes": data_bytes, **places})
    text = b"hatdet-records 1\n" + struct.pack("<IQ", zlib.crc32(content), len(content)) + content
    (folder / "records.idx").write_bytes(text)


def packed_again(root: Path, name: str, lines: list[str] | None = None) -> Path:
    log = (lambda line: None) if lines is None else lines.append
    file = root / "annotations" / "instances_train.json"
    pack_coco(file, root / "train", root / name / "train_lmdb", num_workers=0, quiet=True, log=log)
    return root / name / "train_lmdb"


def everything(store: Store) -> list[Any]:
    return [(store.picture(i), store.image_bytes(i), store.boxes(i).packed()) for i in range(len(store.index))]


def test_a_table_of_version_1_is_read_and_up_to_date(coco_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    new = Store(packed_again(coco_root, "new"))
    with monkeypatch.context() as patch:
        patch.setattr(writer, "write_table", write_table_1)
        old = Store(packed_again(coco_root, "old"))
    assert everything(old) == everything(new)
    assert old.index.file_names == [f"{i:02d}.png" for i in range(9)] == old.listed() == new.listed()
    assert old.source_ids() is None is new.source_ids()
    assert old.header["fingerprint"] == new.header["fingerprint"]
    lines: list[str] = []
    packed_again(coco_root, "old", lines)
    assert "is complete and up to date" in lines[0]


def test_what_grows_with_the_data_set_is_not_in_memory(packed: Path) -> None:
    store = Store(packed)
    assert "listed" not in store.header["source"] and "source_ids" not in store.header
    assert store.listed() == [f"{i:02d}.png" for i in range(9)]
    assert len(pickle.dumps(store)) < 2000 and len(pickle.dumps(CocoFromLMDB(packed, transforms=[]))) < 4000


def test_columns_are_read_in_pieces(packed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(packed)
    expected = {name: store.index.column(name) for name in ROW.names or ()}
    monkeypatch.setattr(row_module, "CHUNK", 4)  # 4, 4 and 1
    for name, values in expected.items():
        assert np.array_equal(store.index.column(name), values) and values.dtype == ROW[name].base
    assert store.index.ids.tolist() == list(range(100, 109)) and len(store.index) == 9
    assert store.picture(0) == (100, "00.png", (37, 53), (37, 53)) and store.picture(8).file_name == "08.png"


@pytest.mark.parametrize("position", [0, 8])
def test_a_pickled_store_opens_its_files_again(packed: Path, position: int) -> None:
    store = Store(packed)
    again = pickle.loads(pickle.dumps(store))
    assert again.picture(position) == store.picture(position)
    assert again.image_bytes(position) == store.image_bytes(position)


def test_a_table_that_is_cut_while_it_is_read_is_an_error_and_no_crash(coco_root: Path) -> None:
    store = Store(packed_again(coco_root, "new"))
    with (store.path / "records.idx").open("r+b") as file:
        file.truncate(100)
    with pytest.raises(DamagedError, match=r"damaged: its table has been cut off while in use; pack it again"):
        store.picture(3)
    with pytest.raises(DamagedError, match="records.idx is not what was written"):
        Store(store.path)


def test_names_that_are_no_text_come_back(coco_root: Path) -> None:
    """Half a surrogate, as a json may have it: the file is not there, and the name is kept all the same."""
    file = coco_root / "annotations" / "instances_train.json"
    file.write_text(file.read_text().replace('"02.png"', '"\\ud800.png"'))
    store = Store(packed_again(coco_root, "new"))
    assert store.listed()[2] == "\ud800.png" and len(store.index) == 8
