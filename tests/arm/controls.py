"""What must be noticed: that other kernels, another core's formula and a wrong code differ.

A comparison in which nothing differs proves as much as it would have noticed.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from hatdet.export.runtimes.parity import FEW_LEVELS
from hatdet.integer import xnnpack as formulas
from tests.arm.cases import Case, Codes, write_case
from tests.arm.comparison import Row
from tests.arm.cpus import CPUS, Cpu
from tests.arm.machine import GUEST, ArmMachine
from tests.helpers.int_graphs import qparams
from tests.helpers.operator_files import PAIRS, convolution, pair

ARM_ROUNDS_UP = "control_products"


@dataclass(frozen=True)
class Control:
    """What was tried, and whether it came out as it must."""

    text: str
    passed: bool


def product_case(folder: Path) -> Case:
    """Products with the multiplier 1/256, which x86 rounds to even and ARM up: half of the ties differ. The arithmetic
    ``xnnpack`` refuses such scales; the file is written as one of the reference's and run with default kernels."""
    half, gate = qparams(0.5), qparams(1 / 256)
    graph = pair("mul", half, gate, half, profile="tflite_ref")
    case = write_case(folder, "control", ARM_ROUNDS_UP, graph, PAIRS)
    return replace(case, kernels="default", threads=(1,))


def product_control(cpu: str, found: Sequence[Codes]) -> Control:
    """The outputs of :func:`product_case` are ARM's formula, and x86's is noticed as another."""
    products = (PAIRS[0, 0].astype(np.int64) * PAIRS[0, 1].astype(np.int64)).reshape(found[-1].shape)
    multiplier = formulas.product_multiplier(0.5, 1 / 256, 0.5)
    there, here = (
        int((np.clip(formula(products, multiplier), -128, 127) != found[-1]).sum())
        for formula in (formulas.scaled_on_arm, formulas.scaled)
    )
    text = f"{cpu}: products that are ties: {there} of {products.size} differ from ARM's formula, {here} from x86's"
    return Control(text, there == 0 and here > 0)


def exchanged(case: Case) -> Case:
    """A model's file with the kernels that are *not* its arithmetic's."""
    other = "reference" if case.kernels == "default" else "default"
    return replace(case, row="control", kernels=other, threads=(1,))


def exchanged_control(cpu: str, case: Case, found: Sequence[Codes]) -> Control:
    """Kernels of the other arithmetic give other codes, and this is noticed."""
    differing = sum(int((found[i] != expected).sum()) for i, expected in case.expected.items())
    compared = sum(expected.size for expected in case.expected.values())
    text = f"{cpu}: {case.name} with the other kernels ({case.kernels}): {differing} of {compared} differ"
    return Control(text, differing > 0)


def planted_control(cpu: str, case: Case, found: Sequence[Codes]) -> Control:
    """One code of one tensor, one step off, is counted as one difference."""
    position = next(iter(case.expected))
    wrong = [value.copy() for value in found]
    flat = wrong[position].reshape(-1)
    flat[len(flat) // 2] += 1 if flat[len(flat) // 2] < np.iinfo(flat.dtype).max else -1
    row = Row("control", cpu, case.kernels, 1)
    row.add(case, wrong, {"seconds": 0.0, "delegates": 0})
    return Control(f"{cpu}: one code of {row.values} changed by 1: {row.differing} counted", row.differing == 1)


def kernel_case(folder: Path) -> Case:
    """A convolution for which every core has its own kernel."""
    graph, codes = convolution("1x1", "none")
    case = write_case(folder, "control", "control_kernels", graph, codes)
    return replace(case, threads=(1,))


def kernels_control(machine: ArmMachine, cpu: Cpu, folder: Path) -> Control:
    """XNNPACK took the kernels of this core: the instruction that they multiply with was run, and that of no better
    core."""
    (folder / "kernels.json").write_text(json.dumps(list(kernel_case(folder).jobs())))
    log = folder / "instructions.txt"
    machine.run(cpu, [GUEST, folder / "kernels.json", folder], {"QEMU_LOG": "in_asm", "QEMU_LOG_FILENAME": str(log)})
    found = instructions(log)
    log.unlink()
    names = [core.instruction for core in CPUS.values()]
    better = names[names.index(cpu.instruction) + 1 :]
    passed = found[cpu.instruction] > 0 and not any(found[name] for name in better)
    seen = ", ".join(f"{name} {found[name]}" for name in names if found[name])
    return Control(f"{cpu.name}: its kernels multiply with {cpu.instruction} (in translated code: {seen})", passed)


def instructions(log: Path) -> Counter[str]:
    """How often each instruction stands in qemu's log of what it translated: ``0x7f00: d503201f  nop``."""
    counted: Counter[str] = Counter()
    with log.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            words = line.split()
            if len(words) >= 3 and words[0].startswith("0x") and words[0].endswith(":"):
                counted[words[2]] += 1
    return counted


def levels_control(case: Case) -> Control:
    """A network's outputs use many codes: a collapsed one would be easy to reproduce."""
    least = min(len(np.unique(values)) for values in case.expected.values())
    return Control(f"{case.name}: each output has at least {least} distinct codes", least >= FEW_LEVELS)
