"""TensorFlow Lite Micro in processes of its own: it holds Python's lock while it computes, so threads do not help."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hatdet.utils.environment import usable_processors

Codes = NDArray[Any]
_CODE = """
import io, os, sys
import numpy as np
from tflite_micro.python.tflite_micro import runtime
results = os.fdopen(os.dup(1), "wb")
os.dup2(2, 1)  # what the interpreter prints is no result
size, arena, outputs, *shape = (int(word) for word in sys.argv[1:])
model = runtime.Interpreter.from_bytes(sys.stdin.buffer.read(size), arena_size=arena)
while data := sys.stdin.buffer.read(int(np.prod(shape))):
    model.set_input(np.frombuffer(data, np.int8).reshape(shape), 0)
    model.invoke()
    for number in range(outputs):
        made = io.BytesIO()  # a pipe has no position, which numpy asks for
        np.save(made, np.array(model.get_output(number)))
        results.write(made.getvalue())
results.flush()
"""


def run_spread(model: bytes, arena: int, outputs: int, images: Sequence[Codes]) -> list[list[Codes]]:
    """The outputs of each image, computed in as many processes as this one may use processors.

    Args:
        arena: bytes of working memory of each interpreter. outputs: how many the file has. images: each (1, h, w, C).

    Raises:
        RuntimeError: the interpreter does not run the file.
    """
    count = min(usable_processors(), len(images))
    shares = [images[number::count] for number in range(count)]
    with ThreadPoolExecutor(count) as pool:
        found = list(pool.map(lambda share: _run(model, arena, outputs, share), shares))
    return [found[number % count][number // count] for number in range(len(images))]


def _run(model: bytes, arena: int, outputs: int, images: Sequence[Codes]) -> list[list[Codes]]:
    words = (len(model), arena, outputs, *images[0].shape)
    command = [sys.executable, "-c", _CODE, *(str(word) for word in words)]
    data = b"".join((model, *(image.tobytes() for image in images)))
    done = subprocess.run(command, input=data, capture_output=True, check=False)
    if done.returncode:
        last = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
        raise RuntimeError(f"its process ended with status {done.returncode}" + "".join(f": {line}" for line in last))
    results = io.BytesIO(done.stdout)
    return [[np.load(results, allow_pickle=False) for _ in range(outputs)] for _ in images]
