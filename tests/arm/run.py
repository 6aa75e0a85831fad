"""``make arm``: LiteRT's ARM kernels, on emulated cores, against the torch executor: every value must be equal.

Three detectors are trained for a few minutes by hatdet's own commands, in each arithmetic; their files, and some
hundred files of one operator, run on four ARM cores: the files of ``tflite_ref`` with LiteRT's reference kernels, those
of ``xnnpack`` with its default ones. Where the emulated machine cannot be built, it says why and ends with status 0.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tests.arm import comparison, controls
from tests.arm.cases import Case, Codes, operator_cases
from tests.arm.controls import Control
from tests.arm.cpus import CPUS, Cpu
from tests.arm.machine import GUEST, ArmMachine, Unavailable
from tests.arm.networks import ALL, EPOCHS, NETWORKS, network_cases, train

ROOT = Path(__file__).resolve().parents[2]


def main(arguments: Sequence[str] | None = None) -> int:
    args = parser().parse_args(arguments)
    began, cpu_began = time.monotonic(), sum(os.times()[:4])
    machine, work = ArmMachine(args.folder / "machine"), args.folder / "work"
    try:
        print(f"the machine: {machine.build()}", flush=True)
    except Unavailable as reason:
        print(f"make arm: SKIPPED: {reason}")
        return 0
    cases, refused = prepare(args, work)
    print(f"{len(cases)} files; {refused} more are refused by their arithmetic", flush=True)
    rows: list[comparison.Row] = []
    checks = [controls.levels_control(case) for case in cases if case.is_network and not case.name.endswith(ALL)]
    print("\n".join(map(describe, checks)), flush=True)
    for name in args.cpu or CPUS:
        made, proved = run_core(machine, CPUS[name], cases, work)
        print(comparison.table(made) + "\n" + "\n".join(describe(c) for c in proved) + "\n", flush=True)
        rows += made
        checks += proved
    ok = all(row.ok for row in rows) and all(check.passed for check in checks)
    seconds, spent = time.monotonic() - began, sum(os.times()[:4]) - cpu_began
    write(args.folder, rows, checks, seconds, spent)
    for row in rows:
        for text in (row.errors or [])[:3]:
            print(f"failed: {row.file} on {row.cpu}: {text}")
    print(f"{comparison.summary(rows)}: {'ok' if ok else 'FAILED'}")
    print(f"{seconds / 60:.1f} minutes, {spent / 60:.1f} of processor time; table: {args.folder / 'table.md'}")
    return 0 if ok else 1


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="python -m tests.arm.run", description=__doc__.split("\n\n")[0])
    made.add_argument("--folder", type=Path, default=ROOT / ".arm", help="the machine, models, files (default: .arm)")
    made.add_argument("--cpu", nargs="+", choices=CPUS, help="some of the cores (default: all)")
    made.add_argument("--only", choices=("networks", "operators"), help="half of the files")
    made.add_argument("--epochs", type=int, default=EPOCHS, help=f"of the float trainings (default: {EPOCHS})")
    names = [network.name for network in NETWORKS]
    made.add_argument("--networks", nargs="+", choices=names, default=names, help="some of them (default: all)")
    made.add_argument("--pictures", type=int, default=4, help="of each network (default: 4)")
    made.add_argument("--keep-networks", action="store_true", help="those of the last run, as far as it came")
    return made


def prepare(args: argparse.Namespace, work: Path) -> tuple[list[Case], int]:
    """Everything that is run, and how many files the arithmetics refuse."""
    work.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(work / "files", ignore_errors=True)
    cases: list[Case] = []
    refused = 0
    if args.only != "operators":
        networks = [replace(network, epochs=args.epochs) for network in NETWORKS if network.name in args.networks]
        train(networks, work / "networks", args.keep_networks, lambda text: print(text, flush=True))
        cases += network_cases(networks, work / "networks", work / "files" / "networks", args.pictures)
    if args.only != "networks":
        made, refused = operator_cases(work / "files" / "operators")
        cases += made
    return cases, refused


def run_core(
    machine: ArmMachine, cpu: Cpu, cases: Sequence[Case], work: Path
) -> tuple[list[comparison.Row], list[Control]]:
    """All files and all controls on one core."""
    others = [controls.exchanged(case) for case in cases if case.name.endswith(ALL)]
    product = controls.product_case(work / "files")
    jobs = [job for case in cases for job in case.jobs()]
    extra = [job for case in (*others, product) for job in case.jobs()]
    out = work / "outputs"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    (work / "jobs.json").write_text(json.dumps(jobs + extra))
    machine.run(cpu, [GUEST, work / "jobs.json", out])
    said = [json.loads(line) for line in (out / "said.jsonl").read_text().splitlines()]
    if len(said) != len(jobs) + len(extra):
        raise RuntimeError(f"{cpu.name}: {len(said)} of {len(jobs) + len(extra)} files ran")
    found = [outputs(out / f"{n}.npz") for n in range(len(said))]
    rows = comparison.count(cpu.name, {c.name: c for c in cases}, zip(jobs, said, found, strict=False))
    last = found[len(jobs) :]
    proved = [controls.exchanged_control(cpu.name, case, values) for case, values in zip(others, last, strict=False)]
    proved.append(controls.product_control(cpu.name, last[-1]))
    proved.append(controls.planted_control(cpu.name, cases[0], found[0]))
    proved += [delegated(cpu, rows), controls.kernels_control(machine, cpu, work / "files")]
    return rows, proved


def outputs(path: Path) -> list[Codes]:
    """What the machine wrote of a job; nothing where the file did not run."""
    if not path.is_file():
        return []
    with np.load(path) as arrays:
        return [arrays[f"arr_{i}"] for i in range(len(arrays.files))]


def delegated(cpu: Cpu, rows: Sequence[comparison.Row]) -> Control:
    """Default kernels were XNNPACK's, the reference ones were not."""
    default = sum(row.delegated for row in rows if row.kernels == "default")
    files = sum(row.files for row in rows if row.kernels == "default")
    reference = sum(row.delegated for row in rows if row.kernels == "reference")
    text = f"{cpu.name}: XNNPACK took part of {default} of {files} runs with default kernels, {reference} of reference"
    return Control(text, default > files // 2 and reference == 0)


def describe(control: Control) -> str:
    return f"{'control' if control.passed else 'CONTROL FAILED'}: {control.text}"


def write(
    folder: Path, rows: Sequence[comparison.Row], checks: Sequence[Control], seconds: float, spent: float
) -> None:
    """``results.json`` and ``table.md``."""
    content: dict[str, Any] = {
        "seconds": round(seconds, 1), "processor_seconds": round(spent, 1), "rows": [row.record() for row in rows],
        "controls": [vars(check) for check in checks],
    }  # fmt: skip
    (folder / "results.json").write_text(json.dumps(content, indent=1))
    (folder / "table.md").write_text(
        comparison.markdown(rows) + "\n\n" + "\n".join(f"- {c.text}" for c in checks) + "\n"
    )


if __name__ == "__main__":
    sys.exit(main())
