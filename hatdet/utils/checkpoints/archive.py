"""The zip archive that ``torch.save`` writes: its checksums, which torch does not look at when it loads."""

from __future__ import annotations

import functools
import os
import time
import warnings
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch

START = b"PK\x03\x04"
_YOUNG = 2.0
"""Seconds in which a file may be written again without another time (of some file systems): it is not remembered."""
_DESCRIPTOR = 1 << 3  # the flag of a member whose sizes and checksum stand behind it


def is_archive(file: BinaryIO) -> bool:
    """Whether a file is a zip archive, or was one before it was damaged; not one of torch's older format."""
    file.seek(0)
    begins = file.read(len(START)) == START
    return begins or zipfile.is_zipfile(file)


def damage(file: BinaryIO, must_have: str = "data.pkl") -> str | None:
    """What is wrong with an archive, in a few words; None: every byte that counts is as it was written.

    Every member is read and compared with its checksum, names and places of the members with the directory at the end.

    Args:
        must_have: a member that it has.
    """
    file.seek(0)
    begins = file.read(len(START)) == START
    try:
        with zipfile.ZipFile(file) as archive:
            member = next(_inconsistent(archive.infolist()), None) or archive.testzip()
            pickled = any(name.endswith(f"/{must_have}") for name in archive.namelist())
    except Exception as error:  # zipfile raises many types for a damaged archive
        return (str(error) or type(error).__name__).splitlines()[0].lower()
    finally:
        file.seek(0)
    if member is not None:
        return f"{member.split('/', 1)[-1]} does not have its checksum"
    return None if begins and pickled else "its beginning is not that of an archive"


def _inconsistent(members: list[zipfile.ZipInfo]) -> Iterator[str]:
    """Members whose entries Python and torch would read differently: of two sizes, or unlike all the others.

    An empty member (the storage of a tensor without elements) is written without the data descriptor of the others.
    """
    kinds = [(m.flag_bits, m.external_attr, m.volume) for m in members]
    usual = max(set(kinds), key=kinds.count, default=(0, 0, 0))
    for member, (flags, *rest) in zip(members, kinds, strict=True):
        counted = ~0 if member.file_size else ~_DESCRIPTOR
        alike = flags & counted == usual[0] & counted and tuple(rest) == usual[1:]
        if not alike or (not member.compress_type and member.compress_size != member.file_size):
            yield member.filename


def newest_whole(path: Path) -> Path | None:
    """The newest undamaged file beside ``path`` that the same stage wrote; None where there is none."""
    prefix, mark, _ = path.name.partition("-checkpoint-")
    if not mark:
        return None
    others = [p for p in path.parent.glob(f"{prefix}-checkpoint-*") if p.name != path.name and p.is_file()]
    for other in sorted(others, key=lambda p: p.stat().st_mtime, reverse=True):
        with other.open("rb") as file:
            if is_archive(file) and damage(file) is None:
                return other
    return None


def read_without_tensors(path: str | Path) -> Mapping[str, Any] | None:
    """What is in a checkpoint besides its tensors, which are left out. A command asks for it at many places: a file is
    read once, as long as it stays as it is; nobody changes what is given here.

    None: it cannot be read so, or is no dict; who loads the weights says why.
    """
    try:
        stat = os.stat(path)
    except OSError:
        return None
    if abs(time.time() - stat.st_mtime) < _YOUNG:
        return _read(str(path))
    return _remembered(os.path.abspath(path), stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns)


@functools.lru_cache(maxsize=16)
def _remembered(path: str, *identity: int) -> Mapping[str, Any] | None:
    return _read(path)


def _read(path: str) -> Mapping[str, Any] | None:
    try:
        with zipfile.ZipFile(path) as archive:
            name = next(name for name in archive.namelist() if name.endswith("/data.pkl"))
            archive.read(name)  # compares its checksum
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception:  # a file of another kind, an older format, damaged, or one with foreign objects
        return None
    return _without_tensors(state) if isinstance(state, dict) else None


def _without_tensors(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_tensors(item) for key, item in value.items() if not isinstance(item, torch.Tensor)}
    if type(value) in (list, tuple):
        return type(value)(_without_tensors(item) for item in value if not isinstance(item, torch.Tensor))
    return value


def newer_unrecorded(path: str, others: Iterable[str]) -> list[str]:
    """Those of ``others`` that were written after ``path``, by the times of the files alone.

    Where both say what they were made of (``run``), the commands compare that; a copy has other times.
    """
    newer = [p for p in others if os.path.isfile(p) and os.path.getmtime(p) > os.path.getmtime(path)]
    if newer and "run" in (read_without_tensors(path) or {}):
        newer = [p for p in newer if "run" not in (read_without_tensors(p) or {})]
    return newer
