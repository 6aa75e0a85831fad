"""Pack a COCO detection set (json and image folder) into one LMDB folder."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hatdet.data.coco import MAX_ID, CocoFile, ImageEntry, clip_bbox, read_coco
from hatdet.data.image_file import MAX_PIXELS
from hatdet.data.packers.image_task import ImageTask, PackedImage, pack_image, start_worker
from hatdet.data.packers.lmdb_format import (
    FORMAT,
    VERSION,
    BoxRecord,
    Index,
    boxes_key,
    image_key,
    pack,
    read_header,
)
from hatdet.data.packers.progress import track
from hatdet.data.packers.publish import locked, published
from hatdet.data.report import Report
from hatdet.utils.errors import UserError

COMMIT_BYTES = 64 << 20
"""Bytes written between two commits: bounds the memory of the packer."""


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


def pack_coco(
    ann_file: str | Path,
    img_dir: str | Path,
    target: str | Path,
    options: PackOptions = PackOptions(),
    num_workers: int | None = None,
    force: bool = False,
    quiet: bool = False,
    log: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Pack a COCO set into the folder ``target``; does nothing where that is complete and up to date.

    The folder appears under its name only when it is complete; an interrupted run leaves nothing that could be
    taken for a data set, and the next run starts afresh.

    Args:
        ann_file: the COCO json.
        img_dir: the folder its file names are relative to.
        target: the folder to write.
        options: what changes the result.
        num_workers: processes that check images; None: one a core, at most 8; 0: this process.
        force: pack again even if the target is up to date.
        quiet: no progress.
        log: receives what was done and every warning, a line each.

    Returns:
        the header of the packed set.

    Raises:
        UserError: the set cannot be packed; names file, key and id.
    """
    ann_file, img_dir, target = Path(ann_file), Path(img_dir), Path(target)
    if target.is_symlink() or (target.exists() and not target.is_dir()):
        raise UserError(f"{target} exists and is not a folder")
    if target.is_dir() and any(target.iterdir()) and not (target / "data.mdb").exists():
        raise UserError(f"{target} exists and holds something else; name another target")
    with locked(target):
        if not force and is_up_to_date(target, ann_file, img_dir, options):
            header = read_header(target)
            assert header is not None
            log(f"{target} is complete and up to date: {_counts(header)}")
            return header
        content = read_coco(ann_file)
        if not img_dir.is_dir():
            raise UserError(f"the image folder {img_dir} does not exist")
        if num_workers is None:
            num_workers = min(8, os.cpu_count() or 1)
        if len(content.images) < 256:  # starting processes would take longer
            num_workers = 0
        with published(target) as folder:
            header = _write(folder, content, img_dir, options, num_workers, quiet)
        for line in content.report.lines():
            log(f"warning: {line}")
        log(f"packed {target}: {_counts(header)}")
        return header


def _counts(header: dict[str, Any]) -> str:
    classes = ", ".join(repr(name)[1:-1] for _, name, _ in header["classes"][:20])
    more = ", ..." if len(header["classes"]) > 20 else ""
    return (
        f"{header['num_images']} images, {header['num_boxes']} boxes, {header['num_crowds']} crowds, "
        f"{len(header['classes'])} classes ({classes}{more})"
    )


# --------------------------------------------------------------------------------------- up to date?
def _json_state(ann_file: Path) -> list[int]:
    status = ann_file.stat()
    return [status.st_size, status.st_mtime_ns]


def _images_state(img_dir: Path, names: Sequence[str]) -> str:
    """Digest of name, size and time of change of every listed image."""
    digest = hashlib.sha256()
    root = str(img_dir)
    for name in names:
        try:
            status = os.stat(os.path.join(root, name))
            digest.update(b"%d %d " % (status.st_size, status.st_mtime_ns))
        except (OSError, ValueError):
            digest.update(b"- ")
        digest.update(name.encode("utf-8", "replace") + b"\n")
    return digest.hexdigest()


def is_up_to_date(target: Path, ann_file: Path, img_dir: Path, options: PackOptions) -> bool:
    """Whether ``target`` is a complete pack of these files, unchanged since, with these options."""
    header = read_header(target)
    if header is None:
        return False
    source = header["source"]
    try:
        if source["options"] != asdict(options) or source["json_name"] != ann_file.name:
            return False
        if source["json_state"] != _json_state(ann_file) and source["json_sha256"] != _sha256(ann_file):
            return False
    except OSError:
        return False
    return bool(source["images_state"] == _images_state(img_dir, source["listed"]))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# -------------------------------------------------------------------------------------------- writing
def _checked(tasks: Sequence[ImageTask], num_workers: int) -> Iterator[PackedImage]:
    """Check images in order, in worker processes; only a few wait in memory at a time."""
    if num_workers < 1:
        yield from map(pack_image, tasks)
        return
    pending: list[Future[list[PackedImage]]] = []
    chunks = [tasks[i : i + 8] for i in range(0, len(tasks), 8)]
    with ProcessPoolExecutor(num_workers, initializer=start_worker) as pool:
        try:
            for chunk in chunks:
                pending.append(pool.submit(_pack_chunk, chunk))
                if len(pending) > 2 * num_workers:
                    yield from pending.pop(0).result()
            while pending:
                yield from pending.pop(0).result()
        except BrokenProcessPool as error:
            raise UserError(
                "a packing process was killed (out of memory?); try fewer workers with --num-workers"
            ) from error
        finally:
            for future in pending:
                future.cancel()


def _pack_chunk(chunk: Sequence[ImageTask]) -> list[PackedImage]:
    return [pack_image(task) for task in chunk]


class _Writer:
    """Puts records into a new LMDB environment, with bounded transactions and a map that grows."""

    def __init__(self, folder: Path) -> None:
        import lmdb

        self._lmdb = lmdb
        self._size = 1 << 30
        try:
            self._env = lmdb.open(str(folder), map_size=self._size, meminit=False, lock=False, sync=False)
        except lmdb.Error as error:
            raise UserError(f"cannot write the packed data: {error}") from error
        self._pending: dict[bytes, bytes] = {}
        self._bytes = 0

    def put(self, key: bytes, value: bytes) -> None:
        self._pending[key] = value
        self._bytes += len(value)
        if self._bytes > COMMIT_BYTES:
            self.flush()

    def flush(self) -> None:
        while True:
            try:
                with self._env.begin(write=True) as transaction:
                    for key in sorted(self._pending):
                        transaction.put(key, self._pending[key])
                break
            except self._lmdb.MapFullError:
                self._size *= 2
                self._env.set_mapsize(self._size)
            except self._lmdb.Error as error:
                raise UserError(f"cannot write the packed data: {error}") from error
        self._pending, self._bytes = {}, 0

    def close(self) -> None:
        try:
            self._env.sync(True)
        finally:
            self._env.close()


def _write(
    folder: Path, content: CocoFile, img_dir: Path, options: PackOptions, num_workers: int, quiet: bool
) -> dict[str, Any]:
    json_state = _json_state(content.path)  # taken before reading the images: a later change is noticed
    listed = [entry.file_name for entry in content.images if entry.file_name]
    images_state = _images_state(img_dir, listed)
    entries = [entry for entry in content.images if entry.file_name]
    tasks = [
        ImageTask(i, str(img_dir), e.file_name, e.width, e.height, options.max_pixels, options.max_side)
        for i, e in enumerate(entries)
    ]
    writer = _Writer(folder)
    rows: list[tuple[ImageEntry, PackedImage, BoxRecord]] = []
    try:
        for image in track(_checked(tasks, num_workers), len(tasks), content.path.stem, quiet):
            entry = entries[image.position]
            for note in image.notes:
                content.report.add("image size", f"{image.path}: {note}")
            if image.error:
                content.report.add("image left out", f"{image.path}: {image.error}")
                continue
            record = _record(entry, image, content.report)
            writer.put(image_key(len(rows)), image.data)
            writer.put(boxes_key(len(rows)), record.packed())
            image.data = b""
            rows.append((entry, image, record))
        header = _header(content, rows, options)
        header["source"] |= {"json_state": json_state, "images_state": images_state, "listed": listed}
        writer.put(b"index", _index(rows, header).packed())
        writer.put(b"header", pack(header))
        writer.flush()
    finally:
        writer.close()
    return header


def _record(entry: ImageEntry, image: PackedImage, report: Report) -> BoxRecord:
    """Clip the boxes to the real image and bring them into the record's arrays."""
    scale_x, scale_y = image.stored_width / image.width, image.stored_height / image.height
    kept = []
    for annotation in entry.annotations:
        box = clip_bbox(annotation, image.width, image.height, report)
        if box is not None:
            kept.append((box, annotation))
    bbox = np.array([box for box, _ in kept], np.float64).reshape(-1, 4)
    bbox *= (scale_x, scale_y, scale_x, scale_y)
    corners = np.concatenate([bbox[:, :2], bbox[:, :2] + bbox[:, 2:]], axis=1)
    corners[:, 0::2] = corners[:, 0::2].clip(0, image.stored_width)
    corners[:, 1::2] = corners[:, 1::2].clip(0, image.stored_height)
    return BoxRecord(
        bbox,
        corners.astype(np.float32),
        np.array([a.label for _, a in kept], np.int32),
        np.array([a.area for _, a in kept], np.float64) * scale_x * scale_y,
        np.array([a.iscrowd for _, a in kept], np.bool_),
        image.as_stored,
    )


def _header(
    content: CocoFile, rows: list[tuple[ImageEntry, PackedImage, BoxRecord]], options: PackOptions
) -> dict[str, Any]:
    _check_result(content, rows)
    json_sha256 = _sha256(content.path)
    ids = [entry.id for entry, _, _ in rows]
    plain = all(isinstance(i, int) and abs(i) <= MAX_ID for i in ids)
    if not plain:
        content.report.add("image ids are not whole numbers up to 2^53: numbered from 1", repr(ids[0])[:80])
    checksums = [image.checksum for _, image, _ in rows]
    digest = hashlib.sha256(json.dumps([VERSION, asdict(options), json_sha256, checksums]).encode())
    return {
        "format": FORMAT,
        "version": VERSION,
        "classes": [[c.id, c.name, c.supercategory] for c in content.categories],
        "num_images": len(rows),
        "num_boxes": sum(int((~record.iscrowd).sum()) for _, _, record in rows),
        "num_crowds": sum(int(record.iscrowd.sum()) for _, _, record in rows),
        "source_ids": None if plain else [str(i) for i in ids],
        "fingerprint": digest.hexdigest(),
        "source": {
            "json_name": content.path.name,
            "json_sha256": json_sha256,
            "options": asdict(options),
            "num_images": len(content.images),
            "num_annotations": content.num_annotations,
        },
        "warnings": list(content.report.lines()),
        "complete": True,
    }


def _check_result(content: CocoFile, rows: list[tuple[ImageEntry, PackedImage, BoxRecord]]) -> None:
    counts = content.report.counts
    if not rows:
        reasons = "".join(f"\n  {line}" for line in content.report.lines())
        raise UserError(f"{content.path}: no image can be read{reasons}")
    if content.num_annotations and not any(len(record.labels) for _, _, record in rows):
        reasons = "".join(f"\n  {line}" for line in content.report.lines())
        raise UserError(f"{content.path}: no usable box is left{reasons}")
    clipped = counts.get("'bbox' reaches out of its image, clipped", 0)
    outside = counts.get("'bbox' outside its image, annotation skipped", 0)
    if clipped + outside > 0.2 * content.num_annotations:
        content.report.add(
            f"{clipped + outside} of {content.num_annotations} boxes leave their image: COCO's 'bbox' is "
            "[x, y, width, height]; are these [x1, y1, x2, y2]?"
        )
    if not content.num_annotations:
        content.report.add("'annotations' is empty: no image has a box")


def _index(rows: list[tuple[ImageEntry, PackedImage, BoxRecord]], header: dict[str, Any]) -> Index:
    plain = header["source_ids"] is None
    ids = [entry.id if plain else number for number, (entry, _, _) in enumerate(rows, 1)]
    return Index(
        np.array(ids, np.int64),
        np.array([(image.stored_height, image.stored_width) for _, image, _ in rows], np.int32),
        np.array([(~record.iscrowd).sum() for _, _, record in rows], np.int32),
        np.array([record.iscrowd.sum() for _, _, record in rows], np.int32),
        [entry.file_name for entry, _, _ in rows],
    )
