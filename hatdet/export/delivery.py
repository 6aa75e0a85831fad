"""From an integer graph to a proven file on disk: write, compare on real images, record the results."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hatdet.export.evaluate import quantize_images, same_values
from hatdet.export.files import write_atomic
from hatdet.export.metadata import plain
from hatdet.integer.graph import IntGraph
from hatdet.utils.errors import UserError
from hatdet.utils.locks import locked_file

RESULTS_NAME = "export-results.json"


def input_codes(detector: Any, batches: Iterable[Mapping[str, Any]], graph: IntGraph, images: int) -> Tensor:
    """The first images of a loader as the device would be given them: int8 codes (N, C, H, W), N <= ``images``.

    Args:
        detector: its ``preprocess`` normalizes the pixels.
        batches: e.g. the validation loader.
        graph: supplies the input's quantization and size.

    Raises:
        UserError: no images, or images of another size than the graph's.
    """
    info = graph.tensors[graph.inputs[0]]
    parts: list[Tensor] = []
    found = 0
    for batch in batches:
        real = detector.preprocess(batch["img"])[: images - found]
        if tuple(real.shape[1:]) != info.shape:
            raise UserError(
                f"the model takes images of {info.shape[1:]} (h, w), the validation data has {tuple(real.shape[2:])}; "
                "set imgsz as it was when the integer model was made"
            )
        parts.append(quantize_images(real, info.qparams).cpu())
        found += len(real)
        if found >= images:
            break
    if not parts:
        raise UserError("the validation data has no images to compare the runtimes on; add some")
    return torch.cat(parts).contiguous()


def evaluation_record(int_infer: Mapping[str, float], exported: Mapping[str, float], runtime: str) -> dict[str, Any]:
    """Metric values of the integer model in torch and of the file, and whether they are identical to the last digit."""
    different = same_values(int_infer, exported)
    return {
        "runtime": runtime,
        "int_infer": dict(int_infer),
        "tflite": dict(exported),
        "equal": not different,
        "different": different,
    }


def file_record(path: Path) -> dict[str, Any]:
    """Name, size and SHA-256 of a written file; of a folder, over its files (name and content) in order of names."""
    if not path.is_dir():
        data = path.read_bytes()
        return {"file": path.name, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    digest, size = hashlib.sha256(), 0
    for file in sorted(p for p in path.rglob("*") if p.is_file()):
        data = file.read_bytes()
        digest.update(file.relative_to(path).as_posix().encode() + b"\0" + hashlib.sha256(data).digest())
        size += len(data)
    return {"file": path.name, "bytes": size, "sha256": digest.hexdigest()}


def write_results(directory: Path, results: Mapping[str, Any], out: str | Path | None = None) -> Path:
    """Write ``export-results.json`` into a folder, or ``out``; see :func:`write_json`.

    What is recorded there of other files stays, as long as they are there as they were (:func:`merged`).

    Args:
        directory: where the files of the records are.
    """
    path = Path(out) if out is not None else directory / RESULTS_NAME
    path.parent.mkdir(parents=True, exist_ok=True)
    with locked_file(path.with_name(f".{path.name}.lock"), str(path)):  # another export may read and write it too
        return write_json(path, merged(directory, _read(path), results))


def merged(directory: Path, former: Mapping[str, Any], results: Mapping[str, Any]) -> dict[str, Any]:
    """Results with the records of a former file whose files are still there, of the same content.

    The int8 ``.tflite``'s values at the top level stay where the new results have none of their own.
    """
    files = list(results.get("files", ()))
    names = {record["file"] for record in files}
    for record in former.get("files", ()):
        if record.get("file") in names or not is_unchanged(directory, record):
            continue
        files.append(record)
        if record["file"] == former.get("file") and "file" not in results:
            results = {**former, **results}
    return {**results, "files": files} if files else dict(results)


def is_unchanged(directory: Path, record: Mapping[str, Any]) -> bool:
    """Whether the file of a record is there, byte for byte what was recorded."""
    path = directory / str(record.get("file"))
    return "file" in record and path.exists() and file_record(path)["sha256"] == record.get("sha256")


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    files = content.get("files", []) if isinstance(content, dict) else None
    if not isinstance(files, list):
        return {}
    return {**content, "files": [r for r in files if isinstance(r, dict) and isinstance(r.get("file"), str)]}


def write_json(path: Path, content: Mapping[str, Any]) -> Path:
    """Write a json file whole or not at all, its folder too; values that are not finite (nan, inf) become null."""
    text = json.dumps(_finite(plain(dict(content))), indent=1, sort_keys=True, allow_nan=False) + "\n"
    write_atomic(path, text.encode("utf-8"))
    return path


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
