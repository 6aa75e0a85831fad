"""``make mutants``: changes one token of a core module at a time and counts how often the unit tests notice.

A mutant is caught where a test of its module's folder (tests/unit/<folder>, without the slow ones) that runs its line
fails or hangs. Tests run in a copy of the tree, so that no reference data stands beside it and a checkout is never left
mutated. Survivors that are equivalent stand with their reason in equivalent.toml; the command fails below ``--share``
caught, on a survivor that is not listed, and where tests fail without any mutant.
"""

from __future__ import annotations

import argparse
import compileall
import json
import os
import py_compile
import queue
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from tests.mutants.core import CORE, core_files
from tests.mutants.sample import Mutant, draw

ROOT = Path(__file__).resolve().parents[2]
LEFT_OUT = shutil.ignore_patterns(
    ".*", "__pycache__", "work_dirs", "demo_out", "build", "*.egg-info", "tmp_data", "tmp_pretrained_models"
)
PYTEST = ["-q", "--tb=line", "-p", "no:cacheprovider", "-p", "no:xdist", "-m", "not slow"]
_T = TypeVar("_T")


class Copy:
    """A private copy of the tree with a warm interpreter in it."""

    def __init__(self, home: Path) -> None:
        self.root, self.output = home / "tree", home / "output"
        shutil.copytree(ROOT, self.root, ignore=LEFT_OUT)
        # Byte code that is valid as long as the source's digest fits: no mutant of the same second and size is missed.
        mode = py_compile.PycInvalidationMode.CHECKED_HASH
        compileall.compile_dir(self.root / "hatdet", quiet=1, invalidation_mode=mode)
        environment = os.environ | {"PYTHONPATH": str(self.root), "OMP_NUM_THREADS": "1", "TMPDIR": str(home)}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.mutants.worker"], cwd=self.root, env=environment, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip

    def pytest(self, args: list[str], limit: float, **more: Any) -> dict[str, Any]:
        """Runs pytest: its exit code (None: it hung) and the seconds it took."""
        assert self.process.stdin and self.process.stdout
        request = {"args": PYTEST + args, "limit": limit, "output": str(self.output), **more}
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise RuntimeError("the warm interpreter ended")
        return dict(json.loads(answer))

    def close(self) -> None:
        """Ends the interpreter."""
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait()


class Baseline:
    """The unmutated run of a folder: which test runs which line, and how long the folder takes."""

    def __init__(self, copy: Copy, folder: str) -> None:
        trace = copy.output.with_name(f"trace_{folder}.json")
        paths = [path for path, its_folder in core_files(ROOT).items() if its_folder == folder]
        answer = copy.pytest([f"tests/unit/{folder}"], 3600, trace=str(trace), paths=paths)
        if not trace.is_file():
            said = copy.output.read_text(encoding="utf-8", errors="replace")
            raise SystemExit(f"tests/unit/{folder} does not run without a mutant:\n{said[-3000:]}")
        self.tests: dict[str, dict[str, Any]] = json.loads(trace.read_text(encoding="utf-8"))
        self.failed = sorted(name for name, test in self.tests.items() if test["failed"])
        self.folder, self.seconds = folder, float(answer["seconds"])

    @property
    def whole(self) -> list[str]:
        """What runs the folder but for tests that fail without a mutant."""
        return [f"tests/unit/{self.folder}", *(part for name in self.failed for part in ("--deselect", name))]

    def runs(self, mutant: Mutant) -> list[tuple[list[str], float]]:
        """What pytest is asked to run, and for how many seconds at most: the tests that run the mutant's line, the
        quickest first. Where no test does (a default, a constant): those that run its file, then the whole folder."""
        usable = {name: test["lines"] for name, test in self.tests.items() if name not in self.failed}
        ran = {name: lines[mutant.path] for name, lines in usable.items() if mutant.path in lines}
        names = [name for name, lines in ran.items() if mutant.line in lines]
        chosen = sorted(names or ran, key=lambda name: float(self.tests[name]["seconds"]))
        runs = [(chosen, 60 + 5 * sum(self.tests[name]["seconds"] for name in chosen))] if chosen else []
        return runs if names else [*runs, (self.whole, 120 + 5 * self.seconds)]


def notice(copy: Copy, baseline: Baseline, mutant: Mutant) -> str | None:
    """How the tests notice the mutant (the name of a failing test, or that they hang), or None."""
    file = copy.root / mutant.path
    original = file.read_text(encoding="utf-8")
    file.write_text(mutant.code, encoding="utf-8")
    try:
        for args, limit in baseline.runs(mutant):
            code = copy.pytest(["-x", *args], limit)["code"]
            if code is None:
                return f"hangs for {limit:.0f} s"
            if code != 0:
                said = copy.output.read_text(encoding="utf-8", errors="replace").splitlines()
                return next((line for line in said if line.startswith(("FAILED", "ERROR"))), f"exit code {code}")
        return None
    finally:
        file.write_text(original, encoding="utf-8")


def spread(mutants: list[Mutant], options: argparse.Namespace) -> tuple[dict[Mutant, str | None], list[str]]:
    """Every mutant's fate, found by several copies side by side; and the tests that fail without a mutant."""
    fates: dict[Mutant, str | None] = {}
    free: queue.SimpleQueue[Copy] = queue.SimpleQueue()

    def lent(work: Callable[[Copy], _T]) -> _T:
        copy = free.get()
        try:
            return work(copy)
        finally:
            free.put(copy)

    def decide(mutant: Mutant) -> None:
        start = time.perf_counter()
        fate = lent(lambda copy: notice(copy, baselines[mutant.folder], mutant))
        fates[mutant] = fate
        told(mutant, fate, time.perf_counter() - start, f"{len(fates)}/{len(mutants)}", options.report)

    with tempfile.TemporaryDirectory(prefix="mutants-") as home, ThreadPoolExecutor(options.workers) as pool:
        copies = list(pool.map(Copy, [Path(home, str(number)) for number in range(options.workers)]))
        for copy in copies:
            free.put(copy)
        folders = [folder for folder in CORE if any(mutant.folder == folder for mutant in mutants)]
        made = pool.map(lambda folder: lent(lambda copy: Baseline(copy, folder)), folders)
        baselines = dict(zip(folders, made, strict=True))
        failed = [name for baseline in baselines.values() for name in baseline.failed]
        list(pool.map(decide, sorted(mutants, key=lambda mutant: (mutant.path, mutant.line))))
        for copy in copies:
            copy.close()
    return fates, failed


def told(mutant: Mutant, fate: str | None, seconds: float, count: str, report: Path | None) -> None:
    """One line a mutant, and one JSON object in the report."""
    print(f"[{count}] {'caught' if fate else 'SURVIVES'} {mutant.path}:{mutant.line} {seconds:.1f} s", flush=True)
    if report:
        row = {"path": mutant.path, "line": mutant.line, "before": mutant.before, "after": mutant.after,
               "noticed": fate, "seconds": round(seconds, 1)}  # fmt: skip
        with report.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


def equivalents() -> dict[tuple[str, str, str], str]:
    """Mutants that no test can notice -> why."""
    rows = tomllib.loads(Path(__file__).with_name("equivalent.toml").read_text(encoding="utf-8")).get("mutant", [])
    return {(row["path"], row["before"], row["after"]): row["reason"] for row in rows}


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--share", type=float, default=0.92, help="the least share that must be caught")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--folders", default="", help="only these folders of tests/unit, comma-separated")
    parser.add_argument("--report", type=Path, help="append one JSON object a mutant to this file")
    parser.add_argument("--again", type=Path, help="only the survivors of this report")
    options = parser.parse_args()
    mutants = draw(ROOT, core_files(ROOT), options.count, options.seed)
    if options.folders:
        mutants = [mutant for mutant in mutants if mutant.folder in options.folders.split(",")]
    if options.again:
        rows = [json.loads(line) for line in options.again.read_text(encoding="utf-8").splitlines()]
        left = {(row["path"], row["before"], row["after"]) for row in rows if not row["noticed"]}
        mutants = [mutant for mutant in mutants if mutant.key in left]
    return summary(*spread(mutants, options), options.share)


def summary(fates: dict[Mutant, str | None], failed: list[str], share: float) -> int:
    """Prints the counts and the survivors; 1 where too many survive, one is not listed, or tests fail anyway."""
    known = equivalents()
    survivors = [mutant for mutant, fate in fates.items() if fate is None]
    unlisted = [mutant for mutant in survivors if mutant.key not in known]
    total, left = Counter(mutant.path for mutant in fates), Counter(mutant.path for mutant in survivors)
    for path in sorted(total):
        print(f"{total[path] - left[path]:4d} / {total[path]:<4d} {path}")
    for mutant in survivors:
        print(f"\n{mutant.path}:{mutant.line}  {known.get(mutant.key, 'NOT LISTED in tests/mutants/equivalent.toml')}")
        print(f"  - {mutant.before}\n  + {mutant.after}")
    for name in failed:
        print(f"\n{name} fails without a mutant: it was left out")
    caught = len(fates) - len(survivors)
    print(f"\n{caught} of {len(fates)} mutants caught ({caught / max(len(fates), 1):.1%}), "
          f"{len(survivors) - len(unlisted)} listed as equivalent, {len(unlisted)} neither")  # fmt: skip
    return int(bool(unlisted or failed) or caught < share * len(fates))


if __name__ == "__main__":
    sys.exit(main())
