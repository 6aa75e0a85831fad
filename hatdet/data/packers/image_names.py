"""From the ``file_name`` of a COCO json to the file that is meant.

Files are listed as they are named inside the image folder, but also with the folder in front, with an absolute path,
with backslashes, with ``%20``, in the other Unicode form or in other letters of case. Whatever names one file inside
the folder without doubt is found; nothing outside the folder ever is.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import unicodedata
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple
from urllib.parse import unquote

from hatdet.data.image_file import ImageError

MAX_NAME = 4096


class Found(NamedTuple):
    """What a listed name stands for.

    Attributes:
        name: as the json has it.
        path: the file, relative to the folder; empty where there is none.
        size: bytes (-1: none), and ``mtime_ns`` the time of its last change.
        note: how it was found, where the spelling differs.
        error: why there is none.
    """

    name: str
    path: str = ""
    size: int = -1
    mtime_ns: int = 0
    note: str = ""
    error: str = ""

    @property
    def shown(self) -> str:
        """The name for messages: it may hold line breaks or half a surrogate."""
        return repr(self.name)[1:-1]


class ImageFolder:
    """The image folder of a data set; looks names up.

    Args:
        folder: the folder that file names are relative to.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._root = os.path.abspath(folder)
        self._last = f"/{os.path.basename(self._root)}/"
        self._real = os.path.realpath(folder)
        self._listings: dict[str, dict[str, list[str]]] = {}
        self._stems: dict[str, dict[str, list[str]]] = {}

    def look_up(self, name: str) -> Found:
        """The file that ``name`` stands for; never raises."""
        path, note = name, ""
        try:
            quick = self._quick(name)
            if quick is None:
                path, note = self._resolve(name)
                quick = path, os.stat(os.path.join(self._root, path))
            path, status = quick
        except ImageError as error:
            return Found(name, error=str(error))
        except FileNotFoundError:
            return Found(name, error=self._missing(path))
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or str(error)
            impossible = getattr(error, "errno", None) in (errno.ENAMETOOLONG, errno.EILSEQ, None)
            return Found(name, error=f"is not a possible file name ({why})" if impossible else f"cannot be read: {why}")
        size = status.st_size if stat.S_ISREG(status.st_mode) else 0
        return Found(name, path, size, status.st_mtime_ns, note)

    def _quick(self, name: str) -> tuple[str, os.stat_result] | None:
        """The first readings of :meth:`_candidates`, without its care: nearly all names are plain, and millions."""
        if not name or ".." in name or len(name) > MAX_NAME:
            return None
        for way in self._plain_ways(name):
            try:
                status = os.stat(f"{self._root}/{way}")
                return (os.path.normpath(way) if "./" in way or "//" in way else way), status
            except (OSError, ValueError):
                continue
        return None

    def _plain_ways(self, name: str) -> Iterator[str]:
        slashed = name.replace("\\", "/")
        if slashed.startswith("/"):
            roots = [root for root in (self._root, self._real) if slashed.startswith(f"{root}/")]
            yield from (slashed.removeprefix(f"{root}/") for root in roots[:1])
        else:
            yield name
            yield slashed
        if self._last in f"/{slashed}":
            yield f"/{slashed}".rpartition(self._last)[2]

    def _missing(self, path: str) -> str:
        full = os.path.join(self._root, path)
        if os.path.islink(full):
            return "is a symbolic link to nowhere"
        folder, name = os.path.split(path)
        same = self._same_stem(folder).get(_folded(os.path.splitext(name)[0]), [])
        return f"does not exist; there is {same[0]!r}" if same else "does not exist"

    def _same_stem(self, folder: str) -> dict[str, list[str]]:
        """Names by what is before their suffix: a json may say ``1.jpg``, or ``1``, of ``1.png``."""
        if folder not in self._stems:
            stems: dict[str, list[str]] = {}
            for names in self._listing(folder).values():
                for name in names:
                    stems.setdefault(_folded(os.path.splitext(name)[0]), []).append(name)
            self._stems[folder] = stems
        return self._stems[folder]

    def _resolve(self, name: str) -> tuple[str, str]:
        """The path inside the folder, and a note; where nothing fits, the first path that stays inside."""
        try:
            name.encode()
        except UnicodeEncodeError:
            raise ImageError("is not a possible file name: it holds half a surrogate pair") from None
        if "\0" in name or len(name) > MAX_NAME:
            raise ImageError("is not a possible file name")
        candidates = list(dict.fromkeys(self._candidates(name)))
        if not candidates:
            raise ImageError("leaves the image folder, refused")
        for path, note in candidates:
            if os.path.lexists(os.path.join(self._root, path)):
                return path, note
        for path, _ in candidates:
            actual = self._other_spelling(path)
            if actual is not None:
                return actual, f"is on the disk as {actual!r}"
        if not any(self._inside(name.replace("\\", "/"))):
            raise ImageError("leaves the image folder, refused")
        return candidates[0]

    # ------------------------------------------------------------------------------------ ways to read a name
    def _candidates(self, name: str) -> Iterator[tuple[str, str]]:
        """Paths inside the folder that ``name`` can mean, the plain reading first."""
        for spelling, note in _spellings(name):
            yield from ((path, note) for path in self._inside(spelling))

    def _inside(self, name: str) -> Iterator[str]:
        drive = re.match(r"[A-Za-z]:/", name)
        if not name.startswith("/") and drive is None:
            path = os.path.relpath(os.path.normpath(os.path.join(self._root, name)), self._root)
            if not path.startswith(".."):
                yield path
            elif ".." not in PurePosixPath(name).parts:  # a folder that is named ..something
                yield os.path.normpath(name)
        else:
            for root in (self._root, self._real):
                path = os.path.relpath(os.path.normpath(name), root)
                if drive is None and not path.startswith(".."):
                    yield path
        parts = PurePosixPath(os.path.normpath(name)).parts
        if ".." in parts:
            return
        # The folder's own name in front, as in train2017/x.jpg or /other/machine/train2017/x.jpg.
        last = Path(self._root).name
        for position in range(len(parts) - 2, -1, -1):
            if parts[position] == last:
                yield os.path.join(*parts[position + 1 :])

    # ------------------------------------------------------------------------------------ other spellings
    def _other_spelling(self, path: str) -> str | None:
        """The one file whose path differs in Unicode form or letters of case alone."""
        found = ""
        for part in Path(path).parts:
            if os.path.lexists(os.path.join(self._root, found, part)):
                found = os.path.join(found, part)
                continue
            names = self._listing(found).get(_folded(part), [])
            same_letters = [n for n in names if unicodedata.normalize("NFC", n) == unicodedata.normalize("NFC", part)]
            names = same_letters or names
            if not names:
                return None
            if len(names) > 1:
                raise ImageError(f"does not exist; there are {' and '.join(map(repr, sorted(names)))}: which is meant?")
            found = os.path.join(found, names[0])
        return found

    def _listing(self, folder: str) -> dict[str, list[str]]:
        if folder not in self._listings:
            listing: dict[str, list[str]] = {}
            try:
                for name in os.listdir(os.path.join(self._root, folder)):
                    listing.setdefault(_folded(name), []).append(name)
            except OSError:
                pass
            self._listings[folder] = listing
        return self._listings[folder]


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def _spellings(name: str) -> Iterator[tuple[str, str]]:
    yield name, ""
    if name != name.strip():
        name = name.strip()
        yield name, f"is on the disk as {name!r}"
    if name.startswith("file://"):
        name = "/" + name.removeprefix("file://").removeprefix("localhost").lstrip("/")
        yield name, ""
    if "\\" in name:
        name = name.replace("\\", "/")
        yield name, ""
    if "%" in name:
        plain = unquote(name, errors="surrogateescape")
        if plain != name and "\0" not in plain and len(plain) <= MAX_NAME and _encodable(plain):
            yield plain, f"is on the disk as {plain!r}"


def _encodable(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
