"""What an alignment has found so far, on disk after every image: an interrupted run goes on where it stopped."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np


class Progress:
    """A file with one line an image. Lines of another run (another file, decoder, data set, runtimes) are dropped.

    Attributes:
        records: what was found, by the image's index. sample: how many images were chosen instead of all; None: nobody
            has decided yet.

    Args:
        path: of the file; its folder is made.
        key: what the results depend on, as plain values.
        restart: forget what is there.
    """

    def __init__(self, path: Path, key: Mapping[str, Any], restart: bool = False) -> None:
        self.path = path
        self.records: dict[int, dict[str, Any]] = {}
        self.sample: int | None = None
        header = json.dumps({"key": dict(key)}, sort_keys=True)
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() and not restart else []
        if lines and lines[0] == header:
            for line in lines[1:]:
                try:
                    record = json.loads(line)
                except ValueError:  # the line that was being written
                    break
                if "sample" in record:
                    self.sample = int(record["sample"])
                else:
                    self.records[int(record["index"])] = record
        path.parent.mkdir(parents=True, exist_ok=True)
        chosen = [json.dumps({"sample": self.sample})] if self.sample is not None else []
        kept = [header, *chosen, *(json.dumps(record) for record in self.records.values())]
        path.write_text("\n".join(kept) + "\n", encoding="utf-8")

    def add(self, record: dict[str, Any]) -> None:
        """Keep an image's comparison."""
        detections = record["detections"]
        packed = {name: pack(found) for name, found in detections.items()}
        record = {**record, "detections": packed}
        self.records[int(record["index"])] = record
        self._append(record)

    def take_sample(self, images: int) -> None:
        """Keep how many images are compared: a run that goes on ends where this one would have."""
        self.sample = images
        self._append({"sample": images})

    def _append(self, line: Mapping[str, Any]) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def detections(self, index: int, name: str) -> dict[str, np.ndarray]:
        """Boxes, scores and labels of an image, by path (``int_infer``, ``deployed``, ...)."""
        return unpack(self.records[index]["detections"][name])


def pack(found: Mapping[str, np.ndarray]) -> str:
    """Detections as text, without loss."""
    rows = np.concatenate(
        [found["boxes"].reshape(-1, 4), found["scores"].reshape(-1, 1), found["labels"].reshape(-1, 1)], axis=1
    )
    return base64.b64encode(zlib.compress(rows.astype("<f4").tobytes())).decode("ascii")


def unpack(text: str) -> dict[str, np.ndarray]:
    """Inverse of :func:`pack`."""
    rows = np.frombuffer(zlib.decompress(base64.b64decode(text)), "<f4").reshape(-1, 6)
    return {"boxes": rows[:, :4].copy(), "scores": rows[:, 4].copy(), "labels": rows[:, 5].astype(np.int64)}
