"""Whether the structure of a ``.tflite`` file is sound, before anything follows its offsets.

LiteRT trusts the file: an offset or an index that leads elsewhere makes it read foreign memory. Checked are the bounds
of every table, vector and string that the format has; what their numbers say is in
:mod:`hatdet.export.tflite.consistency`.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from hatdet.export.seal import damaged
from hatdet.utils.errors import UserError


@dataclass(frozen=True)
class _Vector:
    """A vector of scalars of so many bytes."""

    width: int


@dataclass(frozen=True)
class _Tables:
    """A vector of tables."""

    kind: str


Field = int | str | _Vector | _Tables
"""Of a table, by its number in the schema: bytes of a scalar, ``text``, another table's name, or a vector."""

_INT32, _BYTES = _Vector(4), _Vector(1)
_SCHEMA: dict[str, dict[int, Field]] = {
    "Model": {
        0: 4, 1: _Tables("OperatorCode"), 2: _Tables("SubGraph"), 3: "text", 4: _Tables("Buffer"), 5: _INT32,
        6: _Tables("Metadata"), 7: _Tables("SignatureDef"),
    },
    "OperatorCode": {0: 1, 1: "text", 2: 4, 3: 4},
    "SubGraph": {0: _Tables("Tensor"), 1: _INT32, 2: _INT32, 3: _Tables("Operator"), 4: "text"},
    "Tensor": {0: _INT32, 1: 1, 2: 4, 3: "text", 4: "Quantization", 5: 1, 6: "Options", 7: _INT32, 8: 1},
    "Quantization": {0: _INT32, 1: _INT32, 2: _INT32, 3: _Vector(8), 4: 1, 5: "Options", 6: 4},
    "Operator": {
        0: 4, 1: _INT32, 2: _INT32, 3: 1, 4: "Options", 5: _BYTES, 6: 1, 7: _BYTES, 8: _INT32, 9: 8, 10: 8, 11: 1,
        12: "Options",
    },
    "Buffer": {0: _BYTES, 1: 8, 2: 8},
    "Metadata": {0: "text", 1: 4},
    "SignatureDef": {0: _Tables("TensorMap"), 1: _Tables("TensorMap"), 2: "text", 4: 4},
    "TensorMap": {0: "text", 1: 4},
    "Options": {},  # of an operator: numbers, which lie inside the table
}  # fmt: skip


def check_structure(data: bytes) -> None:
    """Follow every offset of the file.

    Raises:
        UserError: one leads out of it, or it is no TensorFlow Lite model.
    """
    if data[4:8] != b"TFL3":
        raise UserError(
            "this is not a TensorFlow Lite model: the identifier TFL3 is missing at byte 4; "
            "name a .tflite, or export it again"
        )
    walk = _Walk(data)
    try:
        walk.table("Model", walk.offset(0))
    except struct.error:
        raise damaged("an offset leads out of the file") from None


class _Walk:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.left = len(data) // 4 + 64  # parts that a file of this size can have; a loop of offsets ends here

    def offset(self, at: int) -> int:
        """The place that the offset at ``at`` leads to."""
        (distance,) = struct.unpack_from("<I", self.data, self.inside(at, 4))
        return self.inside(at + int(distance), 4)

    def inside(self, at: int, size: int) -> int:
        """``at``, if ``size`` bytes from there are in the file."""
        if at < 0 or at + size > len(self.data):
            raise damaged(f"byte {at} is meant to be read, the file has {len(self.data)}")
        return at

    def table(self, kind: str, at: int) -> None:
        self.left -= 1
        if self.left < 0:
            raise damaged("it has more parts than its size allows")
        (back,) = struct.unpack_from("<i", self.data, self.inside(at, 4))
        fields = at - back
        count, size = struct.unpack_from("<HH", self.data, self.inside(fields, 4))
        self.inside(fields, count)
        self.inside(at, size)
        if count < 4 or count % 2 or size < 4:
            raise damaged(f"the table {kind} has no valid description")
        for number in range((count - 4) // 2):
            (place,) = struct.unpack_from("<H", self.data, fields + 4 + 2 * number)
            if place:
                self.field(kind, number, at, place, size)

    def field(self, kind: str, number: int, at: int, place: int, size: int) -> None:
        what = _SCHEMA[kind].get(number, 1)
        if place < 4 or place + (what if isinstance(what, int) else 4) > size:
            raise damaged(f"field {number} of {kind} lies outside of it")
        if isinstance(what, int):
            return
        target = self.offset(at + place)
        if what == "text":
            (length,) = struct.unpack_from("<I", self.data, target)
            self.inside(target + 4, int(length) + 1)  # a zero follows
        elif isinstance(what, str):
            self.table(what, target)
        elif isinstance(what, _Vector):
            (length,) = struct.unpack_from("<I", self.data, target)
            self.inside(target + 4, int(length) * what.width)
        else:
            (length,) = struct.unpack_from("<I", self.data, target)
            self.inside(target + 4, int(length) * 4)
            for i in range(int(length)):
                self.table(what.kind, self.offset(target + 4 + 4 * i))
