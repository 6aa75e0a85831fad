"""Does a refactoring change a byte? Digests of everything that the tools write, for every config, before and after.

python benchmarks/digests.py --out after.json
python benchmarks/digests.py --root ../before --out before.json
python benchmarks/digests.py --compare before.json after.json

The command lines of a checkout (--root; default: this one) train every config for 20 steps on a few rendered pictures
(the large ones for 2), calibrate, train and lower to integers, and export all formats. The result has a SHA-256 of each
file and of each stage's tensors; versions, dates, checksums and paths do not count, names do. One process after the
other on one thread of the CPU: about 20 minutes. Equal numbers are promised for one machine with one set of libraries.
Exit status 1: a command failed, or --compare found a difference.
"""

from __future__ import annotations

import os

# Before torch and numpy are imported: their thread pools are sized then.
for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[_name] = "1"
os.environ["CUDA_VISIBLE_DEVICES"] = ""

import argparse
import contextlib
import importlib
import json
import platform
import runpy
import shlex
import shutil
import sys
import tempfile
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.digest_cases import CASES, FEW_IMAGES, PRINTED, TRAIN_IMAGES, VAL_IMAGES, Case
from benchmarks.digest_contents import digests, text_digest

# What every command would import for itself: done once, the commands are forked.
HEAVY = ("torch", "torch.export", "torch.fx", "torch.utils.tensorboard", "cv2", "onnx", "hotcoco", "lmdb")
LEFT_OUT = frozenset({"config.py", "log.txt", "results.csv"})  # resolved options and times


def main(argv: Sequence[str] | None = None) -> int:
    args = parse(argv)
    if args.compare:
        before, after = (json.loads(path.read_text(encoding="utf-8")) for path in args.compare)
        lines = differences(before, after, args.only)
        print("\n".join(lines) or "no difference")
        return int(bool(lines))
    prepare(args.root.resolve())
    with tempfile.TemporaryDirectory(prefix="hatdet-digests-") as folder:
        place = Path(args.keep or folder).resolve()
        return int(not run_cases(args.root.resolve(), place, chosen(args.only), args.out, bool(args.keep)))


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, metavar="FILE.json", help="where the digests go")
    parser.add_argument("--only", nargs="+", choices=list(CASES), metavar="NAME", help=f"of: {', '.join(CASES)}")
    parser.add_argument("--root", type=Path, default=Path(__file__).resolve().parents[1], metavar="DIR",
                        help="checkout whose tools are run (default: this one)")  # fmt: skip
    parser.add_argument("--keep", type=Path, metavar="DIR", help="an empty folder: leave all files there")
    parser.add_argument("--compare", nargs=2, type=Path, metavar="FILE.json", help="print what differs")
    args = parser.parse_args(argv)
    if (args.out is None) == (args.compare is None):
        parser.error("give --out FILE.json, or --compare BEFORE.json AFTER.json")
    if args.keep and args.keep.exists() and any(args.keep.iterdir()):
        parser.error(f"--keep {args.keep}: that folder is not empty; name another one")
    return args


def chosen(names: Sequence[str] | None) -> dict[str, Case]:
    return {name: case for name, case in CASES.items() if names is None or name in names}


def prepare(root: Path) -> None:
    """Import the heavy libraries and the checkout's package, with a version that is always the same."""
    sys.path.insert(0, str(root))
    os.environ["PYTHONPATH"] = str(root)
    for name in HEAVY:
        with contextlib.suppress(ImportError):  # an extra that is not installed
            importlib.import_module(name)
    import hatdet

    if not Path(hatdet.__file__).is_relative_to(root):
        raise SystemExit(f"hatdet comes from {hatdet.__file__}, not from {root}")
    hatdet.__version__ = "0"


def run_cases(root: Path, place: Path, cases: Mapping[str, Case], out: Path, keep: bool) -> bool:
    """Write the digests, after each case those found so far; whether all commands succeeded."""
    os.environ["HATDET_CACHE"] = str(place / "cache")
    place.mkdir(parents=True, exist_ok=True)
    if fork(lambda: render(root, place), place, place / "render.log"):
        raise SystemExit(f"the data sets could not be made: {(place / 'render.log').read_text()}")
    results: dict[str, Any] = {}
    ok = True
    for name, case in cases.items():
        begin = cpu_seconds()
        found = run_case(root, place, name, case)
        failed = [command for command, status in found["status"].items() if status]
        ok = ok and not failed
        seconds = cpu_seconds() - begin
        verdict = f", FAILED: {failed[0]}" if failed else ""
        print(f"{name}: {len(found['digests'])} digests, {seconds:.0f} s of the processor{verdict}", flush=True)
        results[name] = {**found, "seconds": round(seconds, 1)}
        content = json.dumps({"machine": machine(), "cases": results}, indent=1)
        out.write_text(f"{content}\n", encoding="utf-8")
        if not keep and not failed:
            shutil.rmtree(place / name)
    return ok


def cpu_seconds() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def run_case(root: Path, place: Path, name: str, case: Case) -> dict[str, Any]:
    """Run a case's commands, one process each, in a folder of its own."""
    folder = place / name
    folder.mkdir()
    status: dict[str, int] = {}
    printed: dict[str, str] = {}
    for number, command in enumerate(case.commands):
        tool, *arguments = case.arguments(command, str(root / "configs" / case.config))
        log = folder / f"{number:02d}-{command.replace(' ', '-')}.log"
        status[command] = run_tool(root, folder, [tool, *arguments], log)
        if status[command]:
            said = log.read_text(encoding="utf-8", errors="replace")[-1500:]
            print(f"{name}: {tool} {shlex.join(arguments)}\n{said}", file=sys.stderr)
            break
        if command in PRINTED:
            printed[f"printed by {command}"] = text_digest(log.read_text(encoding="utf-8"), (place, root))
    return {"status": status, "metrics": metrics(folder), "digests": {**collect(folder, (place, root)), **printed}}


def run_tool(root: Path, folder: Path, words: Sequence[str], log: Path) -> int:
    """Run ``tools/NAME ARGUMENTS`` as the command line would in a folder; its status."""

    def tool() -> None:
        sys.argv = [str(root / "tools" / words[0]), *words[1:]]
        sys.path.insert(0, str(root / "tools"))  # as the interpreter does for a script
        runpy.run_path(sys.argv[0], run_name="__main__")

    return fork(tool, folder, log)


def fork(function: Callable[[], None], folder: Path, log: Path) -> int:
    """Call a function in a copy of this process that writes to ``log``; its exit status."""
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    status = 70
    try:
        os.chdir(folder)
        target = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.dup2(target, 1)
        os.dup2(target, 2)
        sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1, closefd=False) for number in (1, 2))
        function()
        status = 0
    except SystemExit as leave:
        status = leave.code if isinstance(leave.code, int) else int(leave.code is not None)
        if isinstance(leave.code, str):
            print(leave.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)  # what the parent does at its end (removing the folder) is not for its copies


def render(root: Path, place: Path) -> None:
    """The data sets: a folder in COCO format, a smaller one, the first one packed, and one for classification."""
    from hatdet.commands.demo.render import render_dataset

    render_dataset(place / "data", TRAIN_IMAGES, VAL_IMAGES)
    render_dataset(place / "few", FEW_IMAGES, VAL_IMAGES)
    shutil.copytree(place / "data" / "annotations", place / "packed" / "annotations")
    for split in ("train", "val"):
        for number, picture in enumerate(sorted((place / "data" / f"{split}2017").iterdir())):
            target = place / "images" / split / f"class{number % 4}"
            target.mkdir(parents=True, exist_ok=True)
            shutil.copy(picture, target)
        for tool, source, packed in (("mscoco", "data", "packed"), ("image_folder", "images", "folders")):
            words = ["--src-data-dir", source, "--target-data-dir", packed, "--split-name", split, "--num-workers", "0"]
            if run_tool(root, place, [f"{tool}_packer.py", *words], place / f"{tool}-{split}.log"):
                raise SystemExit(f"{tool}_packer.py failed: {(place / f'{tool}-{split}.log').read_text()}")


def collect(folder: Path, places: Sequence[Path]) -> dict[str, str]:
    """Digests of all files that were written, but for logs and the checkpoints of single epochs."""
    found: dict[str, str] = {}
    for file in sorted(p for p in folder.rglob("*") if p.is_file()):
        name = file.relative_to(folder).as_posix()
        if file.name not in LEFT_OUT and "-epoch-" not in file.name:
            found |= digests(file, name, places)
    return found


def metrics(folder: Path) -> dict[str, Any]:
    """What ``predict.py`` reported of each stage."""
    return {
        file.parent.name: json.loads(file.read_text(encoding="utf-8"))["metrics"]
        for file in sorted(folder.glob("*/predict.json"))
    }


def machine() -> dict[str, str]:
    """What digests may depend on besides the code."""
    import torch

    names = {"processor": torch.backends.cpu.get_cpu_capability(), "python": platform.python_version()}
    return {**names, "torch": str(torch.__version__), "system": platform.platform()}


def differences(before: Mapping[str, Any], after: Mapping[str, Any], only: Sequence[str] | None = None) -> list[str]:
    """A line for each thing that is not the same in two results; ``only`` some cases, where they are named."""
    lines = [] if before["machine"] == after["machine"] else [f"machine: {before['machine']} / {after['machine']}"]
    for name in {**before["cases"], **after["cases"]}:
        if only is not None and name not in only:
            continue
        one, other = before["cases"].get(name), after["cases"].get(name)
        if one is None or other is None:
            lines.append(f"{name}: only {'before' if other is None else 'after'}")
            continue
        for part in ("status", "metrics", "digests"):
            for key in sorted({**one[part], **other[part]}):
                old, new = one[part].get(key), other[part].get(key)
                if old != new:
                    what = "only before" if new is None else "only after" if old is None else "differs"
                    lines.append(f"{name}: {part}: {key}: {what}")
    return lines


if __name__ == "__main__":
    raise SystemExit(main())
