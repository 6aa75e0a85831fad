"""Write a folder so that it appears complete or not at all, by one process at a time."""

from __future__ import annotations

import contextlib
import glob
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from hatdet.utils.errors import UserError
from hatdet.utils.locks import locked_file


@contextlib.contextmanager
def locked(target: Path, log: Callable[[str], None] | None = None) -> Iterator[None]:
    """Hold the lock of ``target`` (a hidden file beside it); waits for another process that has it, and says so."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise UserError(f"{target.parent} is not a folder; name another target") from error
    with locked_file(lock_of(target), f"the packed data {target}", log=log):
        yield


class UnfinishedError(UserError):
    """Packing has ended before its end, by no fault of the data: what there is stays for the next time."""


def begun(target: Path) -> Path:
    """Where ``target`` is written until it is complete; an interrupted packing leaves it to the next one."""
    return target.parent / f".{target.name}.packing"


def leftovers(target: Path) -> list[Path]:
    """What interrupted runs left beside ``target``: unfinished folders, and old ones that were to be removed."""
    patterns = (f".{glob.escape(target.name)}.packing*", f".{glob.escape(target.name)}.old-*")
    return [path for pattern in patterns for path in target.parent.glob(pattern)]


def remove_leftovers(target: Path, keep_begun: bool = False) -> None:
    """Remove :func:`leftovers`, what can be gone on with perhaps not. Call it under :func:`locked`."""
    for path in leftovers(target):
        if keep_begun and path == begun(target) and path.is_dir():
            continue
        if ".old-" in path.name and path.is_dir() and not target.exists():
            os.rename(path, target)  # killed between two renames: the old folder is whole
        else:
            shutil.rmtree(path, ignore_errors=True)


def clean_up(target: Path) -> None:
    """Remove what a killed run left beside a ``target`` that is in use, unless somebody packs it right now."""
    if leftovers(target):
        with contextlib.suppress(UserError), locked_now(target):
            remove_leftovers(target)


@contextlib.contextmanager
def locked_now(target: Path) -> Iterator[None]:
    """Hold the lock of ``target``; a LockHeldError where somebody packs it right now."""
    with locked_file(lock_of(target), f"the packed data {target}", wait=False):
        yield


def lock_of(target: Path) -> Path:
    """The lock file of a packed folder."""
    return target.parent / f".{target.name}.lock"


@contextlib.contextmanager
def published(target: Path) -> Iterator[Path]:
    """Give :func:`begun`, which may hold something; rename it to ``target`` if the block ends without an error.

    It is removed after an error, and stays after an interruption (Ctrl-C, :class:`UnfinishedError`). Call it under
    :func:`locked`.
    """
    temporary = begun(target)
    old = target.parent / f".{target.name}.old-{os.getpid()}"
    temporary.mkdir(exist_ok=True)
    try:
        yield temporary
        _sync(temporary)
        if target.exists():
            os.rename(target, old)
        os.rename(temporary, target)
        _sync(target.parent)
    except BaseException as error:
        if isinstance(error, Exception) and not isinstance(error, UnfinishedError):
            shutil.rmtree(temporary, ignore_errors=True)
        if old.exists() and not target.exists():
            os.rename(old, target)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
