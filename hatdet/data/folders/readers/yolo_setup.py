"""data.yaml of a YOLO data set: which pictures are which split, and the classes; folders alone where there is none."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hatdet.data.folders.dataset import split_name
from hatdet.data.folders.readers.files import pictures_below, read_text
from hatdet.data.image_file import SUFFIXES
from hatdet.data.report import Report
from hatdet.utils.errors import UserError

NAME_FILES = ("classes.txt", "obj.names", "labels/classes.txt", "_darknet.labels", "names.txt")
_SPLIT_KEYS = (("train", "train"), ("val", "val"), ("valid", "val"), ("test", "test"))


@dataclass
class Setup:
    """What is known before any label is read.

    Attributes:
        names: class id -> name; empty: unknown.
        splits: name -> (folder that names count from, picture files).
        named: the splits that data.yaml declares.
        keypoints: numbers for keypoints behind a box.
    """

    names: dict[int, str] = field(default_factory=dict)
    splits: dict[str, list[tuple[Path, Path]]] = field(default_factory=dict)
    named: tuple[str, ...] = ()
    keypoints: int = 0


def find_yaml(root: Path) -> Path | None:
    """The set-up file of a folder: ``data.yaml``, else the only one that names classes and a split."""
    if root.is_file():
        return root
    if (root / "data.yaml").is_file():
        return root / "data.yaml"
    files = [file for suffix in ("*.yaml", "*.yml") for file in sorted(root.glob(suffix)) if _is_setup(file)]
    if len(files) > 1:
        names = ", ".join(file.name for file in files[:5])
        raise UserError(f"{root} holds several YOLO set-up files ({names}); name the one that is meant")
    return files[0] if files else None


def _is_setup(file: Path) -> bool:
    try:
        lines = file.read_bytes()[: 1 << 16].decode("utf-8", "replace").splitlines()
    except OSError:
        return False
    keys = {line.split(":")[0].strip() for line in lines if ":" in line}
    return bool(keys & {"names", "nc"}) and bool(keys & {"train", "val", "test"})


def read_setup(root: Path, report: Report) -> Setup:
    """What data.yaml says, or what the folders say.

    Raises:
        UserError: data.yaml cannot be read or says nonsense.
    """
    file = find_yaml(root)
    return _from_folders(root, report) if file is None else _from_yaml(file, report)


# -------------------------------------------------------------------------------------------- data.yaml
def load_yaml(file: Path) -> Mapping[str, Any]:
    """The mapping in a YAML file; nothing in it is run.

    Raises:
        UserError: there is no PyYAML, or it is no mapping.
    """
    try:
        import yaml
    except ImportError:
        raise UserError(f"{file} is YAML and PyYAML is not installed; pip install 'hatdet[data]'") from None
    try:
        content = yaml.safe_load(file.read_bytes().decode("utf-8-sig"))
    except FileNotFoundError:
        raise UserError(f"{file} does not exist; name the data.yaml of the data set, or its folder") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: no text, 2024-13-45, 5000 digits
        text = " ".join(str(error).split())
        raise UserError(f"{file} is not valid YAML: {text}; mend it there, or export it again") from None
    if not isinstance(content, dict):
        raise UserError(f"{file} holds no names and splits; name a YOLO data.yaml, which has train, val and names")
    return content


def _from_yaml(file: Path, report: Report) -> Setup:
    content = load_yaml(file)
    setup = Setup(_names(file, content, report), keypoints=_keypoints(file, content))
    bases = _bases(file, content.get("path"), report)
    for key, split in _SPLIT_KEYS:
        entries = content.get(key)
        if entries is None or entries == "":
            continue
        setup.named += (split,)
        for entry in entries if isinstance(entries, list) else [entries]:
            if not isinstance(entry, str):
                raise UserError(f"{file}: {key}: got {entry!r}; write a folder, or a text file that lists pictures")
            place = _place(entry, bases)
            if place is None:
                report.add(f"{key} of data.yaml is not there", f"{entry!r}: looked in {', '.join(map(str, bases))}")
                continue
            setup.splits.setdefault(split, []).extend(_listed(place, bases, report))
    if not setup.named:
        found = ", ".join(map(str, list(content)[:8])) or "nothing"
        raise UserError(f"{file} names no split (found: {found}); give it train and val")
    return setup


def _names(file: Path, content: Mapping[str, Any], report: Report) -> dict[int, str]:
    given, number = content.get("names"), content.get("nc")
    if isinstance(given, list):
        names = {position: str(name) for position, name in enumerate(given)}
    elif isinstance(given, dict):
        try:
            names = {int(key): str(name) for key, name in given.items()}
        except (TypeError, ValueError, OverflowError):
            raise UserError(f"{file}: names: its keys must be class numbers from 0, got {list(given)[:4]}") from None
    elif given is not None:
        raise UserError(f"{file}: names must be a list, or numbers with names, got {given!r}")
    else:
        names = {}
    if not names and isinstance(number, int) and 0 < number <= 100_000:
        report.add("data.yaml gives a number of classes and no names: called by their numbers", f"nc: {number}")
        return {position: f"class_{position}" for position in range(number)}
    if isinstance(number, int) and names and number != len(names):
        report.add("data.yaml: nc is not the number of names, the names count", f"nc: {number}, names: {len(names)}")
    twice = sorted({name for name in names.values() if list(names.values()).count(name) > 1})
    if twice:
        raise UserError(f"{file}: names: {twice[0]!r} stands there twice; give each class a name of its own")
    return dict(sorted(names.items()))


def _keypoints(file: Path, content: Mapping[str, Any]) -> int:
    shape = content.get("kpt_shape")
    if shape is None:
        return 0
    if not isinstance(shape, list) or len(shape) != 2 or not all(isinstance(v, int) and v > 0 for v in shape):
        raise UserError(f"{file}: kpt_shape must be two whole numbers, as [17, 3], got {shape!r}")
    return int(shape[0]) * int(shape[1])


def _bases(file: Path, path: Any, report: Report) -> list[Path]:
    """Folders that entries may count from: ``path``, absolute or beside the file; the file's own folder."""
    own = file.parent
    if not isinstance(path, str) or not path:
        return [own]
    given = Path(path).expanduser()
    places = (Path(os.path.normpath(own / given)), Path.cwd() / given)
    chosen = next((place for place in places if place.is_dir()), None)
    if chosen is None:
        report.add("path of data.yaml is not there, its own folder is taken", f"path: {path!r}")
        return [own]
    return list(dict.fromkeys([chosen, own]))


def _place(entry: str, bases: list[Path]) -> Path | None:
    """The folder or list that an entry means; Roboflow writes ``../train/images`` for ``train/images``."""
    plain = entry.replace("\\", "/")
    ways = [plain, plain.removeprefix("../")] if plain.startswith("../") else [plain]
    places = [Path(os.path.normpath(base / way)) for way in ways for base in bases]
    return next((place for place in places if place.exists()), None)


def _listed(place: Path, bases: list[Path], report: Report) -> list[tuple[Path, Path]]:
    """The pictures of a folder, or of a list; with the folder that their names count from."""
    if place.is_dir():
        return [(place, path) for path in pictures_below(place)]
    if place.suffix.lower() in SUFFIXES:
        return [(place.parent, place)]
    text = read_text(place, report)
    found = []
    for line in dict.fromkeys((text or "").split("\n")):
        name = line.strip().replace("\\", "/")
        if not name:
            continue
        homes = [place.parent, *bases]
        path = next((home / name for home in homes if (home / name).is_file()), homes[0] / name)
        found.append((next((home for home in homes if path.is_relative_to(home)), path.parent), path))
    return found


# ---------------------------------------------------------------------------------------------- folders
def _from_folders(root: Path, report: Report) -> Setup:
    """``images/train``, ``train/images``, ``train``, or all pictures in one."""
    setup = Setup()
    for names in (root / name for name in NAME_FILES):
        if names.is_file():
            lines = [line.strip() for line in (read_text(names, report) or "").splitlines()]
            setup.names = dict(enumerate(line for line in lines if line))
            break
    for folder in _split_folders(root):
        split = split_name(folder.name if folder.name != "images" else folder.parent.name) or ""
        setup.splits.setdefault(split, []).extend((folder, path) for path in pictures_below(folder))
    if not setup.splits:
        base = root / "images" if (root / "images").is_dir() else root
        setup.splits[""] = [(base, path) for path in pictures_below(base)]
    return setup


def _split_folders(root: Path) -> list[Path]:
    for parent in (root / "images", root):
        folders = [path for path in sorted(parent.glob("*")) if path.is_dir() and split_name(path.name)]
        if folders:
            return [path / "images" if (path / "images").is_dir() else path for path in folders]
    return []
