"""YOLO, Pascal VOC and LabelMe folders as ``data_root``: turned into COCO jsons in the cache, packed like any other."""

from __future__ import annotations

import json
import logging
import os
import stat
from pathlib import Path

from hatdet.data.folders.dataset import DataSet, Picture
from hatdet.data.folders.open import format_at, read_dataset
from hatdet.data.folders.writers.coco import coco_content
from hatdet.data.packers.caches import CACHE_NAME
from hatdet.data.packers.folder_jsons import json_facts, json_name, state_of_folder
from hatdet.data.packers.layouts import Place
from hatdet.data.packers.places import json_places_found, split_of
from hatdet.data.packers.records import DATA_FILE
from hatdet.utils.environment import common_folders
from hatdet.utils.errors import UserError

FORMATS = {"yolo": "YOLO", "voc": "Pascal VOC", "labelme": "LabelMe"}
"""Those that say where objects are; folders of one class do not, and are trained from only after a conversion."""
logger = logging.getLogger("hatdet")


def cache_folders(data_root: Path) -> list[Path]:
    """Where what is made from a data set may lie, best first: $HATDET_CACHE, inside it, ~/.cache/hatdet."""
    *own, home = common_folders()
    return [*own, data_root / CACHE_NAME, home]


def folder_place(root: Path, ann_file: str) -> tuple[Place, str] | None:
    """The json of a split of a folder in another format, made now where there is none that is up to date.

    Args:
        root: the folder, or a data.yaml.
        ann_file: a usual name of COCO, which says the split.

    Returns:
        the json with its pictures, and one line on it; None: this is no such folder, or not for such a name.

    Raises:
        UserError: it has no picture of that split, or cannot be read.
    """
    split = split_of(ann_file)
    if split is None or (root / ann_file).exists():
        return None
    if root.is_dir() and (json_places_found(root, split) or (root / f"{split}_lmdb" / DATA_FILE).exists()):
        return None
    format = format_at(root) if root.exists() else None
    if format not in FORMATS:
        return None
    home = root if root.is_dir() else root.parent
    name, state = json_name(format, split, root), state_of_folder(home)
    found = next((place for folder in cache_folders(home) if _state_of(place := folder / name) == state), None)
    if found is None:
        found = _make(root, home, format, name, split, state)
    note = f"the split {split!r} is read from {root} ({FORMATS[format]})"
    return Place(found, Path(str(json_facts(found).get("pictures", "")))), note


def _make(root: Path, home: Path, format: str, name: str, split: str, state: str) -> Path:
    """Read the folder, say what was odd, and write the json of each of its splits."""
    dataset = read_dataset(root, format)
    for line in dataset.report.lines():
        logger.warning(line)
    usable_of(dataset, split)
    files = {
        other: _written(dataset, other, home, name.replace(f"-{split}-", f"-{other}-", 1), state)
        for other in dataset.splits
        if other
    }
    return files[split]


def usable_of(dataset: DataSet, split: str) -> list[Picture]:
    """The pictures of a split that can be read.

    Raises:
        UserError: there is none.
    """
    found = [picture for picture in dataset.of(split) if not picture.error]
    if not found:
        there = ", ".join(f"{name or 'no split'} {len(dataset.of(name))}" for name in dataset.splits)
        raise UserError(
            f"{dataset.root} ({dataset.format}) has no pictures of the split {split!r} (pictures: {there}); "
            f"divide it with 'tools/data.py split {dataset.root} OUT', or name another folder"
        )
    return found


def _written(dataset: DataSet, split: str, home: Path, name: str, state: str) -> Path:
    pictures = [picture for picture in dataset.of(split) if not picture.error]
    folder = _folder_of(pictures, home)
    if folder != Path(os.path.abspath(home)):
        state = ""  # a change of files that lie elsewhere would not be seen: it is read each time
    names = [os.path.relpath(picture.path, folder).replace(os.sep, "/") for picture in pictures]
    info = {"state": state, "pictures": str(folder.resolve()), "source": str(dataset.root.resolve())}
    text = json.dumps({"info": info, **coco_content(pictures, names, dataset.classes)})
    for place in cache_folders(home):
        if place.parent == home and not home.stat().st_mode & stat.S_IWUSR:
            continue  # read-only: the superuser could write, and is not meant to
        try:
            place.mkdir(parents=True, exist_ok=True)
            partial = place / f".{name}.{os.getpid()}"
            partial.write_text(text, encoding="utf-8")
            os.replace(partial, place / name)
        except OSError:
            continue
        return place / name
    raise UserError("no cache folder can be written; set HATDET_CACHE to a folder that can")


def _folder_of(pictures: list[Picture], home: Path) -> Path:
    """The folder that file names count from: the data set's, or what all pictures share where some lie elsewhere."""
    own = Path(os.path.abspath(home))
    folders = {os.path.abspath(folder) for folder in {picture.path.parent for picture in pictures}}
    if all(Path(folder).is_relative_to(own) for folder in folders):
        return own
    return Path(os.path.commonpath(folders))


def _state_of(file: Path) -> str | None:
    """The state of its folder that a json in the cache was made from; None: it has to be made again."""
    return json_facts(file).get("state") or None
