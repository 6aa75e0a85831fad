"""Whether a packed data set is still that of its sources, and if not, why."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hatdet.data.coco_json import file_state, is_settled
from hatdet.data.image_file import MAX_PIXELS
from hatdet.data.packers.image_names import Found, ImageFolder
from hatdet.data.packers.records import DATA_FILE, VERSION
from hatdet.data.packers.store.lmdb_format import VERIFIED_FILE, Store
from hatdet.data.packers.store.table import TABLE_FILE
from hatdet.utils.errors import UserError

RULES = 2
"""Counts up where the same files give other records: 2 keeps every class that is no placeholder, takes ``ignore`` for a
crowd and scales 16-bit pictures."""
RULES_SHRUNK = 3
"""The same of pictures that are shrunk: 3 keeps what an evaluation counts in in pixels of the files."""

_digests: dict[tuple[object, ...], str] = {}
"""Of json files that this process has read, by path and state."""
logger = logging.getLogger("hatdet")


@dataclass(frozen=True)
class PackOptions:
    """What changes the packed data.

    Args:
        max_side: shrink larger images (and their boxes) to this long side; None keeps the original bytes.
        max_pixels: refuse images whose header claims more.
    """

    max_side: int | None = None
    max_pixels: int = MAX_PIXELS

    def __post_init__(self) -> None:
        if self.max_side is not None and self.max_side < 1:
            raise UserError(f"max_side: got {self.max_side}; it must be at least 1")
        if self.max_pixels < 1:
            raise UserError(f"max_pixels: got {self.max_pixels}; it must be at least 1")


def rules_of(options: PackOptions) -> int:
    """The rules that data packed with these options is of."""
    return RULES if options.max_side is None else RULES_SHRUNK


def images_state(found: Iterable[Found]) -> str:
    """Digest of the files that the listed names stand for: which, how large, when changed."""
    digest = hashlib.sha256()
    for image in found:
        text = f"{image.name}\n{image.path}\n{image.size} {image.mtime_ns}\n"
        digest.update(text.encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def stale_reason(
    target: Path, ann_file: Path, img_dir: Path, options: PackOptions
) -> tuple[str | None, dict[str, Any]]:
    """Why ``target`` has to be packed, and its header.

    Returns:
        ``(None, header)``: it is a complete pack of these files, unchanged since, with these options;
        ``("", {})``: there is nothing; ``(reason, {})`` otherwise.
    """
    if not os.path.lexists(target / DATA_FILE):
        return (f"has lost its {DATA_FILE}" if os.path.lexists(target / TABLE_FILE) else ""), {}
    try:
        store = Store(target)
    except UserError as error:
        text = str(error).removeprefix(str(target)).split("; pack it again")[0].split("; make it with")[0]
        return text.strip(), {}
    source = store.header.get("source", {})
    if store.version != VERSION:
        return "was packed by an earlier version, without checksums", {}
    if source["options"] != asdict(options):
        return "was packed with other options", {}
    if store.header.get("rules") != rules_of(options):
        what = "classes, ignored boxes or 16-bit pictures" if options.max_side is None else "shrunk pictures"
        return f"was packed by an earlier version, with other rules for {what}", {}
    try:
        if not _same_json(ann_file, source):
            return f"was packed from other annotations: {ann_file.name} has changed", {}
    except OSError as error:
        return f"cannot be compared: {ann_file}: {error.strerror}", {}
    folder = ImageFolder(img_dir)
    if source["images_state"] != images_state(map(folder.look_up, store.listed())):
        return f"was packed from other pictures: some in {img_dir} have changed", {}
    return None, store.header


def _same_json(ann_file: Path, source: Mapping[str, Any]) -> bool:
    """Whether the json says what it said when it was packed; it is read only where its state does not tell."""
    with ann_file.open("rb") as file:
        status = os.fstat(file.fileno())
        state = file_state(status)
        if state == source["json_state"]:
            return True
        key = (str(ann_file), *state)
        digest = _digests.get(key) or hashlib.file_digest(file, "sha256").hexdigest()
    if is_settled(status):
        _digests[key] = digest
    return bool(digest == source["json_sha256"])


def json_changed(header: dict[str, Any]) -> bool:
    """Whether the json that the data was packed from is still where it was, and says something else now."""
    source = header.get("source", {})
    try:
        return not _same_json(Path(source["ann_file"]), source)
    except (OSError, KeyError, ValueError):
        return False


def open_store(path: str | Path) -> Store:
    """A packed data set for use, with a warning where it is older than its json, or cannot tell damage."""
    store = Store(path)
    if store.version == 1:
        logger.warning(
            "%s was packed by an earlier version, without checksums: damage is not noticed; pack it again", store.path
        )
    options = store.header.get("source", {}).get("options", {})
    if options.get("max_side") is not None and store.header.get("rules", 0) < RULES_SHRUNK:
        logger.warning(
            "%s was packed with --max-side by an earlier version: evaluation counts in pixels of the shrunk pictures; "
            "pack it again",
            store.path,
        )
    with contextlib.suppress(OSError):
        os.utime(store.path / VERIFIED_FILE)  # the time of the last use
    if json_changed(store.header):
        source = store.header["source"]["ann_file"]
        logger.warning("%s was packed from %s, which has changed since: pack it again", store.path, source)
    return store


def is_up_to_date(target: Path, ann_file: Path, img_dir: Path, options: PackOptions) -> bool:
    """Whether ``target`` is a complete pack of these files, unchanged since, with these options."""
    return stale_reason(target, ann_file, img_dir, options)[0] is None
