"""How exported files get onto the disk: whole or not at all, with their metadata beside them."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def write_atomic(path: Path, data: bytes) -> None:
    """Write a file so that ``path`` is at any moment the old file or the whole new one; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def sidecar(path: Path) -> Path:
    """Where the metadata of an exported file stands: ``m_int8.json`` of ``m_int8.tflite``; for other formats, whose
    stems may be alike, ``m.onnx.json``."""
    return path.with_suffix(".json") if path.suffix == ".tflite" else path.with_name(f"{path.name}.json")
