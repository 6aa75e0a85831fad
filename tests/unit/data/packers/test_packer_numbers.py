"""The packer's numbers, each at its edge: how many processes, names, bytes and warnings."""

from __future__ import annotations

import os
import shutil
import zlib
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import lmdb
import numpy as np
import pytest

from hatdet.data.coco import CocoFile
from hatdet.data.packers import mscoco, workers
from hatdet.data.packers.assemble import box_record
from hatdet.data.packers.freshness import PackOptions
from hatdet.data.packers.image_names import Found
from hatdet.data.packers.mscoco import pack_coco
from hatdet.data.packers.records import BoxRecord, Index
from hatdet.data.packers.store import lmdb_format, writer
from hatdet.data.packers.store.files import DamagedError
from hatdet.data.packers.store.lmdb_format import Store
from hatdet.data.packers.store.publish import published
from hatdet.data.packers.store.table import Table, read_table
from hatdet.data.packers.store.writer import Writer, disk_errors, size_text
from hatdet.data.report import Report
from hatdet.utils.errors import UserError
from tests.unit.data.conftest import make_image


def write_set(root: Path, images: list[dict[str, Any]], annotations: list[dict[str, Any]]) -> tuple[Path, Path]:
    import json

    (root / "pictures").mkdir(parents=True)
    for image in images:
        cv2.imwrite(str(root / "pictures" / image["file_name"]), make_image(20, 30, 1))
    categories = [{"id": 1, "name": "dot"}]
    file = root / "set.json"
    file.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return file, root / "pictures"


def box(number: int, bbox: list[float], image_id: Any = 1) -> dict[str, Any]:
    area = bbox[2] * bbox[3]
    return {"id": number, "image_id": image_id, "category_id": 1, "bbox": bbox, "area": area, "iscrowd": 0}


def said(root: Path, images: list[dict[str, Any]], annotations: list[dict[str, Any]]) -> list[str]:
    lines: list[str] = []
    pack_coco(*write_set(root, images, annotations), root / "packed", num_workers=0, quiet=True, log=lines.append)
    return lines


# ----------------------------------------------------------------------------------------- processes
@pytest.mark.parametrize(
    ("images", "asked", "cores", "expected"),
    [(256, None, 16, 8), (256, None, 3, 3), (256, None, None, 1), (256, 5, 16, 5), (255, 5, 16, 0), (255, None, 16, 0)],
)
def test_how_many_processes_check_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, images: int, asked: int | None, cores: int | None, expected: int
) -> None:
    """One a core, at most eight; none below 256 images, where starting them would take longer."""
    entries = [SimpleNamespace()] * images
    content = SimpleNamespace(images=entries, report=SimpleNamespace(lines=lambda: []))
    header = {"classes": [], "num_images": 0, "num_boxes": 0, "num_crowds": 0}
    used: list[int] = []

    def write(
        folder: Path, content: CocoFile, img_dir: Path, options: Any, num_workers: int, quiet: bool, log: Any
    ) -> Any:
        used.append(num_workers)
        return header

    monkeypatch.setattr(mscoco, "read_coco", lambda path: content)
    monkeypatch.setattr(mscoco, "_write", write)
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    pack_coco(tmp_path / "set.json", tmp_path, tmp_path / "packed", num_workers=asked, log=lambda line: None)
    assert used == [expected]


def test_only_a_few_results_wait_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two chunks a process may be under way before the first one's results are taken."""
    waiting: list[int] = []

    class Done:
        def __init__(self, values: list[int]) -> None:
            self.values = values
            waiting.append(1)

        def result(self) -> list[int]:
            most.append(len(waiting))
            waiting.pop()
            return self.values

        def cancel(self) -> None:
            raise AssertionError("all results were taken")

    class Pool:
        def __init__(self, count: int, **settings: Any) -> None:
            counts.append(count)

        def __enter__(self) -> Pool:
            return self

        def __exit__(self, *error: object) -> None: ...

        def submit(self, call: Any, work: Any, chunk: list[int]) -> Done:
            return Done(call(work, chunk))

    most, counts = list[int](), list[int]()
    monkeypatch.setattr(workers, "ProcessPoolExecutor", Pool)
    assert list(workers.in_processes(lambda n: n * n, range(200), 3)) == [n * n for n in range(200)]
    assert max(most) == 7 and counts == [3]
    assert list(workers.in_processes(lambda n: n * n, range(20), 100_000)) == [n * n for n in range(20)]
    assert counts == [3, 3]  # no more than there are chunks of 8
    assert not list(workers.in_processes(lambda n: n * n, [], 5)) and len(counts) == 2


def test_progress_is_shown_unless_it_is_not_wanted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = {"id": 1, "file_name": "a.png", "width": 30, "height": 20}
    source = write_set(tmp_path, [image], [box(1, [1, 1, 5, 5])])
    pack_coco(*source, tmp_path / "loud", log=lambda line: None)
    assert capsys.readouterr().err.startswith("set: 1/1 in ")
    pack_coco(*source, tmp_path / "quiet", quiet=True, log=lambda line: None)
    assert capsys.readouterr().err == ""


# ---------------------------------------------------------------------------------------------- words
def test_twenty_classes_are_named_and_more_are_dots() -> None:
    def counts(number: int) -> str:
        classes = [[i, f"c{i}", ""] for i in range(number)]
        return mscoco._counts({"classes": classes, "num_images": 4, "num_boxes": 3, "num_crowds": 2})

    twenty = ", ".join(f"c{i}" for i in range(20))
    assert counts(20) == f"4 images, 3 boxes, 2 crowds, 20 classes ({twenty})"
    assert counts(21) == f"4 images, 3 boxes, 2 crowds, 21 classes ({twenty}, ...)"


@pytest.mark.parametrize(("times", "ids"), [(2, "0, 1"), (4, "0, 1, 2, 3"), (5, "0, 1, 2, 3, ...")])
def test_a_picture_listed_more_than_once_is_named_with_its_ids(tmp_path: Path, times: int, ids: str) -> None:
    images = [{"id": i, "file_name": "a.png", "width": 30, "height": 20} for i in range(times)]
    lines = said(tmp_path, images, [box(1, [1, 1, 5, 5], 0)])
    [line] = [line for line in lines if "listed more than once" in line]
    assert line.endswith(f"(merge them) (1): 'a.png': image ids {ids}")


def test_a_long_image_id_is_cut_to_eighty_characters(tmp_path: Path) -> None:
    name = "x" * 100
    lines = said(
        tmp_path, [{"id": name, "file_name": "a.png", "width": 30, "height": 20}], [box(1, [1, 1, 5, 5], name)]
    )
    [line] = [line for line in lines if "numbered from 1" in line]
    assert line.endswith(": '" + "x" * 79)


@pytest.mark.parametrize(
    ("outside", "over", "inside", "expected"),
    [
        (1, 0, 4, None),
        (0, 1, 4, None),
        (2, 0, 3, "2 of 5"),
        (0, 2, 3, "2 of 5"),
        (1, 1, 3, "2 of 5"),
        (1, 0, 3, "1 of 4"),
    ],
)
def test_more_than_a_fifth_of_boxes_leaving_their_image_is_told(
    tmp_path: Path, outside: int, over: int, inside: int, expected: str | None
) -> None:
    boxes = [[40, 1, 5, 5]] * outside + [[25, 1, 10, 5]] * over + [[1, 1, 5, 5]] * inside
    image = {"id": 1, "file_name": "a.png", "width": 30, "height": 20}
    lines = said(tmp_path, [image], [box(i, bbox) for i, bbox in enumerate(boxes)])
    told = [line for line in lines if "boxes leave their image" in line]
    assert len(told) == (expected is not None)
    assert expected is None or f"{expected} boxes leave" in told[0]


def test_a_box_on_the_right_and_lower_edge_is_cut_there() -> None:
    """24 x 16 pixels are stored of 48 x 32: everything is halved, and the corners end at 24 and 16."""
    one = SimpleNamespace(bbox=(40.0, 20.0, 8.0, 12.0), label=3, area=96.0, iscrowd=False, id=1)
    sizes = {"full_width": 24, "full_height": 16, "stored_width": 24, "stored_height": 16}
    image = SimpleNamespace(width=48, height=32, **sizes, as_stored=True)
    record = box_record(SimpleNamespace(annotations=[one]), image, Report("set.json"))  # type: ignore[arg-type]
    assert record.bbox.tolist() == [[20, 10, 4, 6]]
    assert record.boxes.tolist() == [[20, 10, 24, 16]]
    assert record.area.tolist() == [24] and record.labels.tolist() == [3] and record.as_stored


# ---------------------------------------------------------------------------------------------- space
def needed(monkeypatch: pytest.MonkeyPatch, sizes: list[int], boxes: list[int], max_side: int | None = None) -> int:
    """The least free space with which packing begins."""
    entries: Any = [SimpleNamespace(annotations=[None] * count) for count in boxes]
    found = [Found(str(i), size=size) for i, size in enumerate(sizes)]

    def refused(free: int) -> bool:
        usage = SimpleNamespace(free=free)
        monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)
        try:
            mscoco._check_space(Path("."), entries, found, PackOptions(max_side=max_side))
        except UserError:
            return True
        return False

    low, high = -1, 1 << 30
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if refused(middle) else (low, middle)
    return high


@pytest.mark.parametrize(
    ("sizes", "boxes", "max_side", "expected"),
    [
        ([], [], None, 65536),
        ([0, -1], [0, 0], None, 65536 + 800),  # an empty and a missing file take no page
        ([1], [3], None, 65536 + 4096 + 400 + 210),
        ([4080], [0], None, 65536 + 4096 + 400),  # with 16 bytes of header a page is full
        ([4081], [0], None, 65536 + 8192 + 400),
        ([100_000], [0], 100, 65536 + 8192 + 400),  # shrunk: a quarter of a byte a pixel, 2500 + 4096, two pages
    ],
)
def test_the_space_that_packing_asks_for(
    monkeypatch: pytest.MonkeyPatch, sizes: list[int], boxes: list[int], max_side: int | None, expected: int
) -> None:
    assert needed(monkeypatch, sizes, boxes, max_side) == expected


def test_sizes_for_people_change_their_unit_at_a_thousand() -> None:
    assert size_text(1000) == "1.0 kB" and size_text(999_949) == "999.9 kB" and size_text(1_000_000) == "1.0 MB"
    assert size_text(1e9) == "1.0 GB" and size_text(2.5e12) == "2500.0 GB"


def test_lmdbs_input_output_error_is_a_full_disk_only_where_little_is_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """LMDB calls a write that the disk took a part of an input/output error."""

    def text(error: Exception, free: int) -> str:
        monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=free))
        with pytest.raises(UserError) as caught, disk_errors(tmp_path):
            raise error
        return str(caught.value)

    torn = lmdb.Error("mdb_txn_commit: Input/output error")
    assert " is full (" in text(torn, writer.COMMIT_BYTES - 1)
    assert " is full (" not in text(torn, writer.COMMIT_BYTES)
    assert " is full (" not in text(lmdb.Error("mdb_put: Invalid argument"), 5)
    assert " is full (" not in text(OSError(5, "Input/output error"), 5)


# ------------------------------------------------------------------------------------- writer and store
def test_a_commit_follows_the_bytes_that_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "COMMIT_BYTES", 100)
    target, commits = Writer(tmp_path), []
    flush = target._flush
    monkeypatch.setattr(target, "_flush", lambda: (commits.append(sorted(target._pending)), flush()))
    target.add(b"i" * 60, b"b" * 40)  # 100 may wait
    assert commits == []
    target.add(b"i", b"b")  # 102: with this image and its boxes
    assert commits == [[b"boxes/00000000", b"boxes/00000001", b"image/00000000", b"image/00000001"]]
    target.add(b"i" * 99, b"b")  # 100 may wait
    assert len(commits) == 1
    target.save()
    assert len(commits) == 2 and commits[1] == [b"boxes/00000002", b"image/00000002"]
    target.close()
    with lmdb.open(str(tmp_path), lock=False, readonly=True) as env, env.begin() as reading:
        assert reading.get(b"image/00000002") == b"i" * 99 and env.stat()["entries"] == 6


def test_checksums_are_those_of_the_images_and_then_of_the_boxes(packed: Path) -> None:
    table, store = read_table(packed), Store(packed)
    lengths, offsets, checksums = (table.rows.column(name).T.ravel() for name in ("length", "offset", "checksum"))
    with (packed / "data.mdb").open("rb") as file:
        records = [os.pread(file.fileno(), int(n), int(at)) for n, at in zip(lengths, offsets, strict=True)]
    assert table.has_checksums and checksums.tolist() == [zlib.crc32(record) for record in records]
    assert records[:9] == [store.image_bytes(i) for i in range(9)] and len(records) == 18
    with pytest.raises(DamagedError, match=r"image/00000002 cannot be read \(Bad file descriptor\)"):
        table.read(-1, 2)
    assert [table.key(row) for row in (0, 8, 9, 17)] == [
        "image/00000000", "image/00000008", "boxes/00000000", "boxes/00000008",
    ]  # fmt: skip


def test_checksums_of_images_are_asked_for_by_position(packed: Path) -> None:
    store = Store(packed)
    images = [store.image_bytes(position) for position in range(9)]
    assert store.image_checksums([2, 5]) == {(len(images[i]), zlib.crc32(images[i])) for i in (2, 5)}
    object.__setattr__(store._table, "has_checksums", False)  # version 1
    assert store.image_checksums([2, 5]) == set()


@pytest.mark.parametrize("position", [-1, 9])
def test_a_record_that_is_not_there(packed: Path, position: int) -> None:
    with pytest.raises(UserError, match=f"has no record {position}: it holds 9"):
        Store(packed).image_bytes(position)


def test_a_store_closes_its_file_when_it_is_dropped(packed: Path) -> None:
    store = Store(packed)
    store.image_bytes(0)
    descriptors = [store._file.descriptor, store._table.source.descriptor]
    assert all(os.fstat(descriptor).st_size > 0 for descriptor in descriptors)
    del store
    for descriptor in descriptors:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(descriptor)


@pytest.mark.parametrize(("slow", "told"), [(0, 1), (1 << 30, 0)])
def test_only_a_long_check_is_announced(
    packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: pytest.LogCaptureFixture, slow: int, told: int
) -> None:
    if slow == 0:
        monkeypatch.setattr(lmdb_format, "SLOW_BYTES", slow)
    assert lmdb_format.SLOW_BYTES >= 64 << 20 or slow == 0
    shutil.copytree(packed, tmp_path / "copy")
    Store(tmp_path / "copy")
    assert Counter("checking" in record.message for record in log.records)[True] == told


def test_records_and_index_come_back_as_they_were() -> None:
    record = BoxRecord(
        np.arange(8, dtype=np.float64).reshape(2, 4), np.arange(8, dtype=np.float32).reshape(2, 4) + 1,
        np.array([3, 4], np.int32), np.array([5.5, 6.5]), np.array([True, False]), True,
    )  # fmt: skip
    read = BoxRecord.unpacked(record.packed())
    for name, value in record.__dict__.items():
        assert (
            np.array_equal(getattr(read, name), value)
            and np.asarray(getattr(read, name)).dtype == np.asarray(value).dtype
        )
    index = Index(
        np.array([7, 9]), np.array([[1, 2], [3, 4]], np.int32), np.array([5, 6], np.int32), np.array([0, 1], np.int32),
        ["a", "b"],
    )  # fmt: skip
    again = Index.unpacked(index.packed())
    assert again.ids.tolist() == [7, 9] and again.sizes.tolist() == [[1, 2], [3, 4]] and again.file_names == ["a", "b"]
    assert again.num_boxes.tolist() == [5, 6] and again.num_crowds.tolist() == [0, 1]


def test_a_table_that_is_a_pipe_is_refused_and_not_waited_for(packed: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "records.idx")
    with pytest.raises(DamagedError, match=r"records.idx cannot be read \(it is not a regular file\)"):
        read_table(tmp_path)
    with pytest.raises(DamagedError, match=r"records.idx cannot be read \(No such file"):
        read_table(tmp_path / "nowhere")


def test_a_table_that_is_cut_is_refused_at_every_length(packed: Path, tmp_path: Path) -> None:
    data = (packed / "records.idx").read_bytes()
    for length, message in [(16, "not of the version"), (17, "is cut off"), (28, "is cut off"), (29, "is not what"),
                            (len(data) - 1, "is not what")]:  # fmt: skip
        (tmp_path / "records.idx").write_bytes(data[:length])
        with pytest.raises(DamagedError, match=message):
            read_table(tmp_path)
    assert isinstance(read_table(packed), Table)


# ------------------------------------------------------------------------------------------ publishing
def test_what_stood_there_stays_where_the_new_folder_cannot_take_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "packed"
    target.mkdir()
    (target / "data").write_text("old")
    rename = os.rename

    def refuse(source: Path, to: Path) -> None:
        if ".packing" in str(source):
            raise OSError(5, "Input/output error")
        rename(source, to)

    monkeypatch.setattr(os, "rename", refuse)
    with pytest.raises(OSError, match="Input/output"), published(target) as folder:
        (folder / "data").write_text("new")
    assert (target / "data").read_text() == "old" and [path.name for path in tmp_path.iterdir()] == ["packed"]
    monkeypatch.undo()
    with published(target) as folder:
        (folder / "data").write_text("new")
    assert (target / "data").read_text() == "new" and [path.name for path in tmp_path.iterdir()] == ["packed"]
