"""The proof of export: the torch executor and the runtimes that have the graph's arithmetic give the same integers.

Equality, never a tolerance. For ``tflite_ref`` these are LiteRT with reference kernels and TFLite Micro, for
``xnnpack`` LiteRT with its default kernels, with one and with four threads. LiteRT's *other* kernels round differently;
their difference is measured and reported, and is no part of the verdict, nor is that of a second arithmetic
(``arithmetic="both"``), of which the operators that have other codes for some input are named. Of an arithmetic that no
package computes in nothing is proven, and the report says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch

from hatdet.export.arithmetic import other_kernels
from hatdet.export.metadata import file_names, output_names
from hatdet.export.runtimes.ahead import images_ahead
from hatdet.export.runtimes.integer import Codes, LiteRTRuntime, ModelRefused, Runtime, to_nhwc, try_runtimes
from hatdet.export.runtimes.kernels import KernelsUsed, used_by
from hatdet.integer.agreement.report import disagreements, lines
from hatdet.integer.executor import IntExecutor
from hatdet.integer.graph import IntGraph
from hatdet.utils.errors import UserError
from hatdet.utils.pace import Pace

FEW_LEVELS = 16
"""An output with fewer distinct codes than this proves little: a collapsed network is easy to reproduce."""


@dataclass
class TensorParity:
    """Comparison of one tensor over all images. ``differing`` and ``max_lsb`` are per runtime."""

    name: str
    is_output: bool
    compared: int = 0
    differing: dict[str, int] = field(default_factory=dict)
    max_lsb: dict[str, int] = field(default_factory=dict)
    levels: int = 0

    def update(self, expected: Codes, got: Mapping[str, Codes], seen: np.ndarray) -> None:
        """Count one batch; ``seen`` (256,) or (65 536,) bool collects the codes met so far."""
        self.compared += expected.size
        seen[np.unique(expected).astype(np.int64) + len(seen) // 2] = True
        self.levels = int(seen.sum())
        for runtime, values in got.items():
            lsb = np.abs(values.astype(np.int64) - expected.astype(np.int64))
            self.differing[runtime] = self.differing.get(runtime, 0) + int(np.count_nonzero(lsb))
            self.max_lsb[runtime] = max(self.max_lsb.get(runtime, 0), int(lsb.max()))


@dataclass
class ParityReport:
    """What was compared and what differed. ``tensors`` stand in execution order, outputs alone unless asked for more.

    Attributes:
        images: how many. runtimes: names of those that must agree with torch. missing: name -> why it is not there.
        refused: name -> why it cannot run the file; then nothing is proven.
        default_kernels: outputs under LiteRT's other kernels, the default ones unless ``other`` says
            ``reference``, against torch; empty where not run.
        warnings: what makes the proof weaker.
        kernels: what really ran, by runtime.
        unproven: why nothing could be compared at all (``Profile.unproven``).
        second: what is proved of a second arithmetic (``IntGraph.second``), line by line; empty where there is none.
        differing_operators: how many operators have other codes in that, for some input.
        other_is_second: LiteRT's other kernels are those of the second arithmetic.
    """

    images: int
    runtimes: tuple[str, ...]
    missing: dict[str, str]
    tensors: list[TensorParity]
    default_kernels: list[TensorParity] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    other: str = "default"
    kernels: dict[str, KernelsUsed] = field(default_factory=dict)
    unproven: str = ""
    second: list[str] = field(default_factory=list)
    differing_operators: int = 0
    other_is_second: bool = False

    @property
    def compared(self) -> int:
        """Values of the torch executor, each compared with every runtime."""
        return sum(t.compared for t in self.tensors) if self.runtimes else 0

    @property
    def differing(self) -> int:
        """Differing values, summed over the runtimes."""
        return sum(sum(t.differing.values()) for t in self.tensors)

    @property
    def ok(self) -> bool:
        """Something was compared with at least one runtime, nothing differs, and none refused the file."""
        return bool(self.runtimes) and self.compared > 0 and self.differing == 0 and not self.refused

    @property
    def first_differing(self) -> str | None:
        """Name of the first tensor, in execution order, in which a value differs."""
        return next((t.name for t in self.tensors if any(t.differing.values())), None)

    @property
    def default_differing_share(self) -> float:
        """Share of output values that LiteRT's :attr:`other` kernels compute differently, in [0, 1]."""
        total = sum(t.compared for t in self.default_kernels)
        return sum(sum(t.differing.values()) for t in self.default_kernels) / total if total else 0.0

    @property
    def default_differing(self) -> int:
        """Output values that LiteRT's :attr:`other` kernels compute differently."""
        return sum(sum(t.differing.values()) for t in self.default_kernels)

    @property
    def default_max_lsb(self) -> int:
        return max((max(t.max_lsb.values(), default=0) for t in self.default_kernels), default=0)

    def line(self) -> str:
        """The verdict in one line."""
        if self.unproven:
            return f"parity: {self.unproven}"
        sign = " = " if self.ok else " vs "
        names = sign.join(["torch", *self.runtimes])
        absent = "".join(f"; {name} not installed" for name in self.missing)
        absent += "".join(f"; {name} REFUSES the file: {why}" for name, why in self.refused.items())
        return f"parity: {self.compared} values compared, {self.differing} differing ({names}{absent})"

    def text(self) -> str:
        """The report for a terminal: the verdict, what differs, levels of outputs, what ran, other kernels' drift."""
        said = [self.line()]
        for tensor in self.tensors:
            for runtime, count in tensor.differing.items():
                if count:
                    said.append(
                        f"  {tensor.name}: {count} of {tensor.compared} values differ in {runtime}, "
                        f"by at most {tensor.max_lsb[runtime]} LSB"
                    )
        if self.first_differing is not None:
            said.append(f"  first differing tensor: {self.first_differing}")
        outputs = ", ".join(f"{t.name} {t.levels}" for t in self.tensors if t.is_output)
        said.append(f"  {self.images} images; distinct codes of each output: {outputs}")
        if self.kernels:
            said.append("  run by " + "; ".join(dict.fromkeys(used.text() for used in self.kernels.values())))
        said += [f"  warning: {text}" for text in self.warnings]
        said += [f"  {text}" for text in self.second]
        if self.default_kernels:
            what = "the second arithmetic's" if self.other_is_second else "not part of the verdict"
            said.append(
                f"  LiteRT's {self.other} kernels ({what}): {self.default_differing_share:.1%} of the output values "
                f"differ, by at most {self.default_max_lsb} LSB ({self.default_differing} values)"
            )
        return "\n".join(said)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a JSON file."""
        return {
            "ok": self.ok,
            "images": self.images,
            "compared": self.compared,
            "differing": self.differing,
            "runtimes": ["torch", *self.runtimes],
            "missing": self.missing,
            "refused": self.refused,
            "unproven": self.unproven,
            "first_differing": self.first_differing,
            "tensors": [asdict(t) for t in self.tensors],
            "warnings": self.warnings,
            "kernels": {name: used.record() for name, used in self.kernels.items()},
            "default_kernels": {
                "kernels": self.other,
                "differing_share": self.default_differing_share,
                "differing": self.default_differing,
                "max_lsb": self.default_max_lsb,
                "tensors": [asdict(t) for t in self.default_kernels],
            },
            "second": {"differing_operators": self.differing_operators, "text": self.second} if self.second else None,
            "text": self.line(),
        }


def check_parity(
    graph: IntGraph,
    tflite_bytes: bytes,
    inputs: torch.Tensor | np.ndarray,
    intermediates: bool = False,
    default_kernels: bool = True,
    executor: IntExecutor | None = None,
) -> ParityReport:
    """Run the torch executor and the runtimes of the graph's profile on the same input codes and compare every value.

    Args:
        graph: the integer model.
        tflite_bytes: the file that was written from it.
        inputs: int8 codes (N, C, H, W), N >= 1: real images through the validation preprocessing.
        intermediates: compare every tensor of the graph, not only the outputs.
        default_kernels: measure the drift of LiteRT's other kernels too.
        executor: what computes the expected values; by default one for ``graph`` on the CPU.

    Returns:
        The report. A difference, or a runtime that refuses the file, raises nothing: see :attr:`ParityReport.ok`.

    Raises:
        UserError: no such runtime is installed. ValueError: the inputs do not fit the graph.
    """
    codes = _checked_inputs(graph, inputs)
    runtimes, missing, refused = try_runtimes(tflite_bytes, intermediates, graph.profile.runtimes)
    if not runtimes and not refused and not graph.profile.unproven:
        raise UserError("parity needs a runtime: " + "; ".join(missing.values()))
    executor = executor or IntExecutor(graph)
    outputs = output_names(graph)
    comparison = _Comparison(graph, [r.name for r in runtimes], intermediates)
    drift = _Comparison(graph, [], False)
    second = None if graph.second is None else graph.second.name
    other = other_kernels(graph.profile.name, second)
    wanted = default_kernels and not any(name.startswith("LiteRT") for name in missing)
    default, why = _other_runtime(tflite_bytes, other) if wanted else (None, "")
    pace = Pace("comparing the runtimes", len(codes))
    ahead = [*([] if intermediates else runtimes), *([default] if default is not None else [])]
    for number, image, outputs_of in images_ahead(codes, ahead):
        expected = _run_torch(graph, executor, image, intermediates)
        if intermediates:
            comparison.update(expected, {r.name: r.run_all(to_nhwc(image)) for r in runtimes})
        else:
            comparison.update(expected, {r.name: outputs_of(r, number) for r in runtimes})
        if default is not None:
            drift.update({n: expected[n] for n in outputs}, {default.name: outputs_of(default, number)})
        pace.step()
    others = disagreements(graph, graph.second) if graph.second is not None else []
    report = ParityReport(
        images=len(codes),
        runtimes=tuple(r.name for r in runtimes),
        missing=missing,
        tensors=comparison.ordered,
        default_kernels=drift.ordered if default is not None else [],
        warnings=[f"{why}; programs that use these kernels cannot run it (not part of the verdict)"] if why else [],
        refused=refused,
        other=other,
        kernels={r.name: used_by(r) for r in runtimes},
        unproven=graph.profile.unproven,
        second=list(lines(graph, graph.second, others)) if graph.second is not None else [],
        differing_operators=len(others),
        other_is_second=graph.second is not None and graph.second.litert == other,
    )
    report.warnings += _warnings(report, graph.profile.name)
    return report


class _Comparison:
    """Accumulates :class:`TensorParity` of the tensors of a graph, in execution order."""

    def __init__(self, graph: IntGraph, runtimes: list[str], intermediates: bool) -> None:
        self.outputs = set(output_names(graph))
        names = file_names(graph)
        kept = [names[op.output] for op in graph.ops if intermediates or op.output in graph.outputs]
        zeros = dict.fromkeys(runtimes, 0)
        self.tensors = {n: TensorParity(n, n in self.outputs, 0, dict(zeros), dict(zeros)) for n in kept}
        bits = {names[name]: info.qparams.bits for name, info in graph.tensors.items()}
        self.seen = {n: np.zeros(1 << bits[n], dtype=bool) for n in kept}

    @property
    def ordered(self) -> list[TensorParity]:
        return list(self.tensors.values())

    def update(self, expected: dict[str, Codes], results: Mapping[str, dict[str, Codes]]) -> None:
        for name, tensor in self.tensors.items():
            tensor.update(expected[name], {r: values[name] for r, values in results.items()}, self.seen[name])


def _checked_inputs(graph: IntGraph, inputs: torch.Tensor | np.ndarray) -> torch.Tensor:
    codes = torch.as_tensor(inputs)
    shape = graph.tensors[graph.inputs[0]].shape
    if codes.dtype != torch.int8 or codes.dim() != 4 or tuple(codes.shape[1:]) != shape or len(codes) == 0:
        raise ValueError(
            f"parity takes int8 codes (images, {shape}), at least one, got {codes.dtype} {tuple(codes.shape)}"
        )
    return codes


def _run_torch(graph: IntGraph, executor: IntExecutor, image: torch.Tensor, everything: bool) -> dict[str, Codes]:
    """Results by name in the file, NHWC."""
    names = file_names(graph)
    if everything:
        return {names[n]: to_nhwc(v) for n, v in executor(image, keep=True).items()}
    return {names[n]: to_nhwc(v) for n, v in zip(graph.outputs, executor(image), strict=True)}


def _other_runtime(model: bytes, kernels: str) -> tuple[Runtime | None, str]:
    """LiteRT with other kernels, or None and why it refuses the model."""
    try:
        return LiteRTRuntime(model, kernels=kernels), ""
    except ModelRefused as error:
        return None, str(error)


def _warnings(report: ParityReport, profile: str) -> list[str]:
    few = [f"{t.name} ({t.levels})" for t in report.tensors if t.is_output and t.levels < FEW_LEVELS]
    texts = []
    if few and not report.unproven:
        texts.append(
            f"outputs with fewer than {FEW_LEVELS} distinct codes prove little: {', '.join(few)}; is the network "
            "trained?"
        )
    for name in report.missing:
        texts.append(f"{name} is not installed and was not compared")
    found = (used.warning(profile) for used in report.kernels.values())
    return texts + [text for text in found if text is not None]
