"""What is compared of a file that a tool wrote: its content without version, checksums, dates and places."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

_SEAL = re.compile(rb"hatdet-sha256:[0-9a-f]{64}")  # of an exported file, inside it
_DIGEST = re.compile(rb"\b[0-9a-f]{64}\b|(?<=sha256 )[0-9a-f]{16}\b")
_VOLATILE = frozenset({"sha256", "compiled_sha256", "seconds", "hatdet_version", "versions"})
_TEXT = frozenset({".py", ".h", ".txt", ".html", ".csv"})
_BINARY = frozenset({".tflite", ".onnx", ".jpg", ".png"})
_TENSORS = ("state_dict", "raw_state_dict", "optimizer", "int_graph")
_NAMES = re.compile(r"%[\w.]+")  # of values in TorchScript's graph
_TYPES = re.compile(r"__torch__\.[\w.]+")  # modules' classes there, with the Python module they stand in


def digests(file: Path, name: str, places: Sequence[Path]) -> dict[str, str]:
    """SHA-256 of what is compared of one file, by name; of a checkpoint one for each group of tensors.

    Args:
        name: of the file in the result.
        places: folders whose paths do not count where a text names them.
    """
    if file.suffix == ".torchscript":
        return {name: _hash(_torchscript(file))}
    if file.suffix == ".json":
        content = _without_volatile(json.loads(file.read_text(encoding="utf-8")))
        return {name: _hash(_text(json.dumps(content, indent=1, sort_keys=True).encode(), places))}
    if file.suffix in _TEXT:
        return {name: _hash(_text(file.read_bytes(), places))}
    if file.suffix in _BINARY:
        return {name: _hash(_SEAL.sub(b"hatdet-sha256:" + b"0" * 64, file.read_bytes()))}
    if file.suffix in (".tar", ".pth"):
        return {f"{name}/{group}": _hash(*flat(value)) for group, value in _checkpoint(file).items()}
    return {}


def text_digest(text: str, places: Sequence[Path]) -> str:
    """SHA-256 of what a command printed."""
    return _hash(_text(text.encode(), places))


def flat(value: Any, path: str = "") -> list[bytes]:
    """Names, types, shapes and bytes of everything in a nested value, in its order: equal lists, equal values."""
    import torch

    if isinstance(value, torch.Tensor):
        kind = f"{path} {value.dtype} {tuple(value.shape)}\n"
        return [kind.encode(), value.detach().contiguous().flatten().view(torch.uint8).numpy().tobytes()]
    if isinstance(value, np.ndarray):
        return [f"{path} {value.dtype} {value.shape}\n".encode(), value.tobytes()]
    if isinstance(value, Mapping):
        return [part for key, item in value.items() for part in flat(item, f"{path}/{key}")]
    if isinstance(value, (list, tuple)):
        return [part for i, item in enumerate(value) for part in flat(item, f"{path}/{i}")]
    return [f"{path} {value!r}\n".encode()]


def _hash(*parts: bytes) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def _text(data: bytes, places: Sequence[Path]) -> bytes:
    for place in places:
        data = data.replace(str(place).encode(), b"...")
    return _DIGEST.sub(b"#", data)


def _without_volatile(value: Any) -> Any:
    if isinstance(value, dict):
        volatile = _VOLATILE | ({"bytes"} if str(value.get("file")).endswith(".torchscript") else set())
        return {key: _without_volatile(item) for key, item in value.items() if key not in volatile}
    return [_without_volatile(item) for item in value] if isinstance(value, list) else value


def _checkpoint(file: Path) -> dict[str, Any]:
    import torch

    content = torch.load(file, map_location="cpu", weights_only=False)  # our own, written a moment ago
    return {group: content[group] for group in _TENSORS if group in content}


def _torchscript(file: Path) -> bytes:
    """Operators, parameters and metadata: the archive itself holds the Python files' names and lines too."""
    import torch

    extra = {"hatdet.json": ""}
    module = torch.jit.load(str(file), map_location="cpu", _extra_files=extra)
    lines = [line.split(" # ")[0].rstrip() for line in str(module.inlined_graph).splitlines()]
    numbers: dict[str, str] = {}
    graph = _NAMES.sub(lambda m: numbers.setdefault(m[0], f"%{len(numbers)}"), _TYPES.sub("Module", "\n".join(lines)))
    metadata = json.dumps(_without_volatile(json.loads(extra["hatdet.json"])), sort_keys=True)
    return b"\n".join([graph.encode(), metadata.encode(), *flat(module.state_dict())])
