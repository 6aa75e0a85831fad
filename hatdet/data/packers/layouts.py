"""Which json and which pictures of a COCO data set are meant: what the packer and a config's ``data_root`` find."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from hatdet.data.image_file import SUFFIXES
from hatdet.data.packers.formats import coco_files, recognise
from hatdet.data.packers.places import folder_places, json_places, json_places_found, split_of, split_of_folder
from hatdet.data.packers.records import DATA_FILE
from hatdet.data.packers.store.lmdb_format import Store
from hatdet.utils.errors import UserError

_T = TypeVar("_T")


@dataclass(frozen=True)
class Place:
    """A json and its image folder, or (``packed``) a folder that the packer wrote."""

    ann_file: Path
    img_dir: Path
    packed: Path | None = None

    def __str__(self) -> str:
        return str(self.packed or self.ann_file)


def find_source(src: Path, split: str, ann_file: str | None, img_dir: str | None) -> tuple[Path, Path]:
    """The json and the image folder of a split.

    Raises:
        UserError: none of the usual places has it; all that were looked at are named, and what is there instead.
    """
    if not src.is_dir() and (ann_file is None or img_dir is None):
        raise UserError(f"--src-data-dir {src} does not exist or is not a folder; name the folder of the data set")
    files = json_places(src, split)
    if ann_file is not None:
        files = [src / ann_file] if (src / ann_file).exists() else [Path(ann_file)]
    json_file = next((file for file in files if file.exists()), None)
    if json_file is None:
        if len(files) == 1:
            raise UserError(f"{files[0]} does not exist; name a file that is there (--ann-file)")
        looked = ", ".join(str(file) for file in files)
        raise UserError(
            f"no annotations of the split {split!r}: looked for {looked}; or name it with --ann-file"
            + _instead(src, split, "--ann-file", "--img-dir")
        )
    folders = folder_places(src, split, json_file)
    if img_dir is not None:
        folders = [src / img_dir] if (src / img_dir).exists() else [Path(img_dir)]
    folder = next((folder for folder in folders if folder.is_dir()), None)
    if folder is None:
        looked = ", ".join(str(folder) for folder in folders)
        raise UserError(f"no image folder of the split {split!r}: looked for {looked}; or name it with --img-dir")
    return json_file, folder


# -------------------------------------------------------------------------------------------- data_root of a config
def locate(root: Path, ann_file: str, img_prefix: str) -> tuple[Place, str]:
    """What a config's ``data_root``, ``ann_file`` and ``img_prefix`` mean.

    The files are taken as they are named. Where they are not there and have COCO's usual names (a config's defaults),
    what the packer would find in ``root`` is taken, or what it has written there.

    Returns:
        the place, and one line on it where it is not as named.

    Raises:
        UserError: nothing, or more than one thing, can be meant.
    """
    place = Place(root / ann_file, root / img_prefix)
    split = split_of(ann_file)
    if place.ann_file.exists():
        if place.img_dir.is_dir() or split is None or split_of_folder(img_prefix) != split:
            return place, ""
        folders = [folder for folder in folder_places(root, split, place.ann_file) if folder.is_dir()]
        if not folders:
            return place, ""  # whoever packs it names what is missing
        return Place(place.ann_file, _only(folders, f"{place.img_dir} does not exist")), (
            f"{place.img_dir} does not exist: the pictures of {split!r} are taken from {folders[0]}"
        )
    if split is None or not root.is_dir():
        where = "" if root.is_dir() else f": {root} is not there" if not root.exists() else f": {root} is not a folder"
        raise UserError(f"the annotation file {place.ann_file} does not exist{where}; name one (ann_file, data_root)")
    found = _found(root, split)
    if not found:
        raise UserError(
            f"the annotation file {place.ann_file} does not exist, and no other of the split {split!r} is found"
            + _instead(root, split, f"{split}_ann_file", f"{split}_img_prefix")
        )
    chosen = _only(found, f"{place.ann_file} does not exist")
    return chosen, f"{place.ann_file} does not exist: the split {split!r} is taken from {chosen}"


def _found(root: Path, split: str) -> list[Place]:
    """Everything in ``root`` that is a split; packed data only where what it was made from is not there too."""
    places = []
    for file in json_places_found(root, split):
        folders = [folder for folder in folder_places(root, split, file) if folder.is_dir()]
        beside = any(path.suffix.lower() in SUFFIXES for path in file.parent.iterdir())
        if folders or beside:  # else this is a folder too low: annotations/ itself
            places.append(Place(file, folders[0] if folders else file.parent))
    packed = root / f"{split}_lmdb"
    if (packed / DATA_FILE).exists():
        source = _source_of(packed)
        if not any(source == str(place.ann_file.absolute()) for place in places):
            places.append(Place(packed, packed, packed))
    return places


def _source_of(packed: Path) -> str:
    try:
        return str(Store(packed).header["source"].get("ann_file", ""))
    except UserError:
        return ""


def _only(candidates: list[_T], why: str) -> _T:
    if len(candidates) > 1:
        names = ", ".join(map(str, candidates))
        raise UserError(f"{why}, and more than one can be meant: {names}; name one (ann_file and img_prefix)")
    return candidates[0]


def _instead(root: Path, split: str, ann_option: str, img_option: str) -> str:
    """``"; what there is instead"``."""
    if (root / DATA_FILE).exists():
        return f"; {root} is one packed split: name the folder that holds train_lmdb and val_lmdb"
    packed = sorted(path.name for path in root.glob("*_lmdb") if (path / DATA_FILE).exists())
    if packed:
        return (
            f"; {root} holds {', '.join(packed)}: pack {split} too (tools/mscoco_packer.py --split-name {split} "
            f"--target-data-dir {root} --src-data-dir DIR)"
        )
    for near in (root.parent, *sorted(path for path in root.iterdir() if path.is_dir())[:50]):
        if _found(near, split):
            return f"; did you mean the folder {near}?"
    files = coco_files(root)
    if files:
        names = ", ".join(str(path.relative_to(root)) for path in files[:4])
        return (
            f"; there are COCO files under other names ({names}): name one with {ann_option}, its pictures with "
            f"{img_option}"
        )
    return f"; {recognise(root)}"
