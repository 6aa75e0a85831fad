"""Arm's Ethos-U compiler: run it on an int8 file, and read what it did and what it estimates.

Vela (package ``ethos-u-vela``) is run as a program of its own in a temporary folder; only finished files leave it. Its
per-layer table is read as it writes it (``--verbose-performance``); :mod:`hatdet.export.vela.report` makes a report.
"""

from __future__ import annotations

import csv
import importlib.util
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from hatdet.export.arithmetic import file_arithmetic, refuse_other
from hatdet.export.seal import seal
from hatdet.export.targets.table import Target
from hatdet.export.tflite.file_operators import FileModel, read_file
from hatdet.export.vela.unpack import with_int8_weights
from hatdet.utils.errors import UserError

CONFIG_FILE = "Arm/vela.ini"
"""Comes with Vela: the memories of typical systems."""

OPT_LEVELS: dict[int, str] = {0: "Size", 1: "Performance", 2: "Performance"}
"""``--opt`` as ``--optimise``: 0 takes the least memory, 1 and 2 the least time (Vela has no third strategy)."""

NPU_OPERATOR = "ethos-u"
INSTALL_HINT = "install it with: pip install 'hatdet[vela]' (package ethos-u-vela)"
OTHER_VERSION = "install a version 5 of it: pip install 'ethos-u-vela>=5,<6'"
TIME_LIMIT = 1800.0


class VelaMissing(UserError):
    """Vela is not installed; the message says how to get it."""


@dataclass(frozen=True)
class VelaRow:
    """A line of Vela's per-layer table: a pass over a map. Cycles overlap: ``cycles`` is the largest of its parts.

    Attributes:
        original: operator of the file, in Vela's words. operator: what runs. target: ``NPU`` or ``CPU``.
        name: a tensor, its own or one further down. sram_bytes: activations in SRAM meanwhile.
        utilisation: MACs done of those possible meanwhile, in per cent.
    """

    original: str
    operator: str
    target: str
    name: str
    cycles: int
    npu_cycles: int
    sram_cycles: int
    dram_cycles: int
    flash_cycles: int
    macs: int
    sram_bytes: int
    utilisation: float


@dataclass(frozen=True)
class VelaResult:
    """What one run of Vela gave.

    Attributes:
        data: the compiled ``.tflite``. version: Vela's. target, optimise, system_config, memory_mode: its settings.
        source: the operators of the file before compilation, compiled: of the file after it.
        rows: the per-layer table. summary: the columns of Vela's summary file, as text.
    """

    data: bytes
    version: str
    target: Target
    optimise: str
    system_config: str
    memory_mode: str
    source: FileModel
    compiled: FileModel
    rows: tuple[VelaRow, ...]
    summary: dict[str, str]

    @property
    def cpu_operators(self) -> tuple[str, ...]:
        """Operators of the compiled file that are left to the CPU."""
        return tuple(op.code for op in self.compiled.operators if op.code != NPU_OPERATOR)

    def number(self, column: str) -> float:
        """A number of the summary."""
        return float(self.summary[column])


def vela_command() -> list[str]:
    """How to start Vela: as a module of this Python, or the program ``vela``.

    Raises:
        VelaMissing: it is not installed.
    """
    if importlib.util.find_spec("ethosu") is not None and importlib.util.find_spec("ethosu.vela") is not None:
        return [sys.executable, "-m", "ethosu.vela"]
    program = shutil.which("vela")
    if program is None:
        raise VelaMissing(f"Vela, the compiler for Ethos-U, is not installed; {INSTALL_HINT}")
    return [program]


def vela_version() -> str:
    """Vela's version, e.g. ``5.2.0``.

    Raises:
        UserError: it is not installed, or does not start.
    """
    return _run([*vela_command(), "--version"], None).strip()


def compile_file(
    data: bytes,
    target: Target,
    *,
    opt: int = 2,
    system_config: str | None = None,
    memory_mode: str | None = None,
    config: str | Path | None = None,
    modules: dict[str, str] | None = None,
) -> VelaResult:
    """Compile an int8 ``.tflite`` model; the same model and settings give the same bytes.

    Args:
        data: the model.
        target: a preset with an NPU.
        opt: 0, 1 or 2, see :data:`OPT_LEVELS`.
        system_config, memory_mode: sections of the configuration file; None: the target's.
        config: a Vela configuration file (.ini); None: the one that comes with Vela.
        modules: see :func:`hatdet.export.tflite.file_operators.read_file`.

    Raises:
        UserError: Vela is not installed, or refuses the model or the settings (with its own words); the model is made
            for another arithmetic than the NPU's.
    """
    if opt not in OPT_LEVELS:
        raise UserError(f"--opt is {opt}; use 0 (least memory), 1 or 2 (least time)")
    if config is not None and not Path(config).is_file():
        raise UserError(
            f"no such Vela configuration file: {config}; name a file that is there, or leave --vela-config out"
        )
    source = read_file(data, modules)
    if any(op.code == NPU_OPERATOR for op in source.operators):
        raise UserError("this model has been compiled by Vela already; give the int8 file from before")
    refuse_other(file_arithmetic(data), target.name)
    command = vela_command()
    version = vela_version()
    system_config, memory_mode = system_config or target.system_config, memory_mode or target.memory_mode
    with tempfile.TemporaryDirectory(prefix="hatdet-vela-") as folder:
        # The name goes into the compiled file: a fixed one keeps its bytes independent of where it lies.
        (Path(folder) / "model.tflite").write_bytes(with_int8_weights(data))
        arguments = [
            "model.tflite", "--output-dir", "out", "--verbose-performance", "--optimise", OPT_LEVELS[opt],
            "--config", str(Path(config).resolve()) if config is not None else CONFIG_FILE,
            "--accelerator-config", target.name, "--system-config", system_config, "--memory-mode", memory_mode,
        ]  # fmt: skip
        _run([*command, *arguments], folder)
        out = Path(folder) / "out"
        compiled = seal(_only(out, "*_vela.tflite").read_bytes())  # Vela keeps the checksum of the file before
        rows = tuple(_read_rows(_only(out, "*_per-layer.csv")))
        summary = _read_table(_only(out, "*_summary_*.csv"))[0]
    return VelaResult(
        compiled, version, target, OPT_LEVELS[opt], system_config, memory_mode, source, read_file(compiled), rows,
        summary,
    )  # fmt: skip


def _run(command: list[str], folder: str | None) -> str:
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=TIME_LIMIT, check=False)
    except subprocess.TimeoutExpired as error:
        raise UserError(
            f"Vela did not finish within {TIME_LIMIT:.0f} seconds; try another --opt, or a smaller image size"
        ) from error
    except OSError as error:
        raise UserError(f"Vela does not start ({error}); {OTHER_VERSION}") from error
    if done.returncode != 0:
        raise UserError(f"Vela failed: {_reason(done.stdout + done.stderr)}")
    return done.stdout


def _reason(text: str) -> str:
    """The line of Vela's output that says what is wrong: the last error, else the last line."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if re.match(r"(\w*Error|\w*Exception|Error)\b", line)]
    return (errors or lines or ["it said nothing"])[-1]


def _only(folder: Path, pattern: str) -> Path:
    found = sorted(folder.glob(pattern))
    if not found:
        raise UserError(f"this version of Vela wrote no {pattern}; {OTHER_VERSION}")
    return found[0]


def _read_table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _read_rows(path: Path) -> list[VelaRow]:
    try:
        return [
            VelaRow(
                original=row["Original Operator"],
                operator=row["NNG Operator"],
                target=row["Target"],
                name=row["Name"],
                cycles=int(row["Op Cycles"]),
                npu_cycles=int(row["NPU"]),
                sram_cycles=int(row["SRAM AC"]),
                dram_cycles=int(row["DRAM AC"]),
                flash_cycles=int(row["OnFlash AC"]) + int(row["OffFlash AC"]),
                macs=int(row["MAC Count"]),
                sram_bytes=int(row["Staging Usage"]),
                utilisation=float(row["Util% (MAC)"]),
            )
            for row in _read_table(path)
        ]
    except (KeyError, ValueError) as error:
        raise UserError(
            f"Vela's per-layer table has another form than that of version 5: {error}; {OTHER_VERSION}"
        ) from error
