"""What the machine is: system, processor and its instructions that matter to hatdet, memory, GPUs."""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path
from typing import Any

from hatdet.utils.environment import usable_processors

FEATURES = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8", "asimd", "asimddp", "bf16", "i8mm")
"""Instructions that make training or integer inference faster, as Linux names them."""


def of_python() -> dict[str, Any]:
    """The interpreter and the system below it."""
    return {
        "python": f"{platform.python_version()} ({platform.python_implementation()})",
        "executable": sys.executable,
        "system": platform.platform(),
        "hatdet lies in": str(Path(__file__).absolute().parents[2]),
    }


def of_processor() -> dict[str, Any]:
    """The processor, its instructions (where the system tells), memory in GiB."""
    info = _cpuinfo()
    flags = set((info.get("flags") or info.get("Features") or "").split())
    memory = _memory()
    return {
        "processor": info.get("model name") or platform.processor() or platform.machine(),
        "usable processors": usable_processors(),
        "instructions": " ".join(name for name in FEATURES if name in flags) or "not known here",
        "memory": "not known here" if memory is None else f"{memory / 2**30:.1f} GiB",
    }


def of_torch() -> dict[str, Any]:
    """What torch computes with, and what ``amp = "auto"`` and ``device = None`` become of it."""
    import torch

    from hatdet.engine.processes.bfloat16 import faster_in_bfloat16, has_instructions
    from hatdet.integer.native import build

    found: dict[str, Any] = {
        "torch threads": torch.get_num_threads(),
        "torch uses": torch.backends.cpu.get_cpu_capability(),
        "bfloat16 in hardware": _bfloat16(has_instructions(), has_instructions() and faster_in_bfloat16()),
        "integer kernels": build.describe(),
        "CUDA": torch.version.cuda or "not in this torch",
    }
    if torch.version.cuda:
        found["cuDNN"] = torch.backends.cudnn.version()
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    found["GPUs"] = count
    for index in range(count):
        gpu = torch.cuda.get_device_properties(index)
        memory = f"{gpu.total_memory / 2**30:.1f} GiB"
        found[f"cuda:{index}"] = f"{gpu.name}, {memory}, compute capability {gpu.major}.{gpu.minor}"
    return found


def settings() -> dict[str, str]:
    """Environment variables that change what a run does."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "CUBLAS_WORKSPACE_CONFIG")
    return {name: value for name, value in sorted(os.environ.items()) if name in names or name.startswith("HATDET_")}


def _cpuinfo() -> dict[str, str]:
    """The first processor of Linux's /proc/cpuinfo; empty elsewhere."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}
    lines = (line.partition(":") for line in text.split("\n\n")[0].splitlines())
    return {key.strip(): value.strip() for key, _, value in lines}


def _memory() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def _bfloat16(instructions: bool, faster: bool) -> str:
    if not instructions:
        return "no"
    return "yes, faster than float32 (measured)" if faster else "yes, not faster than float32 (measured)"
