"""Which files are meant: those named, and of a run's folder its float weights and its integer model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hatdet.utils.errors import UserError

FLOAT = ("float-checkpoint-best.pth.tar", "float-checkpoint-last.pth.tar")
INTEGER = ("*_int8.tflite", "int_infer-graph.pth.tar")
"""By preference: the file that ships, else the graph that it is made of."""


def model_paths(words: Sequence[str]) -> list[Path]:
    """The files of the models, each once, in order.

    Raises:
        UserError: a folder is no run's, or has no model yet.
    """
    found: list[Path] = []
    for word in words:
        path = Path(word).expanduser()
        found += of_run(path) if path.is_dir() and not (path / "saved_model.pb").is_file() else [path]
    return list(dict.fromkeys(found))


def of_run(folder: Path) -> list[Path]:
    """The float checkpoint and the integer model below a folder, the newest of each.

    Raises:
        UserError: there is neither.
    """
    found = [newest for patterns in (FLOAT, INTEGER) if (newest := _newest(folder, patterns)) is not None]
    if not found:
        raise UserError(
            f"{folder} holds no model ({', '.join((*FLOAT[:1], *INTEGER))}); name the folder of a run that was "
            "trained, or a model's file"
        )
    return found


def _newest(folder: Path, patterns: Sequence[str]) -> Path | None:
    for pattern in patterns:
        files = sorted(folder.rglob(pattern), key=lambda file: (file.stat().st_mtime, file))
        if files:
            return files[-1]
    return None
