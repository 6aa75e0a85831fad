"""Whether training in bfloat16 is faster than in float32 on this processor: measured once a machine.

Instructions for bfloat16 are not enough: processors of one family take half as long with them or twice as long, by
whether matrix units stand behind them (and a virtual machine may hide those). Depthwise convolutions are asked about on
their own: their gradients take several times as long in bfloat16 where all others gain.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import logging
import math
import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from hatdet.engine.processes.depthwise import depthwise_apart
from hatdet.utils import distributed
from hatdet.utils.environment import common_folders, processor_marks

logger = logging.getLogger("hatdet")
WORTH = 0.9
"""Of float32's time: bfloat16 is taken below that, for it costs digits."""
DEPTHWISE_WORTH = 0.95
"""Of the time in bfloat16 alone: below it depthwise convolutions stay in float32, casts included."""
_ROUNDS = 4
_MIXED, _DEPTHWISE = "bfloat16 to float32", "depthwise in float32 to bfloat16"


def has_instructions() -> bool:
    """Whether this CPU has instructions for bfloat16 (AVX512-BF16, AMX, Arm's BF16)."""
    features: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # older releases do not tell
    return any(bool(value) for name, value in features.items() if "bf16" in name)


@functools.cache
def faster_in_bfloat16() -> bool:
    """Whether the convolutions of a training step take less than ``WORTH`` of float32's time in bfloat16.

    The measured ratio is kept in the cache folder, by processor and release of torch: a run that goes on, and the next
    one, compute as the first did.
    """
    ratio = _agreed("bfloat16", _MIXED, measured_ratio)
    faster = ratio < WORTH
    logger.debug("bfloat16 takes %.2f times float32's time here: amp='auto' is %s", ratio, "on" if faster else "off")
    return faster


@functools.cache
def depthwise_in_float32() -> bool:
    """Whether a step in bfloat16 is faster with its depthwise convolutions in float32; kept as the ratio above is.

    Without instructions for bfloat16 nothing is measured, and they stay in what the step is in.
    """
    ratio = _agreed("depthwise", _DEPTHWISE, measured_depthwise)
    logger.debug("depthwise convolutions in float32 take %.2f times bfloat16's time here", ratio)
    return ratio < DEPTHWISE_WORTH


def _agreed(name: str, key: str, measure: Callable[[], float]) -> float:
    """One ratio for all processes."""
    ratio: float = distributed.broadcast(_ratio(name, key, measure) if distributed.is_main_process() else math.inf)
    return ratio


def _ratio(name: str, key: str, measure: Callable[[], float]) -> float:
    """The recorded ratio, else the measured one; infinite without instructions for bfloat16."""
    if not has_instructions():
        return math.inf
    path = _record(name)
    ratio = _recorded(path, key)
    if ratio is None:
        ratio = measure()
        _keep(path, key, ratio)
    return ratio


def measured_ratio() -> float:
    """CPU time of a few convolutions, forward and backward, in bfloat16 to that in float32: the least of some."""
    shapes = ((64, 64, 3, 3), (64, 1, 5, 5), (64, 64, 1, 1))
    return _least_ratio(_convolutions(shapes, _autocast), _convolutions(shapes, contextlib.nullcontext))


def measured_depthwise() -> float:
    """The same of depthwise convolutions in float32 between 1x1 ones in bfloat16, to all in bfloat16."""
    shapes = ((64, 64, 1, 1), (64, 1, 5, 5), (64, 64, 1, 1))
    return _least_ratio(_convolutions(shapes, depthwise_apart), _convolutions(shapes, _autocast))


def _least_ratio(step: Callable[[], None], other: Callable[[], None]) -> float:
    """The least CPU time of one step to that of the other; they take turns."""
    times: list[tuple[float, float]] = []
    for _ in range(_ROUNDS + 1):  # the first one prepares kernels
        start = time.process_time()
        step()
        between = time.process_time()
        other()
        times.append((between - start, time.process_time() - between))
    ours, others = zip(*times[1:], strict=True)
    return float(min(ours) / min(others))


def _autocast() -> AbstractContextManager[Any]:
    return torch.autocast("cpu", dtype=torch.bfloat16)


def _convolutions(
    shapes: Sequence[tuple[int, ...]], context: Callable[[], AbstractContextManager[Any]]
) -> Callable[[], None]:
    """A step through convolutions with weights of these shapes, of 64 channels, in a context."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 64, 32, 32, generator=generator).contiguous(memory_format=torch.channels_last)
    convs = []
    for shape in shapes:
        conv = nn.Conv2d(64, 64, shape[-1], padding=shape[-1] // 2, groups=64 // shape[1], bias=False, device="meta")
        conv.weight = nn.Parameter(torch.randn(shape, generator=generator))
        convs.append(conv)

    def step() -> None:
        with torch.enable_grad(), context():
            y = x
            for conv in convs:
                y = conv(y)
            torch.autograd.grad(y.float().sum(), [conv.weight for conv in convs])

    return step


def _record(name: str = "bfloat16") -> Path:
    """The file of this processor and release of torch, of one ratio."""
    key = "\n".join([*processor_marks(), torch.__version__, str(torch.get_num_threads())])
    return common_folders()[0] / "machine" / f"{name}-{hashlib.sha256(key.encode()).hexdigest()[:12]}.json"


def _recorded(path: Path, key: str) -> float | None:
    try:
        ratio = json.loads(path.read_text(encoding="utf-8"))[key]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return float(ratio) if type(ratio) in (int, float) and ratio > 0 else None


def _keep(path: Path, key: str, ratio: float) -> None:
    """Write the record as a whole; where the folder cannot be written, each process measures."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False, encoding="utf-8") as file:
            json.dump({key: round(ratio, 3), "torch": torch.__version__}, file)
        os.replace(file.name, path)
    except OSError as error:
        logger.debug("%s cannot be written (%s): it is measured in each process", path, error)
