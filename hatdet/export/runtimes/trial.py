"""Trying out, in another process, whether a runtime survives a file that has no seal.

LiteRT and TensorFlow Lite Micro end the process (segmentation fault, abort) on files that they do not expect.
"""

from __future__ import annotations

import signal
import subprocess
import sys

from hatdet.export.seal import damaged
from hatdet.export.tflite.consistency import check_file

SECONDS = 120
_CODE = """
import sys
import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType
kind = OpResolverType.BUILTIN_REF if sys.argv[1] == "reference" else OpResolverType.BUILTIN
try:
    model = Interpreter(model_content=sys.stdin.buffer.read(), num_threads=1, experimental_op_resolver_type=kind)
    model.allocate_tensors()
    for detail in model.get_input_details():
        model.set_tensor(detail["index"], np.zeros(detail["shape"], detail["dtype"]))
    model.invoke()
except Exception:
    pass  # who runs it here hears it again, and says it
"""


def make_sure(data: bytes, *kernels: str) -> None:
    """Refuse a damaged file; of one without a seal, try out LiteRT's ``reference`` or ``default`` kernels.

    Raises:
        UserError: as :func:`check_file` and :func:`try_out`.
    """
    if not check_file(data):
        for kind in kernels:
            try_out(data, kind)


def try_out(data: bytes, kernels: str) -> None:
    """Load the file and run it once on zeros, in a process of its own.

    Raises:
        UserError: that process was ended by a signal, or did not come to an end.
    """
    command = [sys.executable, "-c", _CODE, kernels]
    try:
        done = subprocess.run(command, input=data, capture_output=True, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise damaged(f"LiteRT does not come to an end with it in {SECONDS} s") from None
    if done.returncode < 0:
        raise damaged(f"LiteRT ends with {signal.Signals(-done.returncode).name} on it")
