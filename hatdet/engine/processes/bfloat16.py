"""Whether training in bfloat16 is faster than in float32 on this processor: measured once a machine.

Instructions for bfloat16 are not enough: processors of one family take half as long with them or twice as long, by
whether matrix units stand behind them (and a virtual machine may hide those).
"""

from __future__ import annotations

import functools
import hashlib
import json
import logging
import math
import os
import platform
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from hatdet.utils import distributed
from hatdet.utils.environment import common_folders

logger = logging.getLogger("hatdet")
WORTH = 0.9
"""Of float32's time: bfloat16 is taken below that, for it costs digits."""
_ROUNDS = 4


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
    ratio = distributed.broadcast(_ratio() if distributed.is_main_process() else math.inf)  # all ranks alike
    faster = ratio < WORTH
    logger.debug("bfloat16 takes %.2f times float32's time here: amp='auto' is %s", ratio, "on" if faster else "off")
    return faster


def _ratio() -> float:
    """The recorded ratio, else the measured one; infinite without instructions for bfloat16."""
    if not has_instructions():
        return math.inf
    path = _record()
    ratio = _recorded(path)
    if ratio is None:
        ratio = measured_ratio()
        _keep(path, ratio)
    return ratio


def measured_ratio() -> float:
    """CPU time of a few convolutions, forward and backward, in bfloat16 to that in float32: the least of some."""
    steps = {dtype: _convolutions(dtype) for dtype in (torch.float32, torch.bfloat16)}
    times: dict[torch.dtype, list[float]] = {dtype: [] for dtype in steps}
    for _ in range(_ROUNDS + 1):  # the first one prepares kernels
        for dtype, step in steps.items():
            start = time.process_time()
            step()
            times[dtype].append(time.process_time() - start)
    return min(times[torch.bfloat16][1:]) / min(times[torch.float32][1:])


def _convolutions(dtype: torch.dtype) -> Callable[[], None]:
    """A step through a dense, a depthwise and a 1x1 convolution of 64 channels, as autocast runs them."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 64, 32, 32, generator=generator).contiguous(memory_format=torch.channels_last)
    shapes = ((64, 64, 3, 3), (64, 1, 5, 5), (64, 64, 1, 1))
    weights = [torch.randn(shape, generator=generator).requires_grad_() for shape in shapes]

    def step() -> None:
        with torch.enable_grad(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype is torch.bfloat16):
            y = x
            for weight in weights:
                y = F.conv2d(y, weight, padding=weight.shape[-1] // 2, groups=64 // weight.shape[1])
            torch.autograd.grad(y.float().sum(), weights)

    return step


def _record() -> Path:
    """The file of this processor and release of torch."""
    lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines() if os.path.exists("/proc/cpuinfo") else []
    told = sorted({line for line in lines if line.startswith(("model name", "flags", "Features", "CPU part"))})
    key = "\n".join([*told, platform.machine(), platform.processor(), torch.__version__, str(torch.get_num_threads())])
    return common_folders()[0] / "machine" / f"bfloat16-{hashlib.sha256(key.encode()).hexdigest()[:12]}.json"


def _recorded(path: Path) -> float | None:
    try:
        ratio = json.loads(path.read_text(encoding="utf-8"))["bfloat16 to float32"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return float(ratio) if type(ratio) in (int, float) and ratio > 0 else None


def _keep(path: Path, ratio: float) -> None:
    """Write the record as a whole; where the folder cannot be written, each process measures."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False, encoding="utf-8") as file:
            json.dump({"bfloat16 to float32": round(ratio, 3), "torch": torch.__version__}, file)
        os.replace(file.name, path)
    except OSError as error:
        logger.debug("%s cannot be written (%s): it is measured in each process", path, error)
