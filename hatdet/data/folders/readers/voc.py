"""Pascal VOC's folders, and other folders of pictures with an XML file each (LabelImg's, Roboflow's).

Corners count from 1 and the last pixel belongs to the box, as in VOC: (xmin - 1, ymin - 1) to (xmax, ymax) of a
picture whose first pixel begins at 0. A data set in which some corner is 0 counts from 0: its corners are taken as
they are.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from hatdet.data.folders.dataset import DataSet, Picture, numbered, split_name
from hatdet.data.folders.readers.files import add_box, measure, pictures_below, read_text, relative
from hatdet.data.folders.readers.voc_xml import VocPicture, read_voc
from hatdet.data.image_file import SUFFIXES
from hatdet.data.report import Report
from hatdet.data.walking import walk
from hatdet.utils.errors import UserError

LISTS = ("train", "val", "test", "trainval")
NO_CLASSES = ("background", "__ignore__", "_background_")
"""Names in lists of labels that stand for no object."""
PICTURE_FOLDERS = ("JPEGImages", "images", "Images", "imgs", "img")


def read_voc_folder(root: Path) -> DataSet:
    """Read every annotation below ``root``.

    Splits are those of ``ImageSets/Main``, else the folders train, valid, val, test; else there are none.
    """
    report = Report(str(root))
    files = [file for file in walk(root, (".xml",)) if b"<annotation" in _head(file)]
    lists = _Lists(root, report)
    found: list[tuple[Picture, VocPicture]] = []
    for file in files:
        split = lists.split_of(file)
        if split is None:
            report.add("annotation that no list of ImageSets/Main names, left out", str(file))
            continue
        try:
            content = read_voc(file, report)
        except UserError as error:
            report.add("annotation that cannot be read, left out", str(error).rpartition(";")[0])
            continue
        found.append((_picture(root, file, split, content, report), content))
    names = _names(root, (one.name for _, content in found for one in content.objects), report)
    first = _first_pixel(found, report)
    for picture, content in found:
        for number, one in enumerate(content.objects, 1):
            left, top, right, bottom = one.corners
            numbers = (left - first, top - first, right - left + first, bottom - top + first)
            assert picture.source is not None
            place = f"{relative(picture.source, root)}: object {number}"
            add_box(picture, place, numbers, names.index(one.name), one.difficult, report)
    lists.say_missing()
    pictures = [picture for picture, _ in found]
    _strangers(pictures, lists, report)
    order = [*LISTS, ""]
    pictures.sort(key=lambda picture: order.index(picture.split))
    return DataSet(root, "Pascal VOC", numbered(names), pictures, report, lists.named)


def _head(file: Path) -> bytes:
    try:
        with file.open("rb") as opened:
            return opened.read(1 << 12)
    except OSError:
        return b""


def _first_pixel(found: list[tuple[Picture, VocPicture]], report: Report) -> int:
    """1, or 0 where a corner is 0."""
    for picture, content in found:
        for one in content.objects:
            if min(one.corners[:2]) == 0:
                report.add("corners count from 0 here (VOC's count from 1), taken as they are", str(picture.source))
                return 0
    return 1


def _names(root: Path, used: Iterable[str], report: Report) -> list[str]:
    """The classes: those of a list in the folder (labels.txt, CVAT's labelmap.txt) first, others by the alphabet."""
    found = sorted(set(used))
    for file in (root / name for name in ("labels.txt", "classes.txt", "labelmap.txt")):
        if file.is_file():
            lines = (read_text(file, report) or "").splitlines()
            if file.name == "labelmap.txt":  # CVAT's: name:color:parts:actions, and comments
                lines = [line.split(":")[0] for line in lines if not line.startswith("#")]
            listed = list(dict.fromkeys(line.strip() for line in lines if line.strip()))
            listed = [name for name in listed if name in found or name not in NO_CLASSES]
            return listed + [name for name in found if name not in listed]
    return found


# --------------------------------------------------------------------------------------------- pictures
def _picture(root: Path, file: Path, split: str, content: VocPicture, report: Report) -> Picture:
    path = _file_of(file, content.file_name)
    height, width = content.size
    shown = path or file.with_suffix(".jpg")
    base = shown.parent if shown.parent.name in PICTURE_FOLDERS else _split_folder(root, shown.parent)
    picture = Picture(split, shown, relative(shown, base), width, height, source=file)
    if path is None:
        picture.error = "does not exist"
        report.add("annotation whose picture is not there", f"{file}: {content.file_name!r}")
    elif not width:
        measure(picture, report)
    return picture


def _split_folder(root: Path, folder: Path) -> Path:
    """The folder that names count from: that of the split, else the root."""
    for place in (folder, *folder.parents):
        if place == root or split_name(place.name):
            return place
    return root


def _file_of(file: Path, name: str | None) -> Path | None:
    """The picture of an annotation: of the name that it gives, else of its own."""
    parents = [file.parent, *(file.parent.parent / folder for folder in PICTURE_FOLDERS), file.parent.parent]
    if file.parent.parent.name.lower() in ("annotations", "labels"):  # Annotations/train/x.xml, images/train/x.jpg
        parents += [file.parents[2] / folder / file.parent.name for folder in PICTURE_FOLDERS]
    plain = (name or "").strip().replace("\\", "/").rpartition("/")[2]
    names = [plain] if plain and Path(plain).suffix.lower() in SUFFIXES else []
    names += [file.stem + suffix for suffix in SUFFIXES] + [file.stem + suffix.upper() for suffix in SUFFIXES]
    for candidate in names:
        for parent in parents:
            if (parent / candidate).is_file():
                return parent / candidate
    return None


def _strangers(pictures: list[Picture], lists: _Lists, report: Report) -> None:
    """Count pictures beside the others that have no annotation."""
    if lists.found:
        return
    known = {picture.path for picture in pictures}
    for folder in sorted({path.parent for path in known if path.parent.is_dir()}):
        for path in pictures_below(folder):
            if path.parent == folder and path not in known:
                report.add("picture without an annotation, left out", str(path))


# ------------------------------------------------------------------------------------------------ lists
class _Lists:
    """``ImageSets/Main`` of every year: which pictures are of which split."""

    def __init__(self, root: Path, report: Report) -> None:
        self.root, self.report = root, report
        self.found: dict[Path, dict[str, str]] = {}
        for folder in sorted(root.glob("**/ImageSets/Main")) if root.is_dir() else []:
            splits: dict[str, str] = {}
            for split in LISTS:
                file = folder / f"{split}.txt"
                for line in (read_text(file, report) or "").splitlines() if file.is_file() else []:
                    words = line.split()
                    if words and words[-1:] != ["-1"]:
                        self._put(splits, words[0], "train" if split == "trainval" else split, split == "trainval")
            self.found[folder.parents[1]] = splits
        self._seen: dict[Path, set[str]] = {year: set() for year in self.found}

    def _put(self, splits: dict[str, str], name: str, split: str, only_new: bool) -> None:
        before = splits.setdefault(name, split)
        if before != split and not only_new:
            self.report.add("picture in the lists of two splits, taken for the first", f"{name}: {before}, {split}")

    @property
    def named(self) -> tuple[str, ...]:
        """Splits that the lists name."""
        return tuple(dict.fromkeys(split for names in self.found.values() for split in names.values()))

    def split_of(self, file: Path) -> str | None:
        """The split of an annotation; None: the lists leave it out."""
        for year, splits in self.found.items():
            if file.is_relative_to(year):
                self._seen[year].add(file.stem)
                return splits.get(file.stem)
        inside = file.relative_to(self.root).parts[:-1]
        return next((name for part in inside if (name := split_name(part))), "")

    def say_missing(self) -> None:
        """Count listed names that have no annotation."""
        for year, splits in self.found.items():
            for name in splits.keys() - self._seen[year]:
                self.report.add("picture of ImageSets/Main without an annotation, left out", f"{year.name}: {name}")
