"""Bytes of a COCO json: read once, hashed and parsed from the same bytes."""

from __future__ import annotations

import hashlib
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hatdet.utils.errors import UserError, did_you_mean

RACY_NS = 2_000_000_000
"""A file that changed this shortly before it was read may change again under the same time stamp."""


@dataclass(frozen=True)
class JsonSource:
    """A json file as it was at one moment.

    Attributes:
        content: what the bytes say.
        sha256: hex digest of these bytes.
        state: :func:`file_state` of the moment; empty where it proves nothing.
    """

    content: Any
    sha256: str
    state: list[int]


def file_state(status: os.stat_result) -> list[int]:
    """What changes when a file is written or replaced: size, times of change (ns), inode."""
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]


def is_settled(status: os.stat_result) -> bool:
    """Whether a change from now on gives the file another time stamp."""
    return time.time_ns() - max(status.st_mtime_ns, status.st_ctime_ns) > RACY_NS


def read_json(path: Path) -> JsonSource:
    """Read, hash and parse a file; the three are of the same bytes, whoever writes to the file meanwhile.

    Raises:
        UserError: it cannot be read, or is not JSON.
    """
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            settled = is_settled(status)
            data = file.read()
    except FileNotFoundError:
        near = [p.name for p in path.parent.glob("*.json")] if path.parent.is_dir() else []
        raise UserError(f"{path} does not exist{did_you_mean(path.name, near)}") from None
    except IsADirectoryError:
        raise UserError(f"{path} is a directory; a COCO json file is expected") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}; look at the file and its rights") from error
    except ValueError as error:  # a NUL in the name
        raise UserError(f"{str(path)!r} cannot be read: {error}; name the annotation file") from error
    state = file_state(status) if settled and len(data) == status.st_size else []
    return JsonSource(_parse(path, data), hashlib.sha256(data).hexdigest(), state)


def _parse(path: Path, data: bytes) -> Any:
    if data[:2] == b"\x1f\x8b":
        raise UserError(f"{path} is gzip-compressed, not JSON; unpack it first")
    try:
        return json.loads(data, object_pairs_hook=_unique)
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path} is not JSON: byte {error.start} is not valid {error.encoding}; "
            "save it as UTF-8, or name the annotation file"
        ) from None
    except json.JSONDecodeError as error:
        start = data.lstrip()[:15].lower()
        hint = " (it looks like a web page)" if start.startswith((b"<!doctype", b"<html")) else ""
        where = f"line {error.lineno}, column {error.colno}"
        raise UserError(
            f"{path} is not valid JSON: {where}: {error.msg}{hint}; "
            "mend it there, or export it again"
        ) from None
    except RecursionError:
        raise UserError(f"{path} is nested too deeply to be a COCO file; name the annotation file") from None
    except _DuplicateKey as error:
        raise UserError(
            f"{path}: the key {error.args[0]!r} appears twice in one object; remove one of them"
        ) from None
    except ValueError as error:
        raise UserError(f"{path} is not valid JSON: {error}; export the file again") from None


class _DuplicateKey(Exception):
    pass


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        keys = [key for key, _ in pairs]
        raise _DuplicateKey(next(key for key in keys if keys.count(key) > 1))
    return result


def kind(value: Any) -> str:
    """What a json value is, in words."""
    if value is None:
        return "null"
    names = {dict: "an object", list: "a list", str: "a string", bool: "true/false", int: "a number"}
    return names.get(type(value), "a number")


def object_with_id(path: Path, entry: Any, where: str, name: str, what: str) -> dict[str, Any]:
    """``entry``, an object with an ``id``; ``name`` is the key that it is known by, ``what`` what it is.

    Raises:
        UserError: it is none.
    """
    if not isinstance(entry, dict):
        raise UserError(f"{path}: {where} must be an object, found {kind(entry)}")
    if "id" not in entry:
        raise UserError(
            f"{path}: {where} has no 'id' ({name} {entry.get(name)!r}); give every {what} a number of its own"
        )
    return entry


def as_int(value: Any) -> int | None:
    """An id or a size: an int, or a float without a fraction; None for everything else."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return None


def text(value: str) -> str:
    """JSON can hold half surrogate pairs, which no file or terminal accepts."""
    return value.encode("utf-8", "replace").decode("utf-8")
