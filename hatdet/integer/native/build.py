"""The library of C kernels: compiled at first use, kept in the cache folder, used only where it proves exact.

Nothing needs it. Without a compiler, on a processor that the kernels are not written for, where the folder cannot be
written or with ``HATDET_NATIVE=0`` in the environment torch's forms compute the same.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import logging
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from hatdet.integer.native.kernels import Kernels
from hatdet.integer.native.proof import prove
from hatdet.utils.environment import common_folders, processor_marks

logger = logging.getLogger("hatdet")
SOURCE = Path(__file__).with_name("kernels.c")
SWITCH = "HATDET_NATIVE"
FLAGS = ("-std=gnu11", "-O3", "-march=native", "-fPIC", "-shared", "-pthread", "-fwrapv", "-ffp-contract=off",
         "-fno-math-errno", "-fno-trapping-math")  # fmt: skip
PATIENCE = 120.0
"""Seconds that a compiler may take."""


class _Unavailable(Exception):
    """Why there is no library, in a few words."""


@functools.cache
def library() -> Kernels | None:
    """The kernels for this processor; None: there are none, and the log says why (debug)."""
    kernels, state = _found()
    logger.debug("integer kernels: %s", state)
    return kernels


def describe() -> str:
    """What the integer executor computes with, in a few words."""
    return _found()[1]


@functools.cache
def _found() -> tuple[Kernels | None, str]:
    try:
        kernels = Kernels(ctypes.CDLL(str(built())))
        if not prove(kernels):
            raise _Unavailable("the compiled kernels are not exact here")
    except (_Unavailable, OSError, AttributeError, ValueError) as error:  # ValueError: a $CC that is no command line
        return None, f"torch ({error})"
    return kernels, f"C, compiled for this processor ({kernels.description})"


def built(flags: Sequence[str] = ()) -> Path:
    """The compiled library, with ``flags`` besides the usual ones."""
    if os.environ.get(SWITCH, "1").lower() in ("0", "off", "false", "no"):
        raise _Unavailable(f"{SWITCH} is off")
    command = _compiler()
    source = SOURCE.read_bytes()
    arguments = (*FLAGS, *flags)
    told = [*arguments, *command, _identity(command[0]), *processor_marks(), platform.system()]
    name = f"kernels-{hashlib.sha256(source + chr(10).join(told).encode()).hexdigest()[:16]}.so"
    places = [folder / "machine" / name for folder in common_folders()]
    for place in places:
        if _is_ours(place):
            return place
    refusals = []
    for place in places:
        try:
            _compile([*command, *arguments, str(SOURCE), "-lm"], place)
            return place
        except OSError as error:
            refusals.append(str(error))
    raise _Unavailable("; ".join(refusals))


def _compile(command: list[str], target: Path) -> None:
    """Compile beside ``target`` and put it there as a whole: another process finds nothing or all of it.

    Raises:
        _Unavailable: the compiler fails.
        OSError: the folder cannot be written.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".kernels-", dir=target.parent) as folder:
        made = Path(folder) / target.name
        try:
            done = subprocess.run(
                [*command, "-o", str(made)], capture_output=True, text=True, timeout=PATIENCE, check=False,
                stdin=subprocess.DEVNULL,
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired) as error:
            raise _Unavailable(f"{command[0]} failed: {error}") from error
        if done.returncode != 0 or not made.is_file():
            lines = done.stderr.strip().splitlines()
            said = next((line for line in lines if "error" in line), lines[-1] if lines else "no message")
            raise _Unavailable(f"{command[0]} failed: {said}")
        os.replace(made, target)


def _compiler() -> list[str]:
    """The C compiler: $CC, else cc, gcc or clang.

    Raises:
        _Unavailable: there is none.
    """
    given = shlex.split(os.environ.get("CC", ""))
    for command in ([given] if given else []) + [["cc"], ["gcc"], ["clang"]]:
        if found := shutil.which(command[0]):
            return [found, *command[1:]]
    raise _Unavailable("no C compiler")


def _identity(program: str) -> str:
    """Another one where the compiler was updated."""
    file = Path(program).resolve()
    status = file.stat()
    return f"{file} {status.st_size} {status.st_mtime_ns}"


def _is_ours(file: Path) -> bool:
    """Whether the file is there, and was written by this user: what others wrote is not run."""
    try:
        return file.is_file() and (not hasattr(os, "getuid") or file.stat().st_uid == os.getuid())
    except OSError:
        return False
