"""ONNX files under onnxruntime against the models they were written from.

The explicit-integer form must equal the torch executor: 0 differing values. The QDQ form is the runtime's own
arithmetic: its drift is measured in LSB (units of an output's code). A float file may differ from torch by rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hatdet.export.metadata import INPUT_NAME, file_names, output_names
from hatdet.export.onnx.file import open_session
from hatdet.integer.executor import IntExecutor
from hatdet.integer.graph import IntGraph

FLOAT_TOLERANCE = 1e-4
"""Largest difference of a float output that counts as rounding, relative to the output's largest magnitude."""


@dataclass
class TensorDrift:
    """Comparison of one tensor over all images.

    Attributes:
        compared, differing: counts of values. max_lsb, sum_lsb: of the absolute differences. levels: distinct codes.
        bits: of a code, 8 or 16; a unit of 16 bits is a 256th of what one of 8 would be.
    """

    name: str
    compared: int = 0
    differing: int = 0
    max_lsb: int = 0
    sum_lsb: int = 0
    levels: int = 0
    bits: int = 8

    def update(self, expected: np.ndarray, got: np.ndarray, seen: set[int]) -> None:
        """Count one image; ``seen`` collects the expected codes."""
        lsb = np.abs(got.astype(np.int64) - expected.astype(np.int64))
        seen.update(np.unique(expected).tolist())
        self.compared += lsb.size
        self.differing += int(np.count_nonzero(lsb))
        self.max_lsb = max(self.max_lsb, int(lsb.max()))
        self.sum_lsb += int(lsb.sum())
        self.levels = len(seen)


@dataclass
class IntegerComparison:
    """An integer ONNX file against the torch executor.

    Attributes:
        exact: whether equality is demanded. tensors: in execution order; outputs alone unless asked for more.
    """

    exact: bool
    images: int
    tensors: list[TensorDrift]

    @property
    def compared(self) -> int:
        return sum(t.compared for t in self.tensors)

    @property
    def differing(self) -> int:
        return sum(t.differing for t in self.tensors)

    @property
    def max_lsb(self) -> int:
        return max((t.max_lsb for t in self.tensors), default=0)

    @property
    def mean_lsb(self) -> float:
        """Mean absolute difference over all values."""
        return sum(t.sum_lsb for t in self.tensors) / max(1, self.compared)

    @property
    def ok(self) -> bool:
        """Something was compared, and where equality is demanded nothing differs."""
        return self.compared > 0 and (not self.exact or self.differing == 0)

    @property
    def first_differing(self) -> str | None:
        return next((t.name for t in self.tensors if t.differing), None)

    def text(self) -> str:
        """For a terminal."""
        if self.exact:
            sign = "torch = onnxruntime" if self.ok else f"torch vs onnxruntime; first: {self.first_differing}"
            head = f"parity: {self.compared} values compared, {self.differing} differing ({sign})"
        else:
            head = (
                f"drift: onnxruntime's own rounding gives {self.differing / max(1, self.compared):.2%} of "
                f"{self.compared} values another code, by at most {self.max_lsb} LSB, {self.mean_lsb:.3f} in the mean"
                + (" (outputs of 16 bits among them)" if any(t.bits == 16 for t in self.tensors) else "")
            )
        lines = [head, *(self._line(t) for t in self.tensors if t.differing)]
        return "\n".join([*lines, f"  {self.images} images; distinct codes of each: {self._levels()}"])

    def _line(self, t: TensorDrift) -> str:
        share, mean = t.differing / t.compared, t.sum_lsb / t.compared
        wide = " of 16 bits" if t.bits == 16 else ""
        return f"  {t.name}: {share:.2%} differ, by at most {t.max_lsb} LSB{wide}, {mean:.3f} in the mean"

    def _levels(self) -> str:
        return ", ".join(f"{t.name} {t.levels}" for t in self.tensors)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a JSON file."""
        return {
            "ok": self.ok,
            "exact": self.exact,
            "images": self.images,
            "compared": self.compared,
            "differing": self.differing,
            "max_lsb": self.max_lsb,
            "mean_lsb": self.mean_lsb,
            "first_differing": self.first_differing,
            "tensors": [asdict(t) for t in self.tensors],
            "text": self.text().splitlines()[0],
        }


def compare_integer(
    graph: IntGraph, model: bytes, codes: Tensor, *, exact: bool, optimize: bool = True
) -> IntegerComparison:
    """Run an integer ONNX file and the torch executor on the same images.

    Args:
        model: what :func:`~hatdet.export.onnx.qdq.write_qdq` or :func:`~hatdet.export.onnx.exact.write_exact` wrote,
            also with ``keep_tensors``: every output that is a tensor of the graph is compared.
        codes: int8 (N, C, H, W), N >= 1.
        exact: whether equality is demanded.
        optimize: with onnxruntime's graph optimizations.

    Raises:
        UserError: onnxruntime is not installed. ValueError: there is no image.
    """
    if len(codes) == 0:
        raise ValueError("a comparison needs at least one image")
    session = open_session(model, optimize)
    executor = IntExecutor(graph)
    tensors = {name: tensor for tensor, name in file_names(graph).items()}
    tensors |= dict(zip(output_names(graph), graph.outputs, strict=True))
    names = [value.name for value in session.get_outputs()]
    drifts = {name: TensorDrift(name, bits=graph.qparams(tensors[name]).bits) for name in names}
    seen: dict[str, set[int]] = {name: set() for name in names}
    every = len(names) > len(graph.outputs)
    for image in codes.split(1):
        values = executor(image, keep=True) if every else dict(zip(graph.outputs, executor(image), strict=True))
        for name, got in zip(names, run_codes(session, image), strict=True):
            drifts[name].update(values[tensors[name]].numpy(), got, seen[name])
    return IntegerComparison(exact, len(codes), list(drifts.values()))


def run_codes(session: Any, codes: Tensor) -> list[np.ndarray]:
    """The outputs of an integer ONNX file as int8 or int16 codes for one image's int8 codes (1, C, H, W)."""
    outputs = session.run(None, {INPUT_NAME: (codes.to(torch.int16) + 128).to(torch.uint8).cpu().numpy()})
    return [value if value.dtype == np.int16 else (value.astype(np.int16) - 128).astype(np.int8) for value in outputs]


@dataclass
class FloatComparison:
    """A float ONNX file against torch.

    Attributes:
        max_abs: largest absolute difference of each output. magnitude: its largest absolute value in torch.
    """

    images: int
    max_abs: dict[str, float] = field(default_factory=dict)
    magnitude: dict[str, float] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Every output agrees within rounding."""
        return bool(self.max_abs) and all(
            d <= FLOAT_TOLERANCE * max(1.0, self.magnitude[name]) for name, d in self.max_abs.items()
        )

    def text(self) -> str:
        """For a terminal."""
        each = ", ".join(f"{n} {d:.2g} (of {self.magnitude[n]:.3g})" for n, d in self.max_abs.items())
        verdict = "" if self.ok else f"; MORE than rounding ({FLOAT_TOLERANCE:g} of the largest magnitude)"
        worst = max(self.max_abs.values())
        return (
            f"onnxruntime against torch on {self.images} images: largest difference {worst:.3g}{verdict}\n"
            f"  of each output (of its largest magnitude): {each}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a JSON file."""
        return {"ok": self.ok, "images": self.images, "max_abs": self.max_abs, "magnitude": self.magnitude}


def compare_float(
    model: bytes, inputs: Tensor, reference: Callable[[Tensor], Sequence[Tensor]], optimize: bool = True
) -> FloatComparison:
    """Run a float ONNX file and torch on the same images.

    Args:
        inputs: what the file takes, float32 (N, 3, H, W), N >= 1.
        reference: one image of them -> the outputs in the file's order.

    Raises:
        UserError: onnxruntime is not installed. ValueError: there is no image.
    """
    if len(inputs) == 0:
        raise ValueError("a comparison needs at least one image")
    session = open_session(model, optimize)
    names = [value.name for value in session.get_outputs()]
    result = FloatComparison(len(inputs), dict.fromkeys(names, 0.0), dict.fromkeys(names, 0.0))
    for image, got in _outputs(session, inputs):
        with torch.no_grad():
            expected = reference(image)
        for name, ours, theirs in zip(names, got, expected, strict=True):
            difference = np.abs(ours.astype(np.float64) - theirs.numpy())
            result.max_abs[name] = max(result.max_abs[name], float(difference.max()))
            result.magnitude[name] = max(result.magnitude[name], float(theirs.abs().max()))
    return result


def _outputs(session: Any, inputs: Tensor) -> Iterator[tuple[Tensor, list[np.ndarray]]]:
    for image in inputs.split(1):
        yield image, session.run(None, {INPUT_NAME: image.contiguous().numpy()})
