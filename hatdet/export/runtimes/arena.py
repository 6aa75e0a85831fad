"""The working memory that a file needs under TensorFlow Lite Micro, measured by TensorFlow Lite Micro.

It is measured in another process: an interpreter whose arena is too small may end the process that it runs in.
"""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import dataclass

from hatdet.export.runtimes.integer import FileLayout, ModelRefused, load_package
from hatdet.utils.errors import UserError

SECONDS = 120
STEP = 1024
ATTEMPTS = 16
_CODE = """
import sys
import numpy as np
from tflite_micro.python.tflite_micro import runtime
model = runtime.Interpreter.from_bytes(sys.stdin.buffer.read(), arena_size=int(sys.argv[1]))
model.set_input(np.zeros([int(n) for n in sys.argv[2:]], np.int8), 0)
model.invoke()
model.print_allocations()
"""
_PRINTED = re.compile(r"Arena allocation (total|head|tail) (\d+) bytes")


@dataclass(frozen=True)
class Arena:
    """Bytes of an arena on this machine, with reference kernels.

    Attributes:
        used: what the interpreter reports after a run. head: of it activations and scratch memory, tail: what stays
            (tensors, operators, quantization; structures with pointers, so less of it on a 32-bit processor).
        needed: the smallest arena, in steps of 1 KiB above ``used``, in which it was loaded and run.
    """

    used: int
    head: int
    tail: int
    needed: int


def measure_arena(model: bytes) -> Arena:
    """Load the file in a large arena, run it on zeros and read what was used; then run it in the smallest that works.

    Raises:
        UserError: tflite-micro is not installed. ModelRefused: it cannot run the file.
    """
    load_package("tflite_micro.python.tflite_micro.runtime", "tflite-micro", "TFLite Micro")
    layout = FileLayout(model)
    report = _run(model, layout.arena_bound, layout.input_shape)
    found = {name: int(size) for name, size in _PRINTED.findall(report or "")}
    if set(found) != {"total", "head", "tail"}:
        raise ModelRefused(
            "TFLite Micro cannot run this file, so its arena is not measured; see why with tools/export.py --verify 1"
        )
    first = -(-found["total"] // STEP) * STEP
    for size in range(first, first + ATTEMPTS * STEP, STEP):
        if _run(model, size, layout.input_shape) is not None:
            return Arena(found["total"], found["head"], found["tail"], size)
    raise ModelRefused(
        f"TFLite Micro reports {found['total']} bytes of arena, but does not run in {size}; give it more on the board"
    )


def _run(model: bytes, arena: int, shape: tuple[int, ...]) -> str | None:
    """What TensorFlow Lite Micro prints of a run in an arena of so many bytes; None where it fails."""
    command = [sys.executable, "-c", _CODE, str(arena), *(str(n) for n in shape)]
    try:
        done = subprocess.run(command, input=model, capture_output=True, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise UserError(
            f"TFLite Micro does not come to an end with this file in {SECONDS} s; export a smaller image size"
        ) from None
    return done.stderr.decode(errors="replace") if done.returncode == 0 else None
