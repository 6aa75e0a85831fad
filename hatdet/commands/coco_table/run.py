"""Fills the table row by row; what is done is not done again."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hatdet.commands.coco_table.rows import CONFIGS, Plan, Row
from hatdet.commands.coco_table.text import markdown
from hatdet.commands.quantization.run import (
    FILE_ROWS,
    PTQ,
    QAT,
    checkpoint_file,
    quantization_config,
    quantize,
)
from hatdet.commands.quantization.steps import Steps
from hatdet.config.load import load_config
from hatdet.engine.checkpoints.provenance import described, file_digest
from hatdet.engine.run import train
from hatdet.engine.stages import best_checkpoint
from hatdet.export.delivery import write_json
from hatdet.export.files import write_atomic
from hatdet.utils.environment import describe_device, versions
from hatdet.utils.errors import UserError

ROW, BEGUN, STEPS, TRAINED, TABLE = "row.json", "begun.json", "steps.json", "float.done", "table"
_OF_THE_MACHINE = ("work_dir", "data_root", "workers", "device")
logger = logging.getLogger("hatdet")


def finished(plan: Plan) -> dict[str, dict[str, Any]]:
    """What the rows that are done hold, by name.

    Raises:
        UserError: one was made, or begun, with other settings, or from other weights.
    """
    found = {}
    for row in plan.rows:
        for name in (BEGUN, ROW):
            file = plan.folder / row.name / name
            if (held := _held(file)) is None:
                continue
            then, now = held["made_with"], made_with(plan, row)
            different = [setting for setting in {**then, **now} if then.get(setting) != now.get(setting)]
            if different:
                pairs = ", ".join(f"{n}={then.get(n)!r}, now {now.get(n)!r}" for n in different)
                raise UserError(f"{file} was made with {pairs}: set it back, or name another folder with --work-dir")
            if name == ROW:
                found[row.name] = held
    return found


def _held(file: Path) -> dict[str, Any] | None:
    """What was written of a row; None: nothing.

    Raises:
        UserError: it is damaged.
    """
    if not file.is_file():
        return None
    try:
        found: Any = json.loads(file.read_text(encoding="utf-8"))
    except ValueError:
        found = None
    if not isinstance(found, dict) or not isinstance(found.get("made_with"), dict):
        raise UserError(f"{file} is damaged; remove it, and its row is made again")
    return found


def made_with(plan: Plan, row: Row) -> dict[str, Any]:
    """What the figures of a row depend on, as plain values."""
    stages = ("qat",) if row.weights else ("float", "qat")
    settings = {
        (name if stage == "qat" else f"float.{name}"): described(value)
        for stage in stages
        for name, value in plan.settings(row, stage).items()
        if name not in _OF_THE_MACHINE
    }
    return {**settings, "weights": file_digest(row.weights) if row.weights else None}


def fill(plan: Plan) -> bool:
    """Do all rows that are not done; the table is written after each.

    Returns:
        whether every file computes what QAT's evaluation reported.
    """
    done = finished(plan)
    for row in plan.rows:  # a file that is none is found now and not after a day
        if row.weights is not None:
            checkpoint_file(row.weights)
    write_table(plan, done)
    for row in plan.rows:
        if row.name in done:
            logger.info("%s is done already: %s", row.name, plan.folder / row.name / ROW)
            continue
        logger.info("==== %s ====", row.name)
        done[row.name] = measure(plan, row)
        write_table(plan, done)
    return all(held["equal"] for held in done.values())


def measure(plan: Plan, row: Row) -> dict[str, Any]:
    """Train, where there are no weights, quantize, and write what was found."""
    folder, path = plan.folder / row.name, CONFIGS[row.model]
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / BEGUN, {"made_with": made_with(plan, row)})
    weights = row.weights or trained(plan, row)
    config = quantization_config(path, {**plan.settings(row, "qat"), "epochs": plan.qat_epochs}, weights)
    steps = Steps(folder / STEPS, file_digest(weights))
    result = quantize(config, weights, steps=steps)
    record = result.record()
    names = {"float": "float", "calibration": PTQ, "qat": QAT}
    metrics = {name: result.rows[title] for name, title in names.items()}
    scored = next((result.rows[title] for title in FILE_ROWS.values() if title in result.rows), None)
    if scored is not None:
        metrics["file"] = scored
    held = {
        "model": row.model,
        "size": row.size,
        "made_with": made_with(plan, row),
        "weights": weights.name,
        "equal": result.ok,
        "metrics": metrics,
        "seconds": steps.seconds,
        "device": describe_device(_device(config)),
        "versions": versions(),
        **{name: record[name] for name in ("file", "bytes", "sha256", "arithmetic", "parity", "different")},
    }
    write_json(folder / ROW, held)
    return held


def trained(plan: Plan, row: Row) -> Path:
    """Float weights from random ones; an interrupted training goes on."""
    config = load_config(CONFIGS[row.model], plan.settings(row, "float"))
    mark = plan.folder / row.name / TRAINED
    if not mark.is_file():
        train(config, "float", resume=best_checkpoint(config, "float", "last").is_file())
        write_atomic(mark, b"")
    return best_checkpoint(config, "float")


def write_table(plan: Plan, done: Mapping[str, Mapping[str, Any]]) -> list[Path]:
    """``table.md`` and ``table.json``."""
    rows = [done[row.name] for row in plan.rows if row.name in done]
    text, values = plan.folder / f"{TABLE}.md", plan.folder / f"{TABLE}.json"
    plan.folder.mkdir(parents=True, exist_ok=True)
    write_atomic(text, markdown(plan.rows, done).encode())
    write_json(values, {"version": 1, "rows": rows})
    return [text, values]


def _device(config: Mapping[str, Any]) -> Any:
    import torch

    named = config.get("device")
    return torch.device(named or ("cuda" if torch.cuda.is_available() else "cpu"))
