"""Checkpoint files as command lines name them."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hatdet.config.config import Config
from hatdet.engine.processes.device import choose_device
from hatdet.engine.stages import INT_INFER_NAMES, TRAIN_STAGES
from hatdet.export.calibrate import is_quantized_state
from hatdet.utils.class_names import listed
from hatdet.utils.errors import UserError

CHECKPOINT_SUFFIXES = (".pth.tar", ".pth", ".pt")
logger = logging.getLogger("hatdet")


def find_checkpoint(path: str | Path, run: str | None = None) -> Path:
    """The checkpoint that is meant: the file itself, or for ``epoch_150.pth``, MMEngine's name, the float stage's file
    of that epoch in the same folder (``float-checkpoint-epoch-0150.pth.tar``), or in the folder ``run`` inside it.

    Args:
        path: as the user wrote it.
        run: name of the config's own folder below ``work_dirs``: SSCMA's users may leave it out.

    Raises:
        UserError: neither is there; the message names what is.
    """
    path = Path(path)
    if path.is_file():
        return path
    number = re.fullmatch(r"epoch_(\d+)\.pth", path.name)
    if number:
        name = f"float-checkpoint-epoch-{int(number[1]):04d}.pth.tar"
        for ours in (path.with_name(name), *([path.parent / run / name] if run else [])):
            if ours.is_file():
                logger.info("%s: this is %s here", path, ours.relative_to(path.parent))
                return ours
    near = sorted(p.name for p in path.parent.glob("*") if p.name.endswith(CHECKPOINT_SUFFIXES))
    near = [name for name in near if not name.startswith(".")]
    there = f"; {path.parent} has {listed(near)}" if near else ""
    raise UserError(f"no such checkpoint: {path}{there}; name a file that is there")


def stem_of(path: str | Path) -> str:
    """A checkpoint's name without suffixes: ``epoch_150`` of ``epoch_150.pth``."""
    name = Path(path).name
    return next((name.removesuffix(suffix) for suffix in CHECKPOINT_SUFFIXES if name.endswith(suffix)), name)


def kind_of(config: Config, state: Mapping[str, Any]) -> str:
    """What a checkpoint holds: ``float``, ``calibration`` or ``qat`` weights, or an ``int_infer`` graph."""
    if "int_graph" in state:
        return "int_infer"
    if is_quantized_state(state.get("state_dict", state)):
        return "qat" if "optimizer" in state or "calibration_trainer" not in config else "calibration"
    return "float"


def set_device(config: Config, device: str | None) -> None:
    """Make every predictor and trainer of the config use ``device``; None leaves the config's.

    Raises:
        UserError: there is no such device here.
    """
    if device is None:
        return
    choose_device(device)
    stages = (f"{stage}_{what}" for stage in TRAIN_STAGES for what in ("trainer", "predictor"))
    for name in (*INT_INFER_NAMES, *stages):
        if isinstance(config.get(name), Mapping):
            config[name] = {**config[name], "device": device}
