"""Pack a COCO detection set (json and image folder) into one LMDB folder."""

from __future__ import annotations

import contextlib
import itertools
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from hatdet.data.coco import CocoFile, read_coco
from hatdet.data.coco_entries import ImageEntry
from hatdet.data.packers.assemble import Row, box_record, header_of, index_of
from hatdet.data.packers.freshness import PackOptions, images_state, rules_of, stale_reason
from hatdet.data.packers.image_names import Found, ImageFolder
from hatdet.data.packers.image_task import ImageTask, PackedImage, pack_image
from hatdet.data.packers.progress import track
from hatdet.data.packers.records import DATA_FILE, VERSION
from hatdet.data.packers.store.journal import Journal, count_whole
from hatdet.data.packers.store.lmdb_format import VERIFIED_FILE
from hatdet.data.packers.store.publish import UnfinishedError, locked, published, remove_leftovers
from hatdet.data.packers.store.table import TABLE_FILE
from hatdet.data.packers.store.writer import Writer, disk_errors, size_text
from hatdet.data.packers.workers import in_processes, processes_for
from hatdet.utils.errors import UserError

NOTED = tuple(field.name for field in fields(PackedImage) if field.name != "data")
"""What the journal knows of a picture."""
OWN_FILES = {DATA_FILE, TABLE_FILE, VERIFIED_FILE, "lock.mdb"}
"""What a packed folder may hold; one with anything else is not replaced."""
LITTER = (".DS_Store", "._", ".nfs", "Thumbs.db", "desktop.ini")
"""Beginnings of names that desktops and network file systems leave in any folder: nobody's data."""


def pack_coco(
    ann_file: str | Path,
    img_dir: str | Path,
    target: str | Path,
    options: PackOptions | None = None,
    num_workers: int | None = None,
    force: bool = False,
    quiet: bool = False,
    log: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Pack a COCO set into the folder ``target``; does nothing where that is complete and up to date.

    The folder appears under its name only when it is complete. What an interrupted run has written lies in a hidden
    folder beside it, and the next run goes on there, if json, pictures and options are the same still.

    Args:
        ann_file: the COCO json.
        img_dir: the folder its file names are relative to.
        target: the folder to write.
        options: what changes the result.
        num_workers: processes that check images; None: one a core, at most 8; 0: this process.
        force: pack again even if the target is up to date, and from the beginning.
        quiet: no progress.
        log: receives what was done and every warning, a line each.

    Returns:
        the header of the packed set.

    Raises:
        UserError: the set cannot be packed; names file, key and id.
    """
    ann_file, img_dir, target = Path(ann_file), Path(img_dir), Path(target)
    options = options or PackOptions()
    _check_target(target)
    with disk_errors(target.parent), locked(target, log):
        remove_leftovers(target, keep_begun=not force)
        reason, header = stale_reason(target, ann_file, img_dir, options)
        if reason is None and not force:
            remove_leftovers(target)
            said = [f"{target} is complete and up to date: {_counts(header)}"]
        else:
            header, said = _pack(ann_file, img_dir, target, options, num_workers, quiet, reason, log)
    for line in said:  # not inside: what the terminal or a full log file refuses is no trouble of the target's disk
        log(line)
    return header


def _pack(
    ann_file: Path, img_dir: Path, target: Path, options: PackOptions, num_workers: int | None, quiet: bool,
    reason: str | None, log: Callable[[str], None],
) -> tuple[dict[str, Any], list[str]]:  # fmt: skip
    """Pack under the lock; the header, and the lines to say."""
    content = read_coco(ann_file)
    if not img_dir.is_dir():
        raise UserError(
            f"the image folder {img_dir} does not exist; name the folder with the images (--img-dir, img_prefix)"
        )
    if reason:
        log(f"packing {target} anew: it {reason}")
    num_workers = processes_for(len(content.images), num_workers)
    with published(target) as folder:
        header = _write(folder, content, img_dir, options, num_workers, quiet, log)
    warnings = [f"warning: {line}" for line in content.report.lines()]
    return header, [*warnings, f"packed {target}: {_counts(header)}"]


def _check_target(target: Path) -> None:
    if target.is_symlink() or (target.exists() and not target.is_dir()):
        raise UserError(f"{target} exists and is not a folder; remove it, or name another target")
    names = {p.name for p in target.iterdir()} - OWN_FILES if target.is_dir() else set()
    other = sorted(name for name in names if not name.startswith((f"{VERIFIED_FILE}-", *LITTER)))
    if other:
        raise UserError(f"{target} exists and holds something else ({other[0]!r}); remove it, or name another target")


def _counts(header: dict[str, Any]) -> str:
    classes = ", ".join(repr(name)[1:-1] for _, name, _ in header["classes"][:20])
    more = ", ..." if len(header["classes"]) > 20 else ""
    return (
        f"{header['num_images']} images, {header['num_boxes']} boxes, {header['num_crowds']} crowds, "
        f"{len(header['classes'])} classes ({classes}{more})"
    )


def _checked(tasks: Sequence[ImageTask], num_workers: int) -> Iterator[PackedImage]:
    """Check images in order, in worker processes."""
    return in_processes(pack_image, tasks, num_workers)


def _write(
    folder: Path, content: CocoFile, img_dir: Path, options: PackOptions, num_workers: int, quiet: bool,
    log: Callable[[str], None],
) -> dict[str, Any]:  # fmt: skip
    entries = [entry for entry in content.images if entry.file_name]
    names = ImageFolder(img_dir)
    found = [names.look_up(entry.file_name) for entry in entries]  # before reading them: a later change is noticed
    _report_names(content, entries, found)
    _check_space(folder, entries, found, options)
    limits = (options.max_pixels, options.max_side)
    tasks = [
        ImageTask(i, str(img_dir / f.path), str(img_dir / f.shown), e.width, e.height, *limits, f.error)
        for i, (e, f) in enumerate(zip(entries, found, strict=True))
    ]
    state = images_state(found)
    journal, done = _begin(folder, content, options, img_dir, state)
    if done:
        log(f"going on with an interrupted packing: {len(done)} of {len(tasks)} images are there")
    writer = Writer(folder, journal)
    rows: list[Row] = []
    try:
        fresh = _checked(tasks[len(done) :], num_workers)
        images = track(fresh, len(tasks) - len(done), content.path.stem, quiet)
        for number, image in enumerate(itertools.chain(done, images)):
            entry = entries[image.position]
            if number >= len(done):
                writer.note([getattr(image, name) for name in NOTED])
            for kind, text in image.notes:
                content.report.add(kind, f"{image.path}: {text}".removesuffix(": "))
            if image.error:
                content.report.add("image left out", f"{image.path}: {image.error}")
                continue
            record = box_record(entry, image, content.report)
            if number < len(done):
                writer.skip(image.checksum, record.packed())
            else:
                writer.add(image.data, record.packed(), image.checksum)
            image.data, entry.annotations = b"", []
            crowds = int(record.iscrowd.sum())
            rows.append((entry, image, len(record.labels) - crowds, crowds))
        header = header_of(content, rows, options, img_dir)
        header["source"] |= {"images_state": state, "listed": [entry.file_name for entry in entries]}
        writer.finish(header, index_of(rows, header), [(im.full_height, im.full_width) for _, im, _, _ in rows])
    except (KeyboardInterrupt, UnfinishedError):
        with contextlib.suppress(Exception):  # what cannot be kept is done again
            writer.save()
        raise
    finally:
        writer.close()
    return header


def _begin(
    folder: Path, content: CocoFile, options: PackOptions, img_dir: Path, images_state: str
) -> tuple[Journal, list[PackedImage]]:
    """The journal, and what an interrupted packing of the same files has left in ``folder``; else it is empty now."""
    what = {
        "version": VERSION, "rules": rules_of(options), "options": asdict(options), "json": content.sha256,
        "img_dir": str(img_dir.absolute()), "images": images_state,
    }  # fmt: skip
    journal = Journal(folder, what)
    noted = (PackedImage(**dict(zip(NOTED, values, strict=True))) for values in journal.found())
    done = [image for number, image in enumerate(noted) if image.position == number]
    kept = [image for image in done if not image.error]
    whole = count_whole(folder, [image.checksum for image in kept])
    if whole < len(kept):
        done = done[: done.index(kept[whole])]
    if not done:
        for path in folder.iterdir():
            path.unlink()
    journal.begin([[getattr(image, name) for name in NOTED] for image in done])
    return journal, done


def _report_names(content: CocoFile, entries: Sequence[ImageEntry], found: Sequence[Found]) -> None:
    """Say which names are spelt otherwise than the files, and which files are named twice."""
    by_file: dict[str, list[int]] = {}
    for number, image in enumerate(found):
        if image.note:
            content.report.add("file name spelt otherwise than on the disk", f"{image.shown!r} {image.note}")
        by_file.setdefault(image.path or image.name, []).append(number)
    for numbers in by_file.values():
        if len(numbers) > 1:
            ids = ", ".join(repr(entries[number].id) for number in numbers[:4])
            more = ", ..." if len(numbers) > 4 else ""
            shown = f"{found[numbers[0]].shown!r}: image ids {ids}{more}"
            content.report.add("picture listed more than once, each time with its own boxes alone (merge them)", shown)


def _check_space(folder: Path, entries: Sequence[ImageEntry], found: Sequence[Found], options: PackOptions) -> None:
    """Refuse before anything is written where the disk cannot take it.

    Raises:
        UserError: with what is needed and what is free.
    """
    largest = float("inf") if options.max_side is None else 0.25 * options.max_side**2 + 4096
    pages = sum(-(-int(min(image.size, largest) + 16) // 4096) for image in found if image.size > 0)
    needed = 4096 * pages + sum(400 + 70 * len(entry.annotations) for entry in entries) + (1 << 16)
    begun = folder / DATA_FILE
    free = shutil.disk_usage(folder).free + (begun.stat().st_size if begun.exists() else 0)
    if needed > free:
        raise UserError(
            f"packing needs about {size_text(needed)}, the disk of {folder.parent} has {size_text(free)} free; make "
            "room, or use another disk (--target-data-dir; for the cache: HATDET_CACHE)"
        )
