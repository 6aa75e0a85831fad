"""TensorFlow Lite's own kernels, compiled here with single rounding: the referee of the profile ``tflite_single``.

The sources are those of packages, fetched into ``build/conformance`` and never kept in the repository: the headers of
TensorFlow Lite Micro that the wheel ``xmos-ai-tools`` ships (the kernels of int8 are all in headers, with what rounds
once), and Debian's ``libgemmlowp-dev``, which they include. ``kernels.cc`` calls them. The same kernels
built without ``TFLITE_SINGLE_ROUNDING`` are the control: they must be LiteRT's reference kernels.
"""

from __future__ import annotations

import ctypes
import functools
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.conformance.material import CACHE

WHEEL = "xmos-ai-tools==1.4.2"
DEBIAN = "libgemmlowp-dev"
KERNELS = Path(__file__).with_name("kernels.cc")
PROFILER = """#pragma once
namespace ruy::profiler {
struct ScopeLabel {
  template <class... T>
  explicit ScopeLabel(T...) {}
};
}  // namespace ruy::profiler
"""
"""Labels for a profiler that is not there."""


class NotHere(Exception):
    """Why the kernels cannot be had."""


def _run(*command: str | Path, cwd: Path | None = None) -> None:
    words = [str(word) for word in command]
    if shutil.which(words[0]) is None:
        raise NotHere(f"{words[0]} is not installed")
    done = subprocess.run(words, cwd=cwd, capture_output=True, text=True, timeout=600)
    if done.returncode:
        raise NotHere(f"{' '.join(words)} failed: {(done.stderr or done.stdout).strip()[-300:]}")


def _headers() -> list[Path]:
    """The folders to include from; fetched where they are not there yet.

    Raises:
        NotHere: an index is not reachable, or lacks the package.
    """
    folder = CACHE / "single_rounding"
    lite, gemmlowp, stub = folder / "lite", folder / "gemmlowp", folder / "stub"
    if not (lite / "tensorflow").is_dir():
        wheels = folder / "wheels"
        _run(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", WHEEL, "-d", wheels)
        inside = "xmos_ai_tools/runtime/include/"
        with zipfile.ZipFile(next(wheels.glob("xmos_ai_tools-*.whl"))) as archive:
            for name in archive.namelist():
                if name.startswith(inside + "tensorflow/") and name.endswith(".h"):
                    place = lite / name.removeprefix(inside)
                    place.parent.mkdir(parents=True, exist_ok=True)
                    place.write_bytes(archive.read(name))
    if not gemmlowp.is_dir():
        _run("apt-get", "download", DEBIAN, cwd=folder)
        _run("dpkg-deb", "-x", next(folder.glob(f"{DEBIAN}_*.deb")), gemmlowp)
    label = stub / "ruy" / "profiler" / "instrumentation.h"
    label.parent.mkdir(parents=True, exist_ok=True)
    label.write_text(PROFILER, encoding="utf-8")
    return [stub, gemmlowp / "usr" / "include" / "gemmlowp", lite]


@functools.cache
def load(single: bool) -> ctypes.CDLL:
    """The kernels, with one rounding or with two; assertions of the kernels are on.

    Raises:
        NotHere: they cannot be fetched or compiled.
    """
    includes = [f"-I{path}" for path in _headers()]
    library = CACHE / "single_rounding" / f"kernels{int(single)}.so"
    if not library.is_file() or library.stat().st_mtime < KERNELS.stat().st_mtime:
        flags = ["-std=c++17", "-O2", "-fwrapv", "-fPIC", "-shared", f"-DTFLITE_SINGLE_ROUNDING={int(single)}"]
        _run("g++", *flags, *includes, KERNELS, "-o", library)
    return ctypes.CDLL(str(library))


class Kernels:
    """The kernels on arrays.

    Args:
        single: with one rounding. wide: multipliers as TFLite Micro computes them, else as LiteRT does.
    """

    def __init__(self, single: bool, wide: bool) -> None:
        self.library, self.wide = load(single), wide

    def multiply(self, x: int, m: int, e: int) -> int:
        return int(self.library.multiply(x, m, e))

    def call(self, name: str, *arguments: Any) -> None:
        """Arrays as pointers, Python floats as float32; what is kept alive here lives as long as the call."""
        kept = [np.ascontiguousarray(a) if isinstance(a, np.ndarray) else a for a in arguments]
        words = [
            a.ctypes.data_as(ctypes.c_void_p) if isinstance(a, np.ndarray)
            else ctypes.c_float(a) if isinstance(a, float)
            else ctypes.c_int(a)
            for a in kept
        ]  # fmt: skip
        function = getattr(self.library, name)
        function.restype = None
        function(*words)

    def new(self, shape: Sequence[int], dtype: Any = np.int8) -> NDArray[Any]:
        return np.zeros(tuple(shape), dtype)


def dims(array: NDArray[Any]) -> NDArray[np.int32]:
    """The shape with ones in front, up to four."""
    return np.array((1,) * (4 - array.ndim) + array.shape, np.int32)


def ints(*values: int) -> NDArray[np.int32]:
    return np.array(values, np.int32)


def floats(*values: float) -> NDArray[np.float32]:
    return np.array(values, np.float32)
