"""The usual names of a COCO data set's files and folders."""

from __future__ import annotations

import re
from pathlib import Path

ROBOFLOW = "_annotations.coco.json"
_SPLITS = {"train": "train", "val": "val", "valid": "val", "test": "test"}


def json_places(src: Path, split: str) -> list[Path]:
    """Where the json of a split is looked for, the first choice first."""
    names = (f"instances_{split}2017.json", f"instances_{split}.json", f"instances_{split}2014.json")
    files = [src / folder / name for name in names for folder in ("annotations", "")]
    files.append(src / split / ROBOFLOW)
    if split == "val":
        files.append(src / "valid" / ROBOFLOW)
    return files


def json_places_found(src: Path, split: str) -> list[Path]:
    """The jsons of a split that are there."""
    return [file for file in json_places(src, split) if file.is_file()]


def folder_places(src: Path, split: str, json_file: Path) -> list[Path]:
    """Where the pictures of a split are looked for, the first choice first."""
    if json_file.name == ROBOFLOW:
        return [json_file.parent]
    names = [f"{split}{'2014' if json_file.stem.endswith('2014') else '2017'}", split]
    if json_file.stem == f"instances_{split}":
        names.reverse()
    names += [f"images/{name}" for name in names]
    if split == "val":
        names += ["valid", "images/valid"]
    return [src / name for name in names]


def split_of(name: str) -> str | None:
    """The split that a json's usual name says: ``annotations/instances_val2017.json`` is of ``val``."""
    path = Path(name)
    if path.name == ROBOFLOW:
        return _SPLITS.get(path.parent.name)
    match = re.fullmatch(r"instances_([a-z]+)(2017|2014)?\.json", path.name)
    return _SPLITS.get(match[1]) if match else None


def split_of_folder(name: str) -> str | None:
    """The split of a folder's usual name: ``val2017/`` is of ``val``."""
    return _SPLITS.get(re.sub(r"(2017|2014)$", "", Path(name).name))


def packing_command(target: Path) -> str:
    """The command that makes the packed folder ``target``, as far as its place tells."""
    split = target.name.removesuffix("_lmdb")
    known = split in _SPLITS and bool(json_places_found(target.parent, split))
    source, name = (target.parent, f" --split-name {split}") if known else ("DIR", "")
    return f"tools/mscoco_packer.py --src-data-dir {source} --target-data-dir {target.parent}{name}"
