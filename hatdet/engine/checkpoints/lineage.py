"""Files that are used together belong together: each was made from the others, not from those of another run."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hatdet.config.config import Config
from hatdet.engine.checkpoints.adoption import adopted
from hatdet.engine.checkpoints.provenance import file_digest, files_read, read_record
from hatdet.engine.stages import TRAIN_STAGES, best_checkpoint, command_line, find_callback, work_dir_of
from hatdet.utils.errors import UserError

logger = logging.getLogger("hatdet")


def adopted_stage(config: Config, stage: str, checkpoint: str | Path | None = None) -> Config:
    """The config with what the model of a stage was made with (:func:`~hatdet.engine.checkpoints.adoption.adopted`).

    Args:
        checkpoint: the file that the user names; None: the stage's own, which then has to be of the run in its folder.

    Raises:
        UserError: it is of another run than the earlier stages' files there, or does not go together with the config.
    """
    files = files_read(config, stage, checkpoint)
    if checkpoint is None:
        for path in files:
            _check_name(config, Path(path))
            _check_neighbours(config, Path(path))
    return adopted(config, files)


def check_stage(stage: str, checkpoint: str | Path | None) -> None:
    """Refuse a named file that another stage wrote, whose weights mean nothing to this one.

    Raises:
        UserError: with both stages.
    """
    record = read_record(checkpoint) if checkpoint is not None else None
    taken = ("float",) if stage == "float" else ("qat", "calibration")
    if record is not None and record["stage"] not in taken:
        graph = record["stage"] == "int_infer"
        instead = "score it with tools/test.py" if graph else f"name one of those, or take --stage {record['stage']}"
        raise UserError(
            f"{checkpoint} is of stage {record['stage']}, but --stage {stage} takes weights of {' or '.join(taken)}: "
            f"{instead}"
        )


def check_parents(config: Config, files: Sequence[str | Path]) -> None:
    """Refuse files that are read together where one was made from another state of the other.

    Raises:
        UserError: with both runs (or digests) and the stage to run again.
    """
    for path in files:
        _check_name(config, Path(path))
    records = {str(record["stage"]): (Path(path), record) for path in files if (record := read_record(path))}
    for stage, (path, record) in records.items():
        for other, parent in record["parents"].items():
            if other in records and parent["digest"] != file_digest(records[other][0]):
                raise UserError(_mismatch(config, stage, path, record, parent, *records[other]))


def say_other_data(files: Sequence[str | Path], record: Mapping[str, Any]) -> None:
    """Say where the data are not those that a file was made with; ``record`` is that of what is made now."""
    for path in files:
        for title, now in record["data"].items():
            then = ((read_record(path) or {}).get("data") or {}).get(title) or {}
            if then.get("fingerprint") and now["fingerprint"] and then["fingerprint"] != now["fingerprint"]:
                counts = f"{then['images']} images then, {now['images']} now"
                logger.warning("%s was made with other %s data, or before it was packed anew: %s", path, title, counts)


def check_folder(config: Config, checkpoint: str | Path) -> None:
    """Refuse float weights of another run than the float training in the folder that results go to.

    Raises:
        UserError: with both runs.
    """
    ours, theirs = read_record(checkpoint), read_record(_best(config, "float") or "")
    if ours and theirs and ours["id"] != theirs["id"]:
        raise UserError(
            f"{checkpoint} is of run {ours['id']}, but {_best(config, 'float')} of run {theirs['id']}: name another "
            f"folder than {work_dir_of(config, '')} with --work-dir, so that they are not mixed"
        )


def _check_name(config: Config, path: Path) -> None:
    """Refuse float weights under the name of another stage's file, and the other way round."""
    wrote = (read_record(path) or {}).get("stage")
    for stage in TRAIN_STAGES:
        if wrote is not None and (stage == "float") != (wrote == "float") and _best(config, stage) == path:
            raise UserError(
                f"{path} was written by stage {wrote} and copied or renamed; put the file of stage {stage} there, or "
                f"run `{command_line(config, stage)}` again"
            )


def _check_neighbours(config: Config, path: Path) -> None:
    record = read_record(path)
    for stage, parent in (record or {}).get("parents", {}).items():
        best = _best(config, stage) if stage in TRAIN_STAGES else None
        other = read_record(best) if best is not None and best != path else None
        if record is None or best is None or other is None or parent["digest"] == file_digest(best):
            continue
        if parent["id"] != other["id"]:
            raise UserError(_mismatch(config, record["stage"], path, record, parent, best, other))
        if Path(str(parent.get("file") or best)).name != best.name:  # the user named it: tools/quantization.py
            logger.info("%s was made from %s, not from %s", path, Path(str(parent["file"])).name, best.name)
            continue
        logger.warning(
            "%s was made before the %s that is there now; `%s` follows it",
            path, best.name, command_line(config, record["stage"]),
        )  # fmt: skip


def _best(config: Config, stage: str) -> Path | None:
    if not find_callback(config.get(f"{stage}_trainer") or {}, "Checkpoint"):
        return None
    path = best_checkpoint(config, stage)
    return path if path.is_file() else None


def _mismatch(
    config: Config, stage: str, path: Path, record: Mapping[str, Any], parent: Mapping[str, Any],
    other: Path, theirs: Mapping[str, Any],
) -> str:  # fmt: skip
    again = f"run `{command_line(config, stage)}` again"
    if parent["id"] != theirs["id"]:
        return f"{path} is of run {record['id']}, but {other} of run {theirs['id']}: {again}"
    digests = f"{parent['digest'][:8]}, now {file_digest(other)[:8]}"
    return f"{path} was made from a former {other.name} of the same run (digest {digests}): {again}"
