"""What a machine says of its memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from hatdet.utils.environment import free_memory

GIB = 2**30


@pytest.mark.parametrize(
    "files, expected",
    [
        ({"/proc/meminfo": "MemTotal: 9 kB\nMemAvailable:    2097152 kB\n"}, 2 * GIB),
        ({}, 4 * GIB),
        ({"/proc/meminfo": "MemTotal: 9 kB\n"}, 4 * GIB),
        # a container that may take less than the machine has, more, as much as it likes, and one that is full
        ({"/proc/meminfo": "MemAvailable: 2097152 kB", "max": f"{3 * GIB}\n", "current": f"{2 * GIB}\n"}, GIB),
        ({"/proc/meminfo": "MemAvailable: 2097152 kB", "max": f"{9 * GIB}\n", "current": f"{2 * GIB}\n"}, 2 * GIB),
        ({"/proc/meminfo": "MemAvailable: 2097152 kB", "max": "max\n", "current": f"{GIB}\n"}, 2 * GIB),
        ({"/proc/meminfo": "MemAvailable: 2097152 kB", "max": f"{GIB}\n", "current": f"{2 * GIB}\n"}, 0),
        # pages of files go when memory is wanted
        (
            {"/proc/meminfo": "MemAvailable: 2097152 kB", "max": f"{3 * GIB}\n", "current": f"{2 * GIB}\n",
             "stat": f"anon 9\ninactive_file {GIB // 4}\nactive_file {GIB // 4}\nfile 77\n"},
            1.5 * GIB,
        ),
        # a job of a cluster, in a group inside one that has less left, and in a group of version 1
        (
            {"/proc/meminfo": "MemAvailable: 9097152 kB", "/proc/self/cgroup": "0::/jobs/7\n",
             "/sys/fs/cgroup/jobs/7/memory.max": f"{4 * GIB}", "/sys/fs/cgroup/jobs/7/memory.current": f"{GIB}",
             "/sys/fs/cgroup/jobs/memory.max": f"{8 * GIB}", "/sys/fs/cgroup/jobs/memory.current": f"{6 * GIB}"},
            2 * GIB,
        ),
        (
            {"/proc/meminfo": "MemAvailable: 9097152 kB", "/proc/self/cgroup": "3:cpu:/\n4:hugetlb,memory:/a:b\n0::/\n",
             "/sys/fs/cgroup/memory/a:b/memory.limit_in_bytes": f"{4 * GIB}",
             "/sys/fs/cgroup/memory/a:b/memory.usage_in_bytes": f"{GIB}",
             "/sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712",
             "/sys/fs/cgroup/memory/memory.usage_in_bytes": f"{GIB}"},
            3 * GIB,
        ),
    ],
)
def test_free_memory(files: dict[str, str], expected: float, monkeypatch: pytest.MonkeyPatch) -> None:
    said = {name if "/" in name else f"/sys/fs/cgroup/memory.{name}": text for name, text in files.items()}

    def read_text(path: Path, encoding: str) -> str:
        if path.as_posix() not in said:
            raise FileNotFoundError(path)
        return said[path.as_posix()]

    monkeypatch.setattr(Path, "read_text", read_text)
    assert free_memory() == expected
