"""From each format to each other one and back: nothing changes but what the format cannot hold."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hatdet.data.coco_entries import Annotation, Category
from hatdet.data.folders.convert import WRITERS, convert
from hatdet.data.folders.dataset import DataSet, Picture
from hatdet.data.folders.open import read_dataset
from hatdet.data.report import Report
from hatdet.utils.errors import UserError
from tests.helpers.folders import write_picture, write_yolo

NAMES = ["zebra crossing", "Süßes: 'Kätzchen' \"猫\"", "#3", "no"]
"""Each of which YAML or XML could take for something else; not in the order of the alphabet."""


def box(label: int, *numbers: float, crowd: bool = False) -> Annotation:
    return Annotation("box", tuple(numbers), label, numbers[2] * numbers[3], crowd)  # type: ignore[arg-type]


def make(root: Path, boxes: list[Annotation], split: str = "train", name: str = "a.png") -> Picture:
    write_picture(root / split / name, 1, 641, 479)
    return Picture(split, root / split / name, name, 641, 479, boxes)


def dataset_of(pictures: list[Picture]) -> DataSet:
    classes = [Category(number, name) for number, name in enumerate(NAMES, 1)]
    return DataSet(Path("source"), "COCO", classes, pictures, Report("source"))


def said(dataset: DataSet) -> Any:
    boxes = [[(box.label, box.bbox, box.iscrowd) for box in picture.boxes] for picture in dataset.pictures]
    pictures = [(one.split, one.name, one.width, one.height) for one in dataset.pictures]
    return [category.name for category in dataset.classes], pictures, boxes


@pytest.mark.parametrize("format", WRITERS)
def test_whole_pixels_come_back_exactly(tmp_path: Path, format: str) -> None:
    boxes = [box(0, 0, 0, 641, 479), box(2, 17, 3, 1, 1), box(3, 640, 478, 1, 1), box(1, 333, 222, 77, 99)]
    source = dataset_of([
        make(tmp_path / "s", boxes), make(tmp_path / "s", [], name="b c.png".replace(" ", "_")),
        make(tmp_path / "s", [boxes[1]], "val", "c.png"), make(tmp_path / "s", [boxes[3]], "test", "d.png"),
    ])  # fmt: skip
    report, line = convert(source, tmp_path / "out", format)
    assert report.counts == {}
    assert line == f"wrote {tmp_path / 'out'}: {format}, 4 pictures, 6 boxes"
    back = read_dataset(tmp_path / "out")
    assert said(back) == said(source)
    assert back.report.counts == {}


@pytest.mark.parametrize("format", ["coco", "yolo"])
def test_fractions_come_back(tmp_path: Path, format: str) -> None:
    source = dataset_of([make(tmp_path / "s", [box(0, 1.25, 2.3333, 100.0625, 7.5), box(1, 0.1, 0.2, 0.3, 0.4)])])
    report, _ = convert(source, tmp_path / "out", format)
    assert report.counts == {} and said(read_dataset(tmp_path / "out")) == said(source)


def test_voc_holds_whole_pixels_and_says_so(tmp_path: Path) -> None:
    boxes = [box(0, 1.4, 2.6, 10, 10), box(0, 5.3, 5.3, 0.2, 0.2), box(1, 640.8, 478.9, 0.2, 0.1)]
    report, _ = convert(dataset_of([make(tmp_path / "s", boxes)]), tmp_path / "out", "voc")
    assert report.counts == {"box brought to whole pixels: VOC holds no others": 3}
    back = read_dataset(tmp_path / "out").pictures[0].boxes
    assert [one.bbox for one in back] == [(1, 3, 10, 10), (5, 5, 1, 1), (640, 478, 1, 1)]


@pytest.mark.parametrize(("format", "kept"), [("coco", 2), ("voc", 2), ("yolo", 1)])
def test_crowds(tmp_path: Path, format: str, kept: int) -> None:
    source = dataset_of([make(tmp_path / "s", [box(0, 1, 2, 3, 4, crowd=True), box(1, 5, 6, 7, 8)])])
    report, line = convert(source, tmp_path / "out", format)
    assert line.endswith(f"1 pictures, {kept} boxes")
    boxes = read_dataset(tmp_path / "out").pictures[0].boxes
    assert sorted(one.iscrowd for one in boxes) == [False, True][:kept]
    assert report.counts == ({} if kept == 2 else {"crowd or difficult object: YOLO has none, left out": 1})


def test_a_whole_round_through_all_formats(tmp_path: Path) -> None:
    source = read_dataset(write_yolo(tmp_path / "yolo0"))
    expected, now = said(source), source
    for number, format in enumerate(("voc", "coco", "yolo", "coco", "voc", "yolo")):
        convert(now, tmp_path / f"{number}", format, "link")
        now = read_dataset(tmp_path / f"{number}")
        assert said(now) == expected, format
    assert [len(picture.boxes) for picture in now.pictures] == [1] * 6


def test_names_that_would_meet_are_changed(tmp_path: Path) -> None:
    """Labels are named by the stem; VOC has one folder, and lists of words."""
    names = ["a.png", "a.jpg", "x/b.png", "y/b.png", "c d.png", "A.png"]
    source = dataset_of([make(tmp_path / "s", [box(i % 4, i, i, 5, 5)], name=name) for i, name in enumerate(names)])
    yolo, _ = convert(source, tmp_path / "yolo", "yolo")
    voc, _ = convert(source, tmp_path / "voc", "voc")
    assert (yolo.counts, voc.counts) == ({"picture renamed": 2}, {"picture renamed": 5})
    for format in ("yolo", "voc"):
        back = read_dataset(tmp_path / format)
        assert back.report.counts == {}
        assert sorted(picture.boxes[0].bbox for picture in back.pictures) == [(i, i, 5, 5) for i in range(6)]


def test_boxes_are_cut_and_pictures_that_do_not_fit_left_out(tmp_path: Path) -> None:
    good = make(tmp_path / "s", [box(0, -20, 10, 50, 20), box(0, 700, 0, 5, 5)])
    scaled = replace(make(tmp_path / "s", [box(1, 10, 20, 30, 40)], name="half.png"), width=1282, height=958)
    other = replace(make(tmp_path / "s", [], name="other.png"), width=100, height=479)
    gone = Picture("train", tmp_path / "gone.png", "gone.png", 5, 5)
    report, line = convert(dataset_of([good, scaled, other, gone]), tmp_path / "out", "coco")
    assert line.endswith("2 pictures, 2 boxes; left out 2 pictures")
    back = read_dataset(tmp_path / "out")
    assert [one.bbox for picture in back.pictures for one in picture.boxes] == [(0, 10, 30, 20), (5, 10, 15, 20)]
    assert set(report.counts) == {
        "'bbox' reaches out of its image, clipped", "'bbox' outside its image, annotation skipped", "picture left out",
        "listed size is not the picture's, of the same aspect: boxes scaled",
        "picture of another aspect than is listed, left out",
    }  # fmt: skip


def test_ids_of_a_coco_file_are_kept(tmp_path: Path) -> None:
    source = dataset_of([replace(make(tmp_path / "s", [box(3, 1, 2, 3, 4)]), id=42)])
    source.classes[3] = Category(90, "no", "parent")
    convert(source, tmp_path / "out", "coco")
    back = read_dataset(tmp_path / "out")
    assert back.pictures[0].id == 42 and back.classes[3] == Category(90, "no", "parent")


def test_a_folder_that_holds_something_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    source = dataset_of([make(tmp_path / "s", [])])
    convert(source, tmp_path / "out", "coco", "hardlink")
    with pytest.raises(UserError, match="is not an empty folder; name a new one"):
        convert(source, tmp_path / "out", "coco")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "s"], "no partial folder is left"


def test_an_interrupted_conversion_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any) -> None:
        (args[0] / "half").mkdir()
        raise KeyboardInterrupt

    monkeypatch.setitem(WRITERS, "coco", fail)
    with pytest.raises(KeyboardInterrupt):
        convert(dataset_of([make(tmp_path / "s", [])]), tmp_path / "out", "coco")
    assert [path.name for path in tmp_path.iterdir()] == ["s"]


def test_nothing_to_write_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not one picture can be written"):
        convert(dataset_of([Picture("train", tmp_path / "x.png", "x.png", error="is gone")]), tmp_path / "o", "voc")


def turned_picture(path: Path, orientation: int) -> None:
    """A dark JPEG, 48 x 32 as stored, with a light patch at x 5..14, y 3..22, that is to be turned."""
    import cv2
    import numpy as np

    stored = np.zeros((32, 48, 3), np.uint8)
    stored[3:23, 5:15] = 255
    data = cv2.imencode(".jpg", stored, [cv2.IMWRITE_JPEG_QUALITY, 100])[1].tobytes()
    entry = (0x0112).to_bytes(2, "big") + b"\0\3" + b"\0\0\0\1" + orientation.to_bytes(2, "big") + b"\0\0"
    content = b"Exif\0\0" + b"MM\0*\0\0\0\x08" + b"\0\1" + entry + b"\0\0\0\0"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data[:2] + b"\xff\xe1" + (len(content) + 2).to_bytes(2, "big") + content + data[2:])


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_boxes_that_count_before_the_exif_turn_are_turned_with_it(tmp_path: Path, orientation: int) -> None:
    """The patch of the picture as it is shown is where the box is then."""
    import numpy as np

    from hatdet.data.image_file import decode

    file = tmp_path / "in" / "train" / "a.jpg"
    turned_picture(file, orientation)
    picture = Picture("train", file, "a.jpg", 48, 32, [box(0, 5, 3, 10, 20)])
    report, _ = convert(dataset_of([picture]), tmp_path / "out", "coco")
    assert list(report.counts) == ["boxes counted before the picture's EXIF turn: turned with it"]
    (written,) = read_dataset(tmp_path / "out").pictures
    assert (written.width, written.height) == (32, 48)
    rows, columns = np.nonzero(decode(file.read_bytes())[:, :, 0] > 127)
    shown = (columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1)
    assert written.boxes[0].bbox == pytest.approx(shown, abs=1)


@pytest.mark.parametrize(("orientation", "numbers"), [(6, (20, 30, 10, 15)), (1, (5, 3, 10, 20))])
def test_boxes_that_cannot_be_turned_leave_their_picture_out(
    tmp_path: Path, orientation: int, numbers: tuple[float, ...]
) -> None:
    """One reaches below the picture as it is stored; the other picture, a plain one, is of another size than listed."""
    file = tmp_path / "in" / "train" / "a.jpg"
    turned_picture(file, orientation)
    size = (48, 32) if orientation == 6 else (32, 48)
    pictures = [Picture("train", file, "a.jpg", *size, [box(0, *numbers)]), make(tmp_path / "in", [box(0, 1, 1, 9, 9)])]
    report, line = convert(dataset_of(pictures), tmp_path / "out", "coco")
    assert line.endswith("; left out 1 pictures") and any("left out" in kind for kind in report.counts)
