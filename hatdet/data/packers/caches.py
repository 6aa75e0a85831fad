"""What data sets leave in caches: which packed copies and jsons there are, what uses them, removing the others."""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from hatdet.data.packers import folder_jsons
from hatdet.data.packers.freshness import PackOptions, stale_reason
from hatdet.data.packers.progress import say
from hatdet.data.packers.store.lmdb_format import VERIFIED_FILE, read_header
from hatdet.data.packers.store.publish import lock_of, locked_now
from hatdet.data.packers.store.writer import size_text
from hatdet.utils.environment import common_folders
from hatdet.utils.errors import UserError
from hatdet.utils.locks import holder, is_held

CACHE_NAME = ".hatdet_cache"
_NAME = re.compile(r".+-[0-9a-f]{10}_lmdb")
_LEFTOVER = re.compile(r"\.(.+-[0-9a-f]{10}_lmdb)\.(packing(?:-\d+)?|old-\d+|lock)")
MAX_DEPTH = 3


@dataclass(frozen=True)
class Cache:
    """One packed copy, or what is left of one; ``unused`` says why nothing uses it (empty: it is in use)."""

    path: Path
    size: int
    content: str
    unused: str

    def __str__(self) -> str:
        state = f"unused: {self.unused}" if self.unused else "in use"
        return f"{self.path}: {size_text(self.size)}{self.content}: {state}"


def cache_folders_below(root: Path) -> Iterator[Path]:
    """Every ``.hatdet_cache`` in ``root`` and a few levels below."""
    if root.name == CACHE_NAME:
        yield root
        return
    for folder, names, _ in os.walk(root):
        if CACHE_NAME in names:
            yield Path(folder, CACHE_NAME)
        depth = len(Path(folder).relative_to(root).parts)
        names[:] = sorted(n for n in names if not n.startswith(".")) if depth < MAX_DEPTH else []


def find_caches(folder: Path, older_than: float | None = None) -> list[Cache]:
    """What lies in one cache folder.

    Args:
        folder: the cache folder.
        older_than: days since the last use after which a copy counts as unused.
    """
    caches = []
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        leftover = _LEFTOVER.fullmatch(path.name)
        if leftover:
            lock = lock_of(folder / leftover[1])
            content = f", {holder(lock)} is packing" if is_held(lock) else ""
            caches.append(Cache(path, _size(path), content, "" if content else "left by a packer that was killed"))
        elif folder_jsons.PARTIAL.fullmatch(path.name) and path.is_file():
            caches.append(Cache(path, _size(path), "", "left by a command that was killed" if _is_old(path) else ""))
        elif (match := folder_jsons.NAME.fullmatch(path.name)) and path.is_file():
            source = folder_jsons.json_facts(path).get("source", "?")
            content = f", the split {match['split']!r} of {source} as a COCO json"
            caches.append(Cache(path, _size(path), content, folder_jsons.why_unused(path)))
        elif _NAME.fullmatch(path.name) and path.is_dir():
            header = read_header(path) or {}
            source = header.get("source", {})
            images = f", {header['num_images']} images of {source.get('ann_file', '?')}" if header else ""
            used = _last_use(path)
            content = f"{images}, last used {time.strftime('%Y-%m-%d', time.localtime(used))}"
            caches.append(Cache(path, _size(path), content, _why_unused(path, source, used, older_than)))
    return caches


def _why_unused(path: Path, source: dict[str, object], used: float, older_than: float | None) -> str:
    ann_file, img_dir = source.get("ann_file"), source.get("img_dir")
    if not isinstance(ann_file, str) or not isinstance(img_dir, str):
        return "it is damaged, or of an earlier version"
    for name in (ann_file, img_dir):
        if not os.path.exists(name):
            return f"{name} does not exist any more"
    owner = path.parent.parent.resolve()
    if path.parent.name == CACHE_NAME and not any(Path(n).resolve().is_relative_to(owner) for n in (ann_file, img_dir)):
        return f"it belongs to the data set of {ann_file}, not to {owner}"
    options = source.get("options")
    reason, _ = stale_reason(path, Path(ann_file), Path(img_dir), PackOptions(**options))  # type: ignore[arg-type]
    if reason:
        return f"it {reason}"
    days = (time.time() - used) / 86400
    return f"not used for {days:.0f} days" if older_than is not None and days > older_than else ""


def _is_old(path: Path, seconds: float = 3600.0) -> bool:
    """Whether nobody can be writing the file any more."""
    return time.time() - path.stat().st_mtime > seconds


def _last_use(path: Path) -> float:
    for name in (VERIFIED_FILE, ""):
        try:
            return (path / name).stat().st_mtime
        except OSError:
            continue
    return 0.0


def _size(path: Path) -> int:
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files)


def remove(cache: Cache) -> str:
    """Remove it, unless somebody packs it right now; one line on what was done."""
    match = _LEFTOVER.fullmatch(cache.path.name)
    target = cache.path.with_name(match[1]) if match else cache.path
    try:
        with locked_now(target):
            if cache.path.is_dir():
                shutil.rmtree(cache.path)
            else:
                cache.path.unlink(missing_ok=True)
    except (UserError, OSError) as error:
        return f"kept {cache.path}: {error}"
    return f"removed {cache.path} ({size_text(cache.size)})"


def clean(roots: Sequence[Path], delete: bool, older_than: float | None, log: Callable[[str], None] = say) -> None:
    """List the caches of ``roots`` and the common ones; with ``delete`` remove the unused.

    Raises:
        UserError: a root is not a folder.
    """
    for root in roots:
        if not root.is_dir():
            raise UserError(f"{root} does not exist or is not a folder; give the folders of data sets")
    folders = [folder for root in roots for folder in cache_folders_below(root)] + common_folders()
    caches = [cache for folder in dict.fromkeys(folders) for cache in find_caches(folder, older_than)]
    unused = [cache for cache in caches if cache.unused]
    for cache in caches:
        log(str(cache))
    total, waste = (size_text(sum(cache.size for cache in some)) for some in (caches, unused))
    hint = "; remove them with --remove" if unused and not delete else ""
    jsons = sum(cache.path.suffix == ".json" for cache in caches)
    beside = f" and {jsons} jsons" if jsons else ""
    log(f"{len(caches) - jsons} packed copies{beside}, {total}; unused: {len(unused)}, {waste}{hint}")
    for cache in unused if delete else []:
        log(remove(cache))
