"""A COCO folder as a data set: packed into a cache on first use, then read from there."""

from __future__ import annotations

import hashlib
import logging
import os
import stat
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from hatdet.data.datasets.coco_lmdb import CocoFromLMDB
from hatdet.data.datasets.folders import cache_folders, folder_place
from hatdet.data.packers.freshness import PackOptions, is_up_to_date
from hatdet.data.packers.layouts import locate
from hatdet.data.packers.mscoco import pack_coco
from hatdet.data.packers.store.publish import clean_up
from hatdet.registry import register
from hatdet.utils.errors import UserError

logger = logging.getLogger("hatdet")


def packed_copy(
    ann_file: Path, img_dir: Path, data_root: Path, max_side: int | None = None, num_workers: int | None = None
) -> Path:
    """The packed copy of a COCO set, made now where there is none that is up to date.

    Two processes do not pack at once: the second waits and takes what the first made.

    Raises:
        UserError: the set cannot be packed, or no cache folder can be written.
    """
    if not ann_file.exists():
        raise UserError(f"the annotation file {ann_file} does not exist; name it with ann_file")
    options = PackOptions(max_side)
    name, folders = _name(ann_file, img_dir, max_side), cache_folders(data_root)
    if (found := current_copy(ann_file, img_dir, data_root, max_side)) is not None:
        clean_up(found)
        return found
    for folder in folders:
        writable = data_root.is_dir() and data_root.stat().st_mode & stat.S_IWUSR
        if folder.parent == data_root and not writable:
            continue  # not there (names are absolute), or read-only: the superuser could write, and is not meant to
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError:
            continue
        if os.access(folder, os.W_OK):
            print(f"packing {ann_file} into {folder / name} (once)", file=sys.stderr, flush=True)
            pack_coco(ann_file, img_dir, folder / name, options, num_workers, log=_log)
            return folder / name
    raise UserError(
        f"no folder for the packed copy of {ann_file} can be written: {', '.join(map(str, folders))}; "
        "set HATDET_CACHE to a folder that can"
    )


def current_copy(ann_file: Path, img_dir: Path, data_root: Path, max_side: int | None = None) -> Path | None:
    """The packed copy of a COCO set that is up to date; None: there is none."""
    name, options = _name(ann_file, img_dir, max_side), PackOptions(max_side)
    places = (folder / name for folder in cache_folders(data_root))
    return next((place for place in places if is_up_to_date(place, ann_file, img_dir, options)), None)


def _name(ann_file: Path, img_dir: Path, max_side: int | None) -> str:
    place = f"{ann_file.resolve()}\n{img_dir.resolve()}\n{max_side}"
    return f"{ann_file.stem}-{hashlib.sha256(place.encode('utf-8', 'replace')).hexdigest()[:10]}_lmdb"


def _log(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


@register
class CocoDataset(CocoFromLMDB):
    """A COCO json with its image folder.

    On first use it is packed into a cache: ``$HATDET_CACHE`` where that is set, else ``.hatdet_cache`` inside
    ``data_root``, else (read-only data) ``~/.cache/hatdet``. It is packed anew when json or images change.

    Where ``ann_file`` and ``img_prefix`` have COCO's usual names (instances_train2017.json, train2017/) and are not
    there, what tools/mscoco_packer.py finds in ``data_root`` is taken instead (train/_annotations.coco.json of
    Roboflow), or what it wrote there (train_lmdb), or the split of a YOLO, Pascal VOC or LabelMe folder (or data.yaml)
    in :mod:`hatdet.data.folders`'s reading; a line says so.

    Args:
        data_root: folder of the data set.
        ann_file: the COCO json, relative to ``data_root`` (or absolute).
        img_prefix: the image folder, relative to ``data_root`` (or absolute).
        max_side: shrink larger images to this long side while packing. Ground truth, detections and areas count in
            pixels of the files all the same; scores on shrunk pictures are not those of whole ones, and a line says so.

    The other arguments are those of :class:`CocoFromLMDB`.
    """

    def __init__(
        self,
        data_root: str | Path,
        ann_file: str | Path,
        img_prefix: str | Path,
        transforms: Sequence[Callable[..., Any]],
        late_transforms: Sequence[Callable[..., Any]] | None = None,
        num_samples: int | None = None,
        test_mode: bool = False,
        filter_empty: bool = True,
        min_size: int = 0,
        classes: Sequence[str] | None = None,
        cache_mb: int | Literal["auto"] = "auto",
        max_side: int | None = None,
        crowds: bool = False,
        one_class: str | None = None,
        decode_scale: Literal["auto"] | None = None,
    ) -> None:
        root = Path(data_root).expanduser()
        other = folder_place(root, str(ann_file))
        place, note = other or locate(root, str(ann_file), str(img_prefix))
        if note:
            logger.info(note)
        self.ann_file, self.img_dir = root if other else place.ann_file, place.img_dir
        root = root.parent if root.is_file() else root  # a data.yaml
        super().__init__(
            data_path=place.packed or packed_copy(place.ann_file, place.img_dir, root, max_side),
            transforms=transforms,
            late_transforms=late_transforms,
            num_samples=num_samples,
            test_mode=test_mode,
            filter_empty=filter_empty,
            min_size=min_size,
            classes=classes,
            cache_mb=cache_mb,
            crowds=crowds,
            one_class=one_class,
            decode_scale=decode_scale,
        )
        if place.packed is None:
            self.store.advice = "start again: it is packed anew"
            return
        packed_side = self.store.header["source"]["options"].get("max_side")
        if packed_side != max_side:
            raise UserError(
                f"{place.packed} was packed with --max-side {packed_side}, the config says max_side={max_side}: give "
                "the same, or pack it again"
            )
