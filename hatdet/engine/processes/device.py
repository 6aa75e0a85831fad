"""Devices: choosing one, and moving batches to it."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from hatdet.utils import distributed
from hatdet.utils.errors import UserError

logger = logging.getLogger("hatdet")


def parse_ids(text: str | None) -> list[int]:
    """``"0,1"`` -> ``[0, 1]``; None and an empty text -> ``[]``."""
    try:
        ids = [int(part) for part in (text or "").split(",") if part.strip()]
    except ValueError:
        ids = [-1]
    if any(number < 0 for number in ids):
        raise UserError(f"-ids takes numbers of GPUs such as 0 or 0,1; got {text!r}")
    return ids


def select_gpus(ids: list[int]) -> None:
    """Make only these GPUs visible; must come before the first use of CUDA. Without CUDA: one line that says so."""
    if ids:
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, ids))
        if not torch.cuda.is_available():
            logger.info("no GPU here: -ids %s is ignored, running on the CPU", ",".join(map(str, ids)))


def default_device() -> torch.device:
    """This process's GPU where there is one, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda", distributed.get_local_rank() % torch.cuda.device_count())
    return torch.device("cpu")


def choose_device(device: torch.device | str | int | None) -> torch.device:
    """The device that a config names; None and a GPU without a number: :func:`default_device`.

    Raises:
        UserError: there is no such device here.
    """
    if device is None:
        return default_device()
    try:
        chosen = torch.device(device)
        torch.empty(0, device=chosen)  # torch says only on use that a device is not there
    except (RuntimeError, AssertionError) as error:
        have = ["cpu", *(f"cuda:{number}" for number in range(torch.cuda.device_count()))]
        raise UserError(f"device={device!r} is not available; here are: {', '.join(have)} (or None)") from error
    return default_device() if chosen.type == "cuda" and chosen.index is None else chosen


def to_device(value: Any, device: torch.device) -> Any:
    """Move the tensors in dicts, lists and tuples; without waiting where their memory is pinned."""
    if isinstance(value, Tensor):
        return value if value.device == device else value.to(device, non_blocking=True)
    if isinstance(value, Mapping):
        return {key: to_device(item, device) for key, item in value.items()}
    if isinstance(value, (list, tuple)) and not hasattr(value, "_fields"):
        return type(value)(to_device(item, device) for item in value)
    return value


def batch_size_of(batch: Any) -> int:
    """Images in a batch: length of ``img``, or of the first tensor."""
    tensors = [batch.get("img"), *batch.values()] if isinstance(batch, Mapping) else [batch]
    return next((len(value) for value in tensors if isinstance(value, Tensor) and value.ndim), 0)
