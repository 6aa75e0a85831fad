"""What packed data says of its sources: one read of the json, every picture whatever its name, sizes that differ."""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import hatdet.data.packers.mscoco as mscoco
from hatdet.data import coco_json
from hatdet.data.datasets.coco import CocoDataset
from hatdet.data.packers.freshness import PackOptions
from hatdet.data.packers.image_task import same_aspect
from hatdet.data.packers.mscoco import pack_coco
from hatdet.data.packers.store.lmdb_format import Store
from hatdet.utils.errors import UserError


def pack(root: Path, **options: Any) -> tuple[dict[str, Any], list[str]]:
    lines: list[str] = []
    file = root / "annotations" / "instances_train.json"
    settings: dict[str, Any] = {"num_workers": 0, "quiet": True, "log": lines.append, **options}
    return pack_coco(file, root / "train", root / "out" / "train_lmdb", **settings), lines


def edit(root: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    file = root / "annotations" / "instances_train.json"
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


def test_a_json_that_is_saved_during_packing_is_noticed(coco_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = mscoco.pack_image

    def saving(task: Any) -> Any:
        if task.position == 0:
            edit(coco_root, lambda content: content["annotations"].__delitem__(slice(None, None, 2)))
        return original(task)

    monkeypatch.setattr(mscoco, "pack_image", saving)
    first, _ = pack(coco_root)
    assert first["num_boxes"] == 16  # what was parsed
    monkeypatch.undo()
    second, lines = pack(coco_root)
    assert second["num_boxes"] == 8  # what the file has
    assert "packing" in lines[0] and "anew: it was packed from other annotations" in lines[0]
    assert "is complete and up to date" in pack(coco_root)[1][0]


def test_a_json_that_is_written_again_unchanged_is_not_packed_again(coco_root: Path) -> None:
    pack(coco_root)
    file = coco_root / "annotations" / "instances_train.json"
    file.write_bytes(file.read_bytes())
    assert "is complete and up to date" in pack(coco_root)[1][0]


def test_a_json_whose_state_proves_nothing_is_read_once_a_process(
    coco_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Packed right after it was written, it is compared by its content at every start: for all data sets together."""
    read, digest = [], hashlib.file_digest
    monkeypatch.setattr(hashlib, "file_digest", lambda file, kind: read.append(file.name) or digest(file, kind))

    def names() -> tuple[str, ...]:
        return CocoDataset(coco_root, "annotations/instances_train.json", "train", []).classes

    names()
    read.clear()
    monkeypatch.setattr(coco_json, "RACY_NS", -1)
    assert [names(), names()] == [("bar", "dot", "box")] * 2
    assert read == [str(coco_root / "annotations" / "instances_train.json")]
    edit(coco_root, lambda content: content["categories"][0].update(name="dash"))
    assert names() == ("bar", "dash", "box")


NAMINGS: dict[str, Callable[[Path, str], str]] = {
    "plain": lambda root, name: name,
    "folder in front": lambda root, name: f"train/{name}",
    "backslashes": lambda root, name: f"train\\{name}",
    "dot": lambda root, name: f"./{name}",
    "relative to the json": lambda root, name: f"../train/{name}",
    "absolute": lambda root, name: str(root / "train" / name),
    "of another machine": lambda root, name: f"C:\\data\\train\\{name}",
    "upper case": lambda root, name: name.upper(),
    "escaped": lambda root, name: name.replace("0", "%30"),
}


@pytest.mark.parametrize("how", NAMINGS)
def test_a_changed_picture_is_noticed_whatever_its_name_is(coco_root: Path, how: str) -> None:
    def rename(content: dict[str, Any]) -> None:
        for image in content["images"]:
            image["file_name"] = NAMINGS[how](coco_root, image["file_name"])

    edit(coco_root, rename)
    header, _ = pack(coco_root)
    assert header["num_images"] == 9
    assert "up to date" in pack(coco_root)[1][0]
    picture = np.full((33, 33, 3), 7, np.uint8)
    cv2.imwrite(str(coco_root / "train" / "02.png"), picture)
    _, lines = pack(coco_root)
    assert "anew: it was packed from other pictures" in lines[0]
    data = Store(coco_root / "out" / "train_lmdb").image_bytes(2)
    assert data == (coco_root / "train" / "02.png").read_bytes()


def test_the_other_unicode_form_is_found_and_said(coco_root: Path) -> None:
    nfc, nfd = (unicodedata.normalize(form, "Caf\u00e9.png") for form in ("NFC", "NFD"))
    (coco_root / "train" / "03.png").rename(coco_root / "train" / nfd)
    edit(coco_root, lambda content: content["images"][3].update(file_name=nfc))
    header, lines = pack(coco_root)
    assert header["num_images"] == 9
    assert [line for line in lines if "spelt otherwise than on the disk (1)" in line]


def test_two_entries_for_one_picture_are_said_in_one_line(coco_root: Path) -> None:
    edit(coco_root, lambda content: content["images"][4].update(file_name="01.png", width=41, height=60))
    edit(coco_root, lambda content: content["images"][5].update(file_name=".\\01.png", width=41, height=60))
    header, lines = pack(coco_root)
    assert header["num_images"] == 9
    [line] = [line for line in lines if "listed more than once" in line]
    assert "(1): '01.png': image ids 101, 104, 105" in line


def test_half_a_surrogate_leaves_out_one_picture(coco_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edit(coco_root, lambda content: content["images"][2].update(file_name="\ud800.png"))
    edit(coco_root, lambda content: content["categories"][0].update(name="dot \udfff"))
    for again in (False, True):
        header, lines = pack(coco_root, force=again)
        assert header["num_images"] == 8
        [line] = [line for line in lines if "left out" in line]
        assert "image left out (1)" in line and r"\ud800.png: is not a possible file name: it holds half a" in line
        print(*lines, *header["warnings"])
    capsys.readouterr().out.encode()
    assert "up to date" in pack(coco_root)[1][0]


def test_half_a_surrogate_in_ids(coco_root: Path) -> None:
    def rename(content: dict[str, Any]) -> None:
        content["images"][0]["id"] = "\ud83d"
        for entry in content["annotations"]:
            entry["image_id"] = "\ud83d" if entry["image_id"] == 100 else entry["image_id"]

    edit(coco_root, rename)
    header, _ = pack(coco_root)
    assert (header["num_images"], header["num_boxes"]) == (9, 16)


# -------------------------------------------------------------------------------------------- sizes
@pytest.mark.parametrize(
    ("listed", "shape", "same"),
    [
        ((640, 480), (1280, 960), True),
        ((333, 250), (4000, 3000), True),
        ((500, 374), (500, 375), True),
        ((1000, 1009), (100, 100), True),
        ((1000, 1020), (100, 100), False),
        ((480, 640), (640, 480), False),
        ((7, 5), (100, 67), True),  # 67 * 7 / 100 is 4.7: rounded
        ((10, 8), (10, 10), False),
    ],
)
def test_same_aspect(listed: tuple[int, int], shape: tuple[int, int], same: bool) -> None:
    assert same_aspect(listed, shape) == same


def test_boxes_are_scaled_where_the_json_counts_in_another_resolution(coco_root: Path) -> None:
    """Image 6 has 64 x 64 pixels, the json says 256 x 256: its boxes are of that size."""

    def enlarge(content: dict[str, Any]) -> None:
        content["images"][6].update(width=256, height=256)
        for entry in content["annotations"]:
            if entry["image_id"] == 106:
                entry.update(bbox=[v * 4 for v in entry["bbox"]], area=entry["area"] * 16)

    before, _ = pack(coco_root)
    expected = Store(coco_root / "out" / "train_lmdb").boxes(6)
    edit(coco_root, enlarge)
    header, lines = pack(coco_root)
    record = Store(coco_root / "out" / "train_lmdb").boxes(6)
    assert header["num_boxes"] == before["num_boxes"]
    assert record.bbox.tolist() == expected.bbox.tolist() and record.area.tolist() == expected.area.tolist()
    assert record.boxes.tolist() == expected.boxes.tolist()
    [line] = [line for line in lines if "boxes scaled" in line]
    assert "of the same aspect: boxes scaled (1): " in line and "06.png: listed 256x256, stored 64x64" in line
    pack(coco_root, options=PackOptions(max_side=32))
    halved = Store(coco_root / "out" / "train_lmdb")
    assert halved.boxes(6).bbox.tolist() == expected.bbox.tolist()  # evaluation counts in the file's pixels
    assert halved.boxes(6).boxes.tolist() == (expected.boxes / 2).tolist()
    assert halved.picture(6).size == (32, 32) and halved.picture(6).full == (64, 64)


@pytest.mark.parametrize("size", [{"width": 256}, {"width": None, "height": 256}])
def test_one_listed_side_says_the_resolution_too(coco_root: Path, size: dict[str, int | None]) -> None:
    """Image 6 has 64 x 64 pixels; one side of 256 alone means that its boxes are four times as large."""
    pack(coco_root)
    expected = Store(coco_root / "out" / "train_lmdb").boxes(6).bbox.tolist()

    def enlarge(content: dict[str, Any]) -> None:
        content["images"][6] = {"id": 106, "file_name": "06.png", **size}
        content["images"][5].pop("width")  # the other one is right
        for entry in content["annotations"]:
            if entry["image_id"] == 106:
                entry.update(bbox=[v * 4 for v in entry["bbox"]], area=entry["area"] * 16)

    edit(coco_root, enlarge)
    _, lines = pack(coco_root)
    assert Store(coco_root / "out" / "train_lmdb").boxes(6).bbox.tolist() == expected
    assert any("boxes scaled (1): " in line and "06.png: listed 256x256, stored 64x64" in line for line in lines)


def test_a_picture_of_another_aspect_is_left_out_and_said(coco_root: Path) -> None:
    edit(coco_root, lambda content: content["images"][1].update(width=60, height=41))  # exchanged
    edit(coco_root, lambda content: content["images"][6].update(width=100, height=64))
    header, lines = pack(coco_root)
    assert header["num_images"] == 7
    [line] = [line for line in lines if "image left out (2)" in line]
    assert "01.png: the json says width x height 60x41, the file has 41x60: another aspect (are width" in line
    assert "06.png: the json says width x height 100x64, the file has 64x64: another aspect" in line


def with_orientation(data: bytes, orientation: int) -> bytes:
    """A JPEG with an EXIF segment that says how the picture is to be turned."""
    entry = (0x0112).to_bytes(2, "big") + b"\0\3" + b"\0\0\0\1" + orientation.to_bytes(2, "big") + b"\0\0"
    content = b"Exif\0\0" + b"MM\0*\0\0\0\x08" + b"\0\1" + entry + b"\0\0\0\0"
    return data[:2] + b"\xff\xe1" + (len(content) + 2).to_bytes(2, "big") + content + data[2:]


@pytest.mark.parametrize(
    ("listed", "as_stored", "scaled"),
    [((32, 48), False, False), ((48, 32), True, False), ((64, 96), False, True), ((96, 64), True, True)],
)
def test_the_size_says_whether_boxes_belong_to_the_turned_picture(
    coco_root: Path, listed: tuple[int, int], as_stored: bool, scaled: bool
) -> None:
    """Stored 48 x 32, shown 32 x 48 (orientation 6)."""
    picture = cv2.imencode(".jpg", np.full((32, 48, 3), 99, np.uint8))[1].tobytes()
    (coco_root / "train" / "00.png").write_bytes(with_orientation(picture, 6))
    box = [listed[0] // 4, listed[1] // 4, listed[0] // 2, listed[1] // 2]

    def change(content: dict[str, Any]) -> None:
        content["images"][0].update(width=listed[0], height=listed[1])
        content["annotations"] = [a for a in content["annotations"] if a["image_id"] != 100]
        content["annotations"].append({"id": 99, "image_id": 100, "category_id": 7, "bbox": box})

    edit(coco_root, change)
    _, lines = pack(coco_root)
    store = Store(coco_root / "out" / "train_lmdb")
    record = store.boxes(0)
    assert record.as_stored == as_stored
    assert any("boxes scaled" in line for line in lines) == scaled
    assert store.index.sizes[0].tolist() == ([32, 48] if as_stored else [48, 32])  # h, w
    assert record.bbox.tolist() == ([[12, 8, 24, 16]] if as_stored else [[8, 12, 16, 24]])


def test_sizes_that_all_differ_end_in_one_error(coco_root: Path) -> None:
    edit(coco_root, lambda content: [image.update(width=500, height=100) for image in content["images"]])
    with pytest.raises(UserError, match="no image can be read"):
        pack(coco_root)
