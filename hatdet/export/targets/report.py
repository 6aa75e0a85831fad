"""What the check before training found, for a terminal and as plain values."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from hatdet.export.targets.boards import Board
from hatdet.export.targets.table import Target
from hatdet.export.tflite.file_operators import FileModel, FileOperator
from hatdet.integer.arithmetic import PROFILE
from hatdet.integer.profiles.table import profile_named

REFUSED, WARNING, INFO = "refused", "warning", "info"


@dataclass(frozen=True)
class Finding:
    """One thing that was found. ``severity``: refused (cannot be trained for this target), warning or info."""

    severity: str
    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.severity}: {self.path}: {self.message}" if self.path else f"{self.severity}: {self.message}"


@dataclass
class CheckReport:
    """What :func:`~hatdet.export.targets.check.check_model` found.

    Attributes:
        model: the operators of the file; None where the model could not be lowered.
        parameters: of the float model. file: what the target would get, with random weights; None as ``model``.
        board: whose memory and limits were checked too; None: no board was named.
        arithmetic: name of the profile that the model is made for. second: of one whose codes its scales are to give
            too; "": no other.
    """

    target: Target
    image_size: tuple[int, int]
    parameters: int
    findings: list[Finding] = field(default_factory=list)
    model: FileModel | None = None
    file: bytes | None = field(default=None, repr=False)
    board: Board | None = None
    arithmetic: str = PROFILE
    second: str = ""

    @property
    def refused(self) -> list[Finding]:
        return [finding for finding in self.findings if finding.severity == REFUSED]

    @property
    def ok(self) -> bool:
        return not self.refused

    def add(self, severity: str, path: str, message: str) -> None:
        finding = Finding(severity, path, message)
        if finding not in self.findings:
            self.findings.append(finding)

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        model = self.model
        sizes: dict[str, Any] = {}
        if model is not None:
            peak, at = model.peak_activation()
            sizes = {"operators": model.counts(), "macs": model.macs, "constant_bytes": model.constant_bytes,
                     "file_bytes": len(self.file or b""), "peak_activation_bytes": peak,
                     "peak_activation_at": at}  # fmt: skip
        return {
            "target": self.target.name,
            "arithmetic": self.arithmetic,
            **({"second_arithmetic": self.second} if self.second else {}),
            "image_size": list(self.image_size),
            "ok": self.ok,
            "parameters": self.parameters,
            "findings": [{"severity": f.severity, "path": f.path, "message": f.message} for f in self.findings],
            **sizes,
            **({"board": self.board.to_dict()} if self.board is not None else {}),
        }

    def text(self, verbose: bool = False) -> str:
        """For a terminal: findings, sizes, and with ``verbose`` a table of the layers with their types."""
        height, width = self.image_size
        lines = [f"target {self.target.name}: {self.target.file}; {self.target.runs}"]
        lines.append(f"arithmetic {self.arithmetic}: {profile_named(self.arithmetic).kernels}")
        if self.second:
            lines.append(f"second arithmetic {self.second}: {profile_named(self.second).kernels}")
        lines.append(f"input {height}x{width}")
        if self.board is not None:
            lines.append(self.board.text())
        order = {REFUSED: 0, WARNING: 1, INFO: 2}
        found = sorted(self.findings, key=lambda f: order[f.severity])
        lines += [f"  {line}" for line in (found if verbose else _grouped(found))]
        if self.model is not None:
            lines += self._sizes(self.model)
            if verbose:
                lines += ["", *layer_table(self.model, {(f.path, f.message.split()[0]) for f in self.refused})]
        fits = f", and nothing known of {self.board.name} speaks against it" if self.board is not None else ""
        count = len(self.refused)
        refusal = f"REFUSED: {'1 thing is' if count == 1 else f'{count} things are'} refused"
        return "\n".join([*lines, f"ok: every operator runs there{fits}" if self.ok else refusal])

    def _sizes(self, model: FileModel) -> list[str]:
        peak, at = model.peak_activation()
        size = len(self.file or b"")
        counts = ", ".join(f"{count} {code}" for code, count in model.counts().items())
        return [
            f"{len(model.operators)} operators: {counts}",
            f"{self.parameters / 1e6:.3f} M parameters, {model.macs / 1e6:.1f} M MACs, "
            f"weights {model.constant_bytes / 1024:.1f} KiB of a file of {size / 1024:.1f} KiB, activations at most "
            f"{peak / 1024:.1f} KiB (at {at})",
        ]


def _grouped(findings: list[Finding]) -> list[str]:
    """A line for each finding; those that are no refusals and say the same share one."""
    groups: dict[Any, list[Finding]] = {}
    for i, finding in enumerate(findings):
        key = i if finding.severity == REFUSED else (finding.severity, finding.message)
        groups.setdefault(key, []).append(finding)
    return [
        str(same[0]) if len(same) == 1 else f"{same[0]} ({len(same)} times, the last {same[-1].path})"
        for same in groups.values()
    ]


def layer_table(model: FileModel, refused: set[tuple[str, str]]) -> Iterator[str]:
    """A line for each operator: module, operator, types of input, weights and output, output shape, work.

    ``refused``: paths and operators that are marked.
    """
    rows = [("module", "operator", "input", "weights", "output", "shape", "MACs", "KiB", "")]
    for op in model.operators:
        rows.append((
            op.path, op.code + (f" + {op.activation}" if op.activation else ""), _dtypes(op, False), _weights(op),
            op.outputs[0].dtype.lower(), "x".join(str(n) for n in op.outputs[0].shape[1:]), f"{op.macs:,}",
            f"{op.constant_bytes / 1024:.1f}", "REFUSED" if (op.path, op.code) in refused else "",
        ))  # fmt: skip
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        yield "  ".join(c.rjust(w) if 6 <= i <= 7 else c.ljust(w) for i, (c, w) in enumerate(zip(row, widths))).rstrip()


def _dtypes(op: FileOperator, constant: bool) -> str:
    return ", ".join(dict.fromkeys(t.dtype.lower() for t in op.inputs if t.constant is constant))


def _weights(op: FileOperator) -> str:
    if not op.weighted:
        return ""
    bias = f", bias {op.inputs[2].dtype.lower()}" if len(op.inputs) > 2 else ""
    scales = f" in {op.weight.scales} channels" if op.weight.scales > 1 else ""
    return f"{op.weight.dtype.lower()}{scales}{bias}"
