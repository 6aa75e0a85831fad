"""Write a folder so that it appears complete or not at all, by one process at a time."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from hatdet.utils.errors import UserError


@contextlib.contextmanager
def locked(target: Path) -> Iterator[None]:
    """Hold the lock of ``target`` (a hidden file beside it); waits for another process that has it."""
    import fcntl

    target.parent.mkdir(parents=True, exist_ok=True)
    lock = target.parent / f".{target.name}.lock"
    while True:
        try:
            descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise UserError(f"cannot write to {target.parent}: {error.strerror}") from error
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        try:
            current = os.stat(lock).st_ino == os.fstat(descriptor).st_ino
        except FileNotFoundError:
            current = False
        if current:
            break
        os.close(descriptor)  # its holder has removed it meanwhile: take part in the new one
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)
        os.close(descriptor)


@contextlib.contextmanager
def published(target: Path) -> Iterator[Path]:
    """Give a temporary folder beside ``target``; rename it to ``target`` if the block ends without an error.

    Call it under :func:`locked`. What interrupted runs left behind is removed first.
    """
    for pattern in (f".{target.name}.packing-*", f".{target.name}.old-*"):
        for leftover in target.parent.glob(pattern):
            shutil.rmtree(leftover, ignore_errors=True)
    temporary = target.parent / f".{target.name}.packing-{os.getpid()}"
    old = target.parent / f".{target.name}.old-{os.getpid()}"
    temporary.mkdir()
    try:
        yield temporary
        if target.exists() or target.is_symlink():
            os.rename(target, old)
        os.rename(temporary, target)
        _sync(target.parent)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    if old.is_dir() and not old.is_symlink():
        shutil.rmtree(old, ignore_errors=True)
    else:
        old.unlink(missing_ok=True)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
