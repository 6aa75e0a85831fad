"""What a run ran on: versions and devices, for logs and checkpoints."""

from __future__ import annotations

import contextlib
import os
import platform
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import hatdet

if TYPE_CHECKING:
    import torch


def versions() -> dict[str, str]:
    """Versions of everything that can change a result, as text."""
    import torch

    found = {"hatdet": hatdet.__version__, "python": platform.python_version(), "torch": str(torch.__version__)}
    for name in ("numpy", "opencv-python-headless", "lmdb"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    if torch.version.cuda:
        found["cuda"] = str(torch.version.cuda)
    return found


def usable_processors() -> int:
    """How many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)))
    return os.cpu_count() or 1


def describe_device(device: torch.device) -> str:
    """``"cpu (2 threads)"`` or ``"cuda:0 (name, 16.0 GiB)"``."""
    import torch

    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        return f"{device} ({properties.name}, {properties.total_memory / 2**30:.1f} GiB)"
    return f"{device.type} ({torch.get_num_threads()} threads of {os.cpu_count()} processors)"


def free_memory() -> float:
    """Bytes that this process may still take: what Linux calls available, and no more than a container or a cluster's
    job leaves; 4 GiB where the system does not tell."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
        free = next(1024.0 * float(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        return 4.0 * 2**30
    return max(0.0, min([free, *_rooms()]))


def _rooms() -> Iterator[float]:
    """Bytes that each group of processes (cgroup, version 2 or 1) around this process may still take."""
    try:
        lines = Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    for line in [*lines, "0::/"]:  # in a container the own group is the root, whatever it is called outside
        _, controllers, place = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        root = Path("/sys/fs/cgroup/memory" if controllers else "/sys/fs/cgroup")
        names = ("limit_in_bytes", "usage_in_bytes") if controllers else ("max", "current")
        own = root / place.lstrip("/")
        for group in (own, *own.parents):
            with contextlib.suppress(OSError, ValueError):  # no such group, or one without a limit ("max")
                limit, used = (float((group / f"memory.{name}").read_text(encoding="utf-8")) for name in names)
                yield limit - used + _file_pages(group)
            if group == root:
                break


def _file_pages(group: Path) -> float:
    """Bytes of files that a group counts as used, and that go when memory is wanted."""
    try:
        lines = (group / "memory.stat").read_text(encoding="utf-8").splitlines()
    except OSError:
        return 0.0
    return sum(float(line.split()[1]) for line in lines if line.startswith(("active_file ", "inactive_file ")))


def memory_in_use(device: torch.device) -> int:
    """Bytes: on a GPU the most that was allocated, on the CPU the process's peak resident size (0 where unknown)."""
    if device.type == "cuda":
        import torch

        return int(torch.cuda.max_memory_allocated(device))
    try:
        import resource
    except ImportError:  # Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if platform.system() == "Darwin" else peak * 1024


def processor_marks() -> list[str]:
    """What tells apart processors for which code is made or chosen differently, as far as the system says."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    told = {line for line in lines if line.startswith(("model name", "flags", "Features", "CPU part"))}
    return [*sorted(told), platform.machine(), platform.processor()]


def common_folders() -> list[Path]:
    """The cache folders that no data set owns: $HATDET_CACHE where it is set, and ~/.cache/hatdet."""
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    own = [Path(os.environ["HATDET_CACHE"])] if os.environ.get("HATDET_CACHE") else []
    return [*own, Path(home) / "hatdet"]
