"""Locks between processes: a file that says who holds it, and goes with its holder, however that one ends."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from hatdet.utils.errors import UserError

SAY_AFTER = 1.0
"""Seconds of waiting before it is said for whom."""
_held: dict[int, Path] = {}
"""Descriptors of the locks that this process holds."""


class LockHeldError(UserError):
    """Another process holds the lock; the message says which."""


@contextlib.contextmanager
def locked_file(
    path: Path, what: str, wait: bool = True, log: Callable[[str], None] | None = None
) -> Iterator[None]:
    """Hold the lock file ``path`` while the block runs. The system frees it when its holder dies.

    Args:
        path: the file; it is there while the lock is held, with process id, host and time of the holder as JSON.
        what: what is locked, for messages: ``"the packed data out/train_lmdb"``.
        wait: wait for another holder, and tell ``log`` after a second for whom; False: refuse at once.
        log: receives that line.

    Raises:
        LockHeldError: without ``wait``: another process holds it.
        UserError: the file cannot be written, or the file system has no locks.
    """
    descriptor = _acquire(path, what, wait, log)
    _held[descriptor] = path
    try:
        _sign(descriptor)
        yield
    finally:
        if _held.pop(descriptor, None) is not None:  # a forked process has let go of it (release_inherited)
            path.unlink(missing_ok=True)
            os.close(descriptor)


def release_inherited() -> None:
    """In a forked process: close the locks that its parent holds, so that they end with the parent alone."""
    while _held:
        os.close(_held.popitem()[0])


def is_held(path: Path) -> bool:
    """Whether a process holds the lock file now."""
    import fcntl

    try:
        descriptor = os.open(path, os.O_RDWR)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return False
    except OSError:
        return True
    finally:
        os.close(descriptor)


def holder(path: Path) -> str:
    """Who holds the lock file, in words."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return f"process {int(content['pid'])} on {content['host']} since {content['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"


def _sign(descriptor: int) -> None:
    since = time.strftime("%Y-%m-%d %H:%M:%S")
    text = json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "since": since})
    with contextlib.suppress(OSError):  # on a full disk the lock holds all the same
        os.truncate(descriptor, 0)
        os.pwrite(descriptor, text.encode(), 0)


def _acquire(path: Path, what: str, wait: bool, log: Callable[[str], None] | None) -> int:
    import fcntl

    begin, said = time.monotonic(), False
    while True:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise UserError(
                f"cannot write to {path.parent}: {error.strerror}; "
                "change its rights, or name another folder"
            ) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.stat(path).st_ino == os.fstat(descriptor).st_ino:
                return descriptor
            os.close(descriptor)  # its holder has removed it meanwhile: take part in the new one
            continue
        except FileNotFoundError:
            os.close(descriptor)
            continue
        except BlockingIOError:
            os.close(descriptor)
        except OSError as error:
            os.close(descriptor)
            raise UserError(f"{path} cannot be locked ({error.strerror}): use a folder on a local disk") from error
        if not wait:
            raise LockHeldError(f"{what} is in use by {holder(path)}; wait for it, or end it")
        if not said and log is not None and time.monotonic() - begin > SAY_AFTER:
            log(f"waiting for {what}: {holder(path)} has locked it")
            said = True
        time.sleep(0.05 if time.monotonic() - begin < SAY_AFTER else 0.25)
