"""The packed data set: an LMDB folder with image bytes and msgpack records.

Keys of the database:

==================  ==================================================================================
``header``          msgpack map: ``format``, ``version``, ``classes`` (list of id, name, supercategory),
                    ``num_images``, ``num_boxes``, ``fingerprint``, ``source``, ``warnings``, ``complete``
``index``           msgpack map of raw arrays, one entry an image: ``ids`` int64, ``sizes`` int32 (h, w),
                    ``num_boxes`` int32 (crowds not counted), ``num_crowds`` int32; ``file_names`` list
``image/%08d``      the encoded bytes of the image file, unchanged
``boxes/%08d``      msgpack map: ``bbox`` float64 (n, 4) x, y, w, h as the source gives them; ``boxes``
                    float32 (n, 4) x1, y1, x2, y2 inside the image; ``labels`` int32; ``area`` float64;
                    ``iscrowd`` uint8; ``as_stored`` bool (no EXIF turn when decoding)
==================  ==================================================================================

All arrays are little-endian. Everything except the image bytes is readable without touching an image.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hatdet.utils.errors import UserError

FORMAT = "hatdet-coco-lmdb"
VERSION = 1
DATA_FILE = "data.mdb"


def image_key(position: int) -> bytes:
    """Database key of the encoded image at ``position``."""
    return b"image/%08d" % position


def boxes_key(position: int) -> bytes:
    """Database key of the annotations at ``position``."""
    return b"boxes/%08d" % position


def pack(value: Any) -> bytes:
    """msgpack bytes; numpy arrays become their raw little-endian bytes."""
    import msgpack

    def raw(item: Any) -> Any:
        if isinstance(item, np.ndarray):
            return item.astype(item.dtype.newbyteorder("<"), copy=False).tobytes()
        raise TypeError(f"cannot pack {type(item).__name__}")

    return msgpack.packb(value, default=raw)  # type: ignore[no-any-return]


def unpack(data: bytes | memoryview) -> Any:
    """The value of msgpack bytes; arrays come back as bytes."""
    import msgpack

    return msgpack.unpackb(data, max_bin_len=1 << 31)


@dataclass(frozen=True)
class BoxRecord:
    """The annotations of one image; see the table at the top of the module."""

    bbox: NDArray[np.float64]
    boxes: NDArray[np.float32]
    labels: NDArray[np.int32]
    area: NDArray[np.float64]
    iscrowd: NDArray[np.bool_]
    as_stored: bool

    def packed(self) -> bytes:
        """The bytes that :meth:`unpacked` reads."""
        return pack(
            {
                "bbox": self.bbox,
                "boxes": self.boxes,
                "labels": self.labels,
                "area": self.area,
                "iscrowd": self.iscrowd.astype(np.uint8),
                "as_stored": self.as_stored,
            }
        )

    @classmethod
    def unpacked(cls, data: bytes | memoryview) -> BoxRecord:
        """Read a record; its arrays are read-only."""
        fields = unpack(data)
        return cls(
            np.frombuffer(fields["bbox"], "<f8").reshape(-1, 4),
            np.frombuffer(fields["boxes"], "<f4").reshape(-1, 4),
            np.frombuffer(fields["labels"], "<i4"),
            np.frombuffer(fields["area"], "<f8"),
            np.frombuffer(fields["iscrowd"], np.bool_),
            bool(fields["as_stored"]),
        )


@dataclass(frozen=True)
class Index:
    """Ids, sizes and counts of all images."""

    ids: NDArray[np.int64]
    sizes: NDArray[np.int32]
    num_boxes: NDArray[np.int32]
    num_crowds: NDArray[np.int32]
    file_names: list[str]

    def packed(self) -> bytes:
        """The bytes that :meth:`unpacked` reads."""
        return pack(self.__dict__)

    @classmethod
    def unpacked(cls, data: bytes | memoryview) -> Index:
        """Read an index."""
        fields = unpack(data)
        return cls(
            np.frombuffer(fields["ids"], "<i8"),
            np.frombuffer(fields["sizes"], "<i4").reshape(-1, 2),
            np.frombuffer(fields["num_boxes"], "<i4"),
            np.frombuffer(fields["num_crowds"], "<i4"),
            fields["file_names"],
        )


# LMDB refuses to open a folder twice in a process, so the data sets of a process share what is open. The
# environments are read-only and lock-free (plain memory maps), so a forked worker may go on using them.
_environments: dict[tuple[str, int, int], Any] = {}


def _environment(path: Path) -> Any:
    import lmdb

    file = path / DATA_FILE
    try:
        status = file.stat()
    except OSError:
        raise UserError(_missing(path)) from None
    key = (os.path.realpath(path), status.st_ino, status.st_mtime_ns)
    if key not in _environments:
        # A folder that was packed anew under the same name: data sets that have the old one open keep it.
        for old in [k for k in _environments if k[0] == key[0]]:
            del _environments[old]
        try:
            _environments[key] = lmdb.open(
                str(path), readonly=True, lock=False, readahead=False, meminit=False, max_spare_txns=4
            )
        except lmdb.Error as error:
            raise UserError(f"{path} is not a readable LMDB data set ({error}); pack it again") from error
    return _environments[key]


def _missing(path: Path) -> str:
    if path.is_dir():
        text = f"{path} is not a packed data set: it has no {DATA_FILE}"
    else:
        text = f"{path} does not exist"
    return (
        f"{text}; make it with tools/mscoco_packer.py --src-data-dir DIR --target-data-dir {path.parent} "
        "(pictures in a folder for each class: tools/image_folder_packer.py)"
    )


class Store:
    """Read access to a packed data set; opened on first use in each process, pickled without its handle.

    Args:
        path: the folder that the packer wrote.

    Raises:
        UserError: it is missing, of another format or version, or not complete.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._env: Any = None
        header = self._get(b"header")
        self.header: dict[str, Any] = {} if header is None else unpack(header)
        if self.header.get("format") != FORMAT or not self.header.get("complete"):
            raise UserError(f"{self.path} is not a complete data set of format {FORMAT}; pack it again")
        if self.header["version"] != VERSION:
            raise UserError(
                f"{self.path} has format version {self.header['version']}, this program reads {VERSION}; "
                "pack it again (--force)"
            )
        index = self._get(b"index")
        assert index is not None
        self.index = Index.unpacked(index)

    def _get(self, key: bytes) -> bytes | None:
        if self._env is None:
            self._env = _environment(self.path)
        with self._env.begin() as transaction:
            return transaction.get(key)  # type: ignore[no-any-return]

    def image_bytes(self, position: int) -> bytes:
        """The encoded image at ``position``."""
        return self._expect(image_key(position))

    def boxes(self, position: int) -> BoxRecord:
        """The annotations at ``position``."""
        return BoxRecord.unpacked(self._expect(boxes_key(position)))

    def _expect(self, key: bytes) -> bytes:
        value = self._get(key)
        if value is None:
            raise UserError(f"{self.path} has no record {key.decode()}; pack it again (--force)")
        return value

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_env": None}


def read_header(path: str | Path) -> dict[str, Any] | None:
    """The header of a complete packed data set, or None where there is none."""
    try:
        return Store(path).header
    except UserError:
        return None
