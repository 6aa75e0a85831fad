"""What kind of data set lies in a folder that holds no COCO json under its usual names."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from hatdet.data.image_file import SUFFIXES

MAX_DEPTH = 3
MAX_FOLDERS = 200
MAX_FILES = 40
"""Of one kind in one folder: enough to tell, however large the set is."""
_HEAD = 1 << 16
_YOLO_LINE = re.compile(rb"\s*\d+([ \t]+-?[0-9.]+([eE][-+]?\d+)?){4,}[ \t\r]*$", re.MULTILINE)


@dataclass
class _Files:
    """Files below a folder by suffix, a few of each folder."""

    root: Path
    by_suffix: dict[str, list[Path]] = field(default_factory=dict)

    def of(self, *suffixes: str) -> list[Path]:
        return [path for suffix in suffixes for path in self.by_suffix.get(suffix, [])]

    def show(self, paths: Iterable[Path]) -> str:
        names = [repr(str(path.relative_to(self.root)))[1:-1] for path in list(paths)[:3]]
        return ", ".join(names)


def _scan(root: Path) -> _Files:
    files = _Files(root)
    for number, (folder, names, found) in enumerate(os.walk(root), 1):
        depth = len(Path(folder).relative_to(root).parts)
        names[:] = sorted(n for n in names if not n.startswith("."))[:MAX_FILES] if depth < MAX_DEPTH else []
        counts: dict[str, int] = {}
        for name in sorted(found):
            suffix = os.path.splitext(name)[1].lower()
            counts[suffix] = counts.get(suffix, 0) + 1
            if counts[suffix] <= MAX_FILES and not name.startswith("."):
                files.by_suffix.setdefault(suffix, []).append(Path(folder, name))
        if number >= MAX_FOLDERS:
            break
    return files


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_HEAD)
    except OSError:
        return b""


def coco_files(root: Path) -> list[Path]:
    """Json files below ``root`` that begin like a COCO detection set."""
    keys = (b'"images"', b'"annotations"', b'"categories"')
    return [path for path in _scan(root).of(".json") if sum(key in _head(path) for key in keys) >= 2]


READ_HERE = ("YOLO", "Pascal VOC", "LabelMe")
"""Formats other than COCO that hatdet.data.folders reads."""


def format_of(root: Path) -> str:
    """The name of the format that a folder without COCO json is in; empty: none that is known."""
    return next((name for name, _, found in _annotation_formats(_scan(root)) if found), "")


def recognise(root: Path) -> str:
    """What ``root`` holds instead of a COCO data set, and what to do: the end of a message, or nothing."""
    if not root.is_dir():
        return ""
    files = _scan(root)
    if not files.by_suffix:
        return f"{root} is empty" if not any(root.iterdir()) else f"{root} holds no files that are known here"
    for name, datumaro, found in _annotation_formats(files):
        if found and name in READ_HERE:
            return (
                f"{root} holds a data set in {name} format ({files.show(found)}); it is trained from as it is "
                f"(data_root={root}), or made COCO with 'tools/data.py convert {root} OUT --to coco'"
            )
        if found:
            convert = f"'datum convert -if {datumaro} -i {root} -f coco -o OUT' (Datumaro)" if datumaro else "Datumaro"
            return (
                f"{root} holds a data set in {name} format ({files.show(found)}); hatdet reads COCO json: convert it, "
                f"e.g. with {convert}, or export it as COCO from FiftyOne, Roboflow, CVAT or Label Studio"
            )
    return _other_contents(root, files)


def _annotation_formats(files: _Files) -> Iterable[tuple[str, str, list[Path]]]:
    """Name, Datumaro's name, and files that show it."""
    texts = [p for p in files.of(".txt") if p.name != "classes.txt" and _YOLO_LINE.match(_head(p))]
    setups = [p for p in files.of(".yaml", ".yml") if re.search(rb"^(names|nc)\s*:", _head(p), re.MULTILINE)]
    yield "YOLO", "yolo", [*setups, *texts] if setups or texts else []
    pages = [(p, _head(p)) for p in files.of(".xml")[:MAX_FILES]]
    yield "CVAT", "cvat", [p for p, text in pages if b"<annotations>" in text]
    yield "Pascal VOC", "voc", [p for p, text in pages if b"<annotation" in text and b"<annotations>" not in text]
    objects = [(p, _head(p)) for p in files.of(".json")[:MAX_FILES]]
    yield "CreateML", "", [p for p, _ in objects if p.name.endswith("createml.json")]
    yield "VIA", "", [p for p, text in objects if b'"region_attributes"' in text or b'"_via_' in text]
    yield "LabelMe", "label_me", [p for p, t in objects if b'"shapes"' in t and b'"annotations"' not in t]
    yield "Supervisely", "", [p for p, t in objects if b'"objects"' in t and b'"classTitle"' in t]
    yield "Label Studio", "", [p for p, t in objects if b'"result"' in t and b'"from_name"' in t]
    yield "TFRecord", "tf_detection_api", files.of(".tfrecord", ".tfrecords", ".record")
    yield "KITTI", "kitti", [p for p in files.of(".txt") if p.parent.name == "label_2"]
    headers = (b"ImageID,", b"filename,width,height,class")
    yield "CSV", "", [p for p in files.of(".csv") if any(h in _head(p)[:200] for h in headers)]


def _other_contents(root: Path, files: _Files) -> str:
    archives = files.of(".zip", ".tar", ".gz", ".tgz", ".7z")
    if archives:
        return f"{root} holds archives ({files.show(archives)}): unpack them first"
    pictures = files.of(*SUFFIXES)
    folders = {path.parent for path in pictures}
    if len(folders) > 1 and len({path.parent for path in folders}) == 1 and root not in folders:
        return (
            f"{root} holds pictures in folders ({files.show(pictures)}) and no annotations; folders for classes are "
            "packed with tools/image_folder_packer.py, to pretrain a backbone"
        )
    if pictures:
        return f"{root} holds pictures ({files.show(pictures)}) and no annotations"
    return f"{root} holds no data set that is known here"
