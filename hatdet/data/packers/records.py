"""The packed data set: an LMDB folder with image bytes and msgpack records, and a table of where each lies.

``data.mdb`` is an LMDB data file with these keys:

==================  ==================================================================================
``header``          msgpack map: ``format``, ``version``, ``classes`` (list of id, name, supercategory),
                    ``num_images``, ``num_boxes``, ``fingerprint``, ``source``, ``warnings``, ``complete``
``index``           msgpack map of raw arrays, one entry an image: ``ids`` int64, ``sizes`` int32 (h, w),
                    ``num_boxes`` int32 (crowds not counted), ``num_crowds`` int32; ``file_names`` list
``image/%08d``      the encoded bytes of the image file, unchanged; a smaller picture where the header's
                    ``max_side`` is a number and the file's was larger (``shrunk_images`` of them)
``boxes/%08d``      msgpack map: ``bbox`` float64 (n, 4) x, y, w, h as the source gives them; ``boxes``
                    float32 (n, 4) x1, y1, x2, y2 inside the stored image; ``labels`` int32; ``area`` float64;
                    ``iscrowd`` uint8; ``as_stored`` bool (no EXIF turn when decoding)
==================  ==================================================================================

All arrays are little-endian. ``records.idx`` (:mod:`hatdet.data.packers.store.table`) holds header, index, and place,
length and checksum of every record: whoever reads goes by it alone, so that no damage to the data file can do more than
give a record another checksum. ``bbox`` and ``area`` count in pixels of the image file, ``sizes`` and ``boxes`` in
those of the stored picture.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

FORMAT = "hatdet-coco-lmdb"
VERSION = 2
"""Version 1 had no table and no checksums; it is read all the same."""
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

    return msgpack.packb(value, default=raw, unicode_errors="surrogatepass")  # type: ignore[no-any-return]


def unpack(data: bytes | memoryview) -> Any:
    """The value of msgpack bytes; arrays come back as bytes."""
    import msgpack

    return msgpack.unpackb(data, max_bin_len=1 << 31, unicode_errors="surrogatepass")


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
        return pack(self.__dict__)

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
        return cls.from_fields(unpack(data))

    @classmethod
    def from_fields(cls, fields: dict[str, Any]) -> Index:
        """The index of an unpacked msgpack map."""
        return cls(
            np.frombuffer(fields["ids"], "<i8"),
            np.frombuffer(fields["sizes"], "<i4").reshape(-1, 2),
            np.frombuffer(fields["num_boxes"], "<i4"),
            np.frombuffer(fields["num_crowds"], "<i4"),
            fields["file_names"],
        )
