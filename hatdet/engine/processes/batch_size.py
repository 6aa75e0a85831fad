"""``batch_size="auto"``: as many pictures a step as there is memory for, by one trial step of the stage itself.

The trial builds a trainer of its own, which is thrown away before the real one is built and seeded: nothing of the
training depends on it but the number.
"""

from __future__ import annotations

import gc
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hatdet.building import Builder
from hatdet.utils import distributed
from hatdet.utils.checkpoints.archive import read_without_tensors
from hatdet.utils.environment import free_memory
from hatdet.utils.errors import UserError
from hatdet.utils.logging import quiet
from hatdet.utils.seed import preserved_rng_state

AUTO = "auto"
ON_CPU = 8
"""A CPU is not faster with more; the recipes are for that many."""
LARGEST = 32
"""Four times what the recipes' learning rate is for; beyond that the linear rule was not tried."""
STEPS = 20
"""An epoch keeps so many steps at least."""
SHARE = {"cuda": 0.8, "cpu": 0.5}
"""Of the free memory; a CPU's is that of other programs too."""
TRIAL = (2, 4)
logger = logging.getLogger("hatdet")


def settled(config: Mapping[str, Any], cfg: dict[str, Any], stage: str, last: str | Path | None) -> dict[str, Any]:
    """The trainer's config with a number where its data loader says ``batch_size="auto"``.

    Args:
        config: the whole, for the names in messages; cfg: ``{stage}_trainer``.
        last: the checkpoint that a resumed training goes on from, whose number is kept.

    Raises:
        UserError: there is no memory for one picture.
    """
    loader = cfg.get("data_loader")
    if not isinstance(loader, Mapping) or loader.get("batch_size") != AUTO:
        return cfg
    kept = ((read_without_tensors(last) or {}).get("pace") or {}).get("batch_size") if last is not None else None
    if kept:
        size, why = int(kept), f"as {last} was made with"
    elif "optimizer" not in cfg:
        size, why = ON_CPU, "a calibration needs no more"
    else:
        with preserved_rng_state(), quiet():
            size, why = min(distributed.all_gather(measured(config, cfg, stage)))
        gc.collect()
    logger.info("batch_size='auto': %d pictures a step%s: %s", size, _rate(cfg), why)
    return {**cfg, "data_loader": {**loader, "batch_size": size}}


def _rate(cfg: Mapping[str, Any]) -> str:
    if "optimizer" not in cfg:
        return ""
    return "; the learning rate follows" if cfg.get("base_batch_size") else "; the learning rate stays as it is set"


def measured(config: Mapping[str, Any], cfg: Mapping[str, Any], stage: str) -> tuple[int, str]:
    """The number and the reason, by steps with few pictures."""
    sizes, images, device = [], 0, torch.device("cpu")
    for count in TRIAL:
        loader = {**cfg["data_loader"], "batch_size": count, "num_workers": 0}
        loader.pop("prefetch_factor", None)
        trial = {**cfg, "data_loader": loader, "callbacks": []}
        trainer = Builder(config).build(trial, f"{stage}_trainer")
        images, device = len(getattr(trainer.data_loader, "dataset", ())), trainer.device
        sizes.append(step_bytes(trainer))
        del trainer
        gc.collect()
    each = (sizes[1] - sizes[0]) / (TRIAL[1] - TRIAL[0])
    fixed = max(0.0, sizes[0] - TRIAL[0] * each)
    return choose(each, fixed, free_bytes(device), images, device.type)


def step_bytes(trainer: Any) -> int:
    """The most memory that a training step takes: on a GPU as it counts it, on a CPU what is kept for the backward."""
    trainer.setup(None)
    trainer.model.train()
    cuda, kept = trainer.device.type == "cuda", [0]

    def count(value: Tensor) -> Tensor:
        kept[0] += value.numel() * value.element_size()
        return value

    steps = 2 if cuda else 1  # the first one makes the optimizer's state
    for _ in range(steps):
        batch = next(iter(trainer.batches()))
        if cuda:
            torch.cuda.synchronize(trainer.device)
            torch.cuda.reset_peak_memory_stats(trainer.device)
            trainer.batch_processor(trainer, batch)
            kept[0] = torch.cuda.max_memory_allocated(trainer.device)
        else:
            with torch.autograd.graph.saved_tensors_hooks(count, lambda value: value):
                trainer.batch_processor(trainer, batch)
    return kept[0]


def choose(each: float, fixed: float, free: float, images: int, device: str) -> tuple[int, str]:
    """The number for pictures of ``each`` bytes and ``fixed`` ones a step, and the reason in a few words."""
    limit = LARGEST if device == "cuda" else ON_CPU
    fits = int((SHARE[device] * free - fixed) / max(each, 1.0))
    memory = f"about {each / 2**20:.0f} MiB a picture, {free / 2**30:.1f} GiB free"
    if fits < 1:
        raise UserError(
            f"batch_size='auto': not one picture fits ({memory}); make imgsz smaller, take a smaller network, "
            "or end other programs"
        )
    few = max(1, images // STEPS)
    size = min(limit, fits, few)
    size = size if size < 8 else size - size % 8
    if fits < min(limit, few):
        return size, f"what fits ({memory})"
    if size < limit:
        return size, f"{images} pictures make {images // size} steps an epoch"
    reason = (
        "more would take the learning rate out of the range that was tried"
        if device == "cuda"
        else "a CPU is not faster with more"
    )
    return size, f"{reason} ({memory})"


def free_bytes(device: torch.device) -> float:
    """What a training may take: of a GPU what is free there, of the machine what Linux calls available."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        return float(torch.cuda.mem_get_info(device)[0])
    return free_memory()
