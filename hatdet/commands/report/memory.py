"""Memory that an int8 file needs, as far as it can be found out here, and the arithmetic that it is made for."""

from __future__ import annotations

from pathlib import Path

from hatdet.utils.errors import UserError


def memory_of(model: Path, arena: bool) -> dict[str, str]:
    """By name: size of the file, what its activations need at once, the arena. What is not known says why.

    Args:
        arena: measure it, in TensorFlow Lite Micro itself.
    """
    data = model.read_bytes()
    if data[4:8] != b"TFL3":
        return {"file": f"not a TFLite file: {model.name} is damaged, export it again"}
    found = {"file": f"{len(data):,} bytes ({len(data) / 2**20:.2f} MiB of flash)"}
    try:
        from hatdet.export.arithmetic import described, file_arithmetic

        found["arithmetic"] = described(file_arithmetic(data))
    except ImportError as error:
        found["arithmetic"] = f"not known: {error}"
    try:
        from hatdet.export.tflite.file_operators import read_file

        operators = read_file(data)
        peak, at = operators.peak_activation()
        found["operators"] = f"{len(operators.operators)}, {operators.macs / 1e6:.1f} M multiply-accumulates"
        if narrow := [op for op in operators.operators if op.weighted and op.weight.dtype == "INT4"]:
            found["weights of 4 bits"] = f"in {len(narrow)} of the operators, two a byte"
        found["peak activations"] = f"{peak:,} bytes at {at}: the least that any runtime needs of RAM"
    except (UserError, ImportError) as error:
        found["peak activations"] = f"not known: {error}"
    found["arena"] = _arena(data) if arena else "not measured (--no-arena)"
    return found


def _arena(data: bytes) -> str:
    try:
        from hatdet.export.runtimes.arena import measure_arena

        used = measure_arena(data)
    except (UserError, ImportError) as error:
        return f"not measured: {error}"
    return (
        f"{used.needed:,} bytes were enough for TensorFlow Lite Micro here ({used.head:,} activations and scratch, "
        f"{used.tail:,} structures of a 64-bit machine); kernels of a board may take scratch memory besides"
    )
