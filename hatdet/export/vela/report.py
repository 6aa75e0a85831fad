"""The performance report of a compiled model: totals, a table with a row for each operator, what was verified.

As text, as plain values for JSON, and as one HTML page without scripts. The same run of Vela gives the same report: no
dates, no paths.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from hatdet.export.arithmetic import described, file_arithmetic
from hatdet.export.vela.compile import VelaResult
from hatdet.export.vela.layers import Layer, layers_of
from hatdet.integer.arithmetic import PROFILE
from hatdet.visualization.report import HtmlReport

NOT_RUN = (
    "The compiled file holds commands for the NPU, which only the device runs: its values were not computed here. "
    "What was verified is the int8 file before compilation."
)
ESTIMATES = "Cycles, latency and memory are Vela's estimates for the system it was told, not measurements."
WORST = 10


@dataclass(frozen=True)
class PerformanceReport:
    """What a compiled model costs.

    Attributes:
        result: the run of Vela. layers: see :func:`~hatdet.export.vela.layers.layers_of`.
        name: of the int8 file. sha256: of the int8 file's bytes. evidence: what is known of its verification.
        arithmetic: that the int8 file names.
    """

    result: VelaResult
    layers: tuple[Layer, ...]
    name: str
    sha256: str
    evidence: str
    arithmetic: str = PROFILE

    @property
    def running(self) -> list[Layer]:
        """Layers that cost something: those that Vela absorbed into others are left out."""
        return [layer for layer in self.layers if layer.passes or layer.where == "CPU"]

    @property
    def worst(self) -> list[Layer]:
        """The same, those left to the CPU first, then by cycles."""
        return sorted(self.running, key=lambda layer: (layer.where == "NPU", -layer.cycles))

    @property
    def totals(self) -> dict[str, Any]:
        """Numbers of the whole network; bytes, cycles and milliseconds."""
        result, number = self.result, self.result.number
        operators, on_cpu = len(result.source.operators), len(result.cpu_operators)
        cycles = int(number("cycles_total"))
        possible = cycles * result.target.macs_per_cycle
        return {
            "latency_ms": 1e3 * number("inference_time"),
            "fps": number("inferences_per_second"),
            "cycles": cycles,
            "clock_mhz": number("core_clock") / 1e6,
            "macs": result.source.macs,
            "vela_macs": int(number("nn_macs")),
            "utilisation": 100 * number("nn_macs") / possible if possible else 0.0,
            "sram_bytes": round(1024 * number("sram_memory_used")),
            "flash_bytes": round(1024 * (number("on_chip_flash_memory_used") + number("off_chip_flash_memory_used"))),
            "dram_bytes": round(1024 * number("dram_memory_used")),
            "operators": operators,
            "cpu_operators": on_cpu,
            "npu_share": 100 * (operators - on_cpu) / operators if operators else 0.0,
            "passes": sum(layer.passes for layer in self.layers),
        }

    def to_dict(self) -> dict[str, Any]:
        """Everything, as plain values."""
        result = self.result
        return {
            "model": self.name,
            "sha256": self.sha256,
            "target": result.target.name,
            "arithmetic": self.arithmetic,
            "vela": result.version,
            "system_config": result.system_config,
            "memory_mode": result.memory_mode,
            "optimise": result.optimise,
            "compiled_bytes": len(result.data),
            "compiled_sha256": hashlib.sha256(result.data).hexdigest(),
            "verified": f"{NOT_RUN} {self.evidence}",
            "totals": self.totals,
            "cpu_operators": list(result.cpu_operators),
            "layers": [asdict(layer) for layer in self.layers],
        }

    def summary(self) -> str:
        """Totals and verification, as lines."""
        lines = [*(f"{name:<12} {value}" for name, value in self._facts()), "", ESTIMATES, NOT_RUN, self.evidence]
        return "\n".join(lines)

    def _facts(self) -> list[tuple[str, str]]:
        t, result = self.totals, self.result
        memory = [("SRAM", t["sram_bytes"]), ("flash", t["flash_bytes"]), ("DRAM", t["dram_bytes"])]
        left = f": {', '.join(result.cpu_operators)} run on the CPU" if t["cpu_operators"] else ""
        without = " without the CPU's part, which Vela does not know" if t["cpu_operators"] else ""
        return [
            ("model", f"{self.name} (sha256 {self.sha256[:16]})"),
            ("target", f"{result.target.name}, {result.system_config}, {result.memory_mode}, {result.optimise}"),
            ("arithmetic", described(self.arithmetic)),
            ("compiler", f"Vela {result.version}"),
            ("latency", f"{t['latency_ms']:.3f} ms, {t['fps']:.1f} FPS at {t['clock_mhz']:.0f} MHz{without}"),
            ("memory", ", ".join(f"{name} {size / 1024:.1f} KiB" for name, size in memory if size)),
            ("work", f"{t['macs'] / 1e6:.1f} M MACs, {t['cycles']:,} cycles, {t['utilisation']:.1f} % of MAC units"),
            ("on the NPU", f"{t['operators'] - t['cpu_operators']} of {t['operators']} operators "
             f"({t['npu_share']:.1f} %) in {t['passes']} passes{left}"),
        ]  # fmt: skip

    def short_text(self) -> str:
        """Totals and the worst layers."""
        title = f"The {min(WORST, len(self.running))} most costly operators"
        return f"{self.summary()}\n\n{title}\n{_table(self.worst[:WORST])}"

    def text(self) -> str:
        """The whole report: totals, the worst layers, all layers in the order in which they run."""
        parts = [
            self.short_text(),
            "All operators, in the order in which they run\n" + _table(self.running),
            self._absorbed(),
        ]
        return "\n\n".join(part for part in parts if part) + "\n"

    def _absorbed(self) -> str:
        gone: dict[str, int] = {}
        for layer in self.layers:
            if layer not in self.running:
                gone[layer.code] = gone.get(layer.code, 0) + 1
        counts = ", ".join(f"{count} {code}" for code, count in sorted(gone.items()))
        return f"Absorbed into other operators, at no cost of their own: {counts}" if counts else ""

    def html(self) -> str:
        """The report as one page; most costly layers first, with a bar each."""
        page = HtmlReport(f"{self.name} on {self.result.target.name}")
        page.preformatted("\n".join(f"{name:<12} {value}" for name, value in self._facts()))
        left = len(self.result.cpu_operators)
        verdict = "Every operator runs on the NPU." if not left else f"{left} operators are left to the CPU."
        page.text(verdict, verdict=not left)
        page.text(f"{NOT_RUN} {self.evidence}")
        page.text(ESTIMATES)
        page.heading("Operators, most costly first")
        longest = max((layer.cycles for layer in self.running), default=0) or 1
        rows = [[_cells(layer)[i] for i in _NARROW] for layer in self.worst]
        page.table([_HEADER[i] for i in _NARROW], rows, [layer.cycles / longest for layer in self.worst])
        if self._absorbed():
            page.text(self._absorbed())
        page.heading("In the order in which they run")
        page.table(_HEADER, [_cells(layer) for layer in self.running])
        return page.render()


def performance_report(result: VelaResult, data: bytes, name: str, evidence: str) -> PerformanceReport:
    """The report on one run of Vela.

    Args:
        data: the int8 file that was compiled. name: its file name.
        evidence: a sentence on how the int8 file was verified.
    """
    digest = hashlib.sha256(data).hexdigest()
    return PerformanceReport(result, tuple(layers_of(result)), name, digest, evidence, file_arithmetic(data))


_HEADER = ("module", "operator", "on", "output", "cycles", "%", "MACs", "MAC use %", "SRAM KiB", "weights KiB",
           "flash/DRAM cycles")  # fmt: skip
_NARROW = (0, 1, 2, 4, 5, 6, 7, 8, 9)
"""Columns that fit beside a bar."""


def _cells(layer: Layer) -> tuple[str, ...]:
    known = layer.where == "NPU"
    return (
        layer.path,
        layer.code,
        layer.where,
        "x".join(str(side) for side in layer.shape),
        f"{layer.cycles:,}" if known else "?",
        f"{layer.share:.2f}" if known else "?",
        f"{layer.macs:,}",
        f"{layer.utilisation:.1f}" if known else "?",
        f"{layer.sram_bytes / 1024:.1f}",
        f"{layer.weight_bytes / 1024:.1f}",
        f"{layer.memory_cycles:,}",
    )


def _table(layers: Sequence[Layer]) -> str:
    rows = [_HEADER, *(_cells(layer) for layer in layers)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(_HEADER))]
    lines = [
        "  ".join(cell.ljust(w) if i < 3 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths))).rstrip()
        for row in rows
    ]
    return "\n".join((lines[0], "-" * max(map(len, lines)), *lines[1:]))
