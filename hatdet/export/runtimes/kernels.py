"""Which kernels really run an integer file, and whether these have the arithmetic that it is made for.

LiteRT opens any file with any kernels, and says nothing where a build lacks the delegate. What ran is read off the
interpreter's operators; what it computes is found by running a probe, or the file itself.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from hatdet.export.arithmetic import described, file_arithmetic
from hatdet.export.opening import OPENINGS, opening_of
from hatdet.export.runtimes.integer import Codes, LiteRTRuntime, Runtime
from hatdet.export.runtimes.probe import arithmetic_of
from hatdet.export.tflite.consistency import check_file
from hatdet.integer.profiles.table import profile_named

PACKAGES = {
    "ai_edge_litert": ("LiteRT", ("ai-edge-litert", "ai-edge-litert-nightly")),
    "tflite_micro": ("TFLite Micro", ("tflite-micro",)),
    "tflite_runtime": ("tflite-runtime", ("tflite-runtime", "tflite-runtime-nightly")),
    "tensorflow": ("TensorFlow", ("tensorflow", "tensorflow-cpu", "tf-nightly")),
}
"""By module: how the library is called, and the distributions that it comes in."""
ROUNDED_BY_XNNPACK = frozenset(
    "CONV_2D DEPTHWISE_CONV_2D FULLY_CONNECTED LEAKY_RELU MUL QUANTIZE RESIZE_BILINEAR TRANSPOSE_CONV".split()
)
"""Operators that XNNPACK takes and TensorFlow Lite's own kernels round otherwise, where their results have 8 bits."""
IMAGES = 2


@dataclass(frozen=True)
class KernelsUsed:
    """What runs a file.

    Attributes:
        library, version: e.g. ``LiteRT``, ``2.3.0``. kernels: ``reference``, ``default``, or ``unknown`` ones.
        threads: how many it may use; None: not known.
        operators: of the file; 0: not known. delegated: how many of them a delegate runs (of default kernels XNNPACK).
        left: those that XNNPACK should have been given and was not, by kind.
        arithmetic: the profile that was found by running them; None: none of hatdet's.
    """

    library: str
    version: str
    kernels: str
    threads: int | None
    operators: int
    delegated: int
    left: tuple[str, ...]
    arithmetic: str | None

    @property
    def has_delegate(self) -> bool:
        """Whether the default kernels are LiteRT's with XNNPACK, though it may find nothing to run in a file."""
        known = None if self.arithmetic is None else profile_named(self.arithmetic).litert
        return self.kernels == "default" and known == "default"

    @property
    def name(self) -> str:
        """Library, version and kernels, e.g. ``LiteRT 2.3.0, default kernels (XNNPACK)``."""
        delegate = ""
        if self.delegated or self.has_delegate:
            delegate = " (XNNPACK)" if self.kernels == "default" else " (a delegate)"
        elif self.kernels != "reference":
            delegate = " without XNNPACK" if self.kernels == "default" else " without a delegate"
        return f"{self.library} {self.version}, {self.kernels} kernels{delegate}"

    def text(self) -> str:
        """In one line, e.g. ``LiteRT 2.3.0, default kernels (XNNPACK) for 14 of 17 operators, 1 thread``."""
        part = f" for {self.delegated} of {self.operators} operators" if self.name.endswith(")") else ""
        threads = "" if self.threads is None else f", {self.threads} thread{'' if self.threads == 1 else 's'}"
        return f"{self.name}{part}{threads}"

    def warning(self, profile: str, second: str | None = None) -> str | None:
        """Why these kernels do not give the numbers of a file made for an arithmetic, and what does; None: they do.

        Args:
            second: the file's second arithmetic (:func:`hatdet.export.arithmetic.file_second`).
        """
        made = f"the file is made for {described(profile)}"
        if self.arithmetic not in (None, profile) and self.arithmetic == second:
            return (
                f"{self.text()}: these compute in {second}, the second arithmetic of the file; the evaluated numbers "
                f"are those of {described(profile)}, and tools/export.py --verify reports where they differ"
            )
        if self.arithmetic != profile:
            found = "an arithmetic that hatdet does not have" if self.arithmetic is None else self.arithmetic
            return f"{self.text()}: these compute in {found}, and {made}; results differ: {self._way_out(profile)}"
        if self.left and self.has_delegate:
            kinds = ", ".join(self.left)
            return (
                f"{self.text()}: {made}, and other kernels run its {kinds}; results may differ: see with "
                "tools/export.py --verify"
            )
        return None

    def record(self) -> dict[str, Any]:
        """Plain values for a JSON file."""
        return {**asdict(self), "left": list(self.left), "text": self.text()}

    def _way_out(self, profile: str) -> str:
        opening = opening_of(profile)
        if opening is None:
            return "no kernels of LiteRT are known to have it; run it on the device"
        wanted = profile_named(profile).litert
        if self.kernels == "default" and not self.delegated and wanted == "default":
            return "use a build that has XNNPACK, or make the model with arithmetic='tflite_ref' for reference kernels"
        if self.kernels == wanted:
            return "use a version that docs/runtimes.md has as run"
        return f"open it with LiteRT's {wanted} kernels, {opening.python}"


def used_by(runtime: Runtime) -> KernelsUsed:
    """The kernels of one of hatdet's runtimes."""
    if not isinstance(runtime, LiteRTRuntime):
        made: Any = type(runtime)
        found = arithmetic_of(lambda model, codes: made(model).run(codes))
        return KernelsUsed(runtime.name, version_of("tflite_micro"), "reference", 1, 0, 0, (), found)
    kernels, threads = runtime.kernels, runtime.threads

    def run(model: bytes, codes: Codes) -> Sequence[Codes]:
        return LiteRTRuntime(model, kernels, threads=threads).run(codes)

    return _described(runtime.interpreter, kernels, threads, arithmetic_of(run))


def kernels_used(interpreter: Any, model: bytes | str | os.PathLike[str]) -> KernelsUsed:
    """The kernels of an interpreter that somebody opened for an int8 file of hatdet's, as they opened it.

    It is run on random codes; the results are compared with those of LiteRT's kernels on the same file. Say what comes
    of it with :meth:`KernelsUsed.text`, and with :meth:`KernelsUsed.warning` for the file's arithmetic
    (:func:`hatdet.export.arithmetic.file_arithmetic`).

    Args:
        interpreter: of ``ai_edge_litert`` (or ``tensorflow.lite``, ``tflite_runtime``), with any delegates.
        model: the file that it has.

    Raises:
        UserError: LiteRT is not installed, or the file is none of hatdet's.
    """
    data = model if isinstance(model, bytes) else Path(model).read_bytes()
    check_file(data)
    interpreter.allocate_tensors()
    source = interpreter.get_input_details()[0]
    codes = np.random.default_rng(0).integers(-128, 128, (IMAGES, *source["shape"][1:])).astype(np.int8)
    found = []
    for number in range(IMAGES):
        interpreter.set_tensor(source["index"], codes[number : number + 1])
        interpreter.invoke()
        found.append([interpreter.get_tensor(output["index"]) for output in interpreter.get_output_details()])
    outputs = [np.concatenate(values) for values in zip(*found, strict=True)]
    own = profile_named(file_arithmetic(data)).litert
    if any(op["op_name"] == "DELEGATE" for op in interpreter._get_ops_details()):
        own = "default"  # of a file for two arithmetics both may be right
    for kernels in sorted(OPENINGS, key=lambda name: name != own):
        runtime = LiteRTRuntime(data, kernels)
        if all(np.array_equal(a, b) for a, b in zip(outputs, runtime.run(codes), strict=True)):
            return _described(interpreter, kernels, None, used_by(runtime).arithmetic)
    return _described(interpreter, "unknown", None, None)


def version_of(module: str) -> str:
    """The installed version of a library, by its module; ``?`` where no distribution says one."""
    for name in PACKAGES[module][1]:
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return "?"


def _described(interpreter: Any, kernels: str, threads: int | None, arithmetic: str | None) -> KernelsUsed:
    module = type(interpreter).__module__.split(".")[0]
    module = module if module in PACKAGES else "ai_edge_litert"
    operators, outside = operators_of(interpreter)
    left = tuple(sorted(set(outside) & ROUNDED_BY_XNNPACK)) if kernels == "default" else ()
    delegated = operators - len(outside)
    return KernelsUsed(
        PACKAGES[module][0], version_of(module), kernels, threads, operators, delegated, left, arithmetic
    )


def operators_of(interpreter: Any) -> tuple[int, list[str]]:
    """How many operators an interpreter's file has, and the kinds of those that no delegate runs, in order; with
    ``16`` after it where the result has 16 bits.

    A delegate's operator is added to the others, which stay in the list; those that it replaces lie between its inputs
    and its outputs. Delegates are there once tensors are allocated.
    """
    everything = interpreter._get_ops_details()
    plain = [op for op in everything if op["op_name"] != "DELEGATE"]
    maker = {int(tensor): op for op in plain for tensor in op["outputs"]}
    taken: set[int] = set()
    for delegate in everything:
        if delegate["op_name"] != "DELEGATE":
            continue
        inputs, waiting = {int(t) for t in delegate["inputs"]}, [int(t) for t in delegate["outputs"]]
        while waiting:
            tensor = waiting.pop()
            op = maker.get(tensor)
            if tensor in inputs or op is None or op["index"] in taken:
                continue
            taken.add(op["index"])
            waiting += [int(t) for t in op["inputs"]]
    wide = {detail["index"] for detail in interpreter.get_tensor_details() if detail["dtype"] == np.int16}
    outside = [op for op in plain if op["index"] not in taken]
    return len(plain), [op["op_name"] + ("16" if int(op["outputs"][0]) in wide else "") for op in outside]
