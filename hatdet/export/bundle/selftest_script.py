"""Self-test of a model where Python runs: which arithmetic do the kernels implement that this device has?

    python3 hdx_selftest.py                          # opened with the kernels that the file is made for
    python3 hdx_selftest.py --kernels default        # as Interpreter(path) opens it
    python3 hdx_selftest.py --threads 4
    python3 hdx_selftest.py --run mine.py:run        # another runtime: a function of yours

The function is given input codes, int8 (1, height, width, channels), and returns the raw output codes in the order of
the file, int8 or int16, as arrays of any shape. From Python: ``status = selftest(run)``.

Needs Python 3.9, numpy, and without --run one of: ai_edge_litert, tflite_runtime, tensorflow. hdx_selftest.npz has the
pictures and what is expected; where there are boxes, hdx_decoder.py makes them.

Exit status: 0 the device implements the profile that the file is made for (and the boxes are as expected); 1 an output
differs from what each known profile gives; 2 a box differs; 3 the network did not run; 4 every output is as another
profile gives it; 9 wrong arguments, or files that cannot be read.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import importlib.util
import json
import sys
import warnings
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

Run = Callable[[np.ndarray], Sequence[np.ndarray]]
Report = Callable[[str], object]

FOLDER = Path(__file__).resolve().parent
DATA, DECODER = FOLDER / "hdx_selftest.npz", FOLDER / "hdx_decoder.py"
MODEL = FOLDER / DATA.name.replace("_selftest.npz", ".tflite")
OK, OUTPUT_DIFFERS, BOX_DIFFERS, NOT_RUN, OTHER_PROFILE, WRONG_ARGUMENTS = 0, 1, 2, 3, 4, 9
RUNTIMES = ("ai_edge_litert.interpreter", "tflite_runtime.interpreter", "tensorflow.lite")
KERNELS = {
    "reference": "BUILTIN_REF",
    "default": "BUILTIN",
    "no-delegate": "BUILTIN_WITHOUT_DEFAULT_DELEGATES",
}
"""What ``--kernels`` says, and ``OpResolverType``."""


class Expected:
    """What hdx_selftest.npz holds: ``codes``, ``crcs`` (profiles, pictures, outputs), boxes, and ``facts``."""

    def __init__(self, path: Path = DATA) -> None:
        if not path.is_file():
            _stop(f"{path} is not there: it has the pictures and what is expected of them")
        try:
            with np.load(path, allow_pickle=False) as data:
                arrays = {name: data[name] for name in data.files}
            self.facts: dict[str, Any] = json.loads(str(arrays["facts"]))
            self.codes, self.crcs = arrays["codes"], arrays["crcs"]
            boxes = [arrays[name] for name in ("boxes", "scores", "labels", "starts")] if "starts" in arrays else None
        except Exception as error:  # zipfile, zlib, numpy and json have each their own
            _stop(f"{path} is damaged ({_in_one_line(error)}): copy it again")
        self.boxes = boxes

    def boxes_of(self, picture: int) -> dict[str, np.ndarray]:
        """The boxes of a picture, in the decoder's form."""
        assert self.boxes is not None
        boxes, scores, labels, starts = self.boxes
        part = slice(int(starts[picture]), int(starts[picture + 1]))
        return {"boxes": boxes[part], "scores": scores[part], "labels": labels[part]}


def _stop(message: str) -> NoReturn:
    """Status 1 would be an output that differs."""
    print(message, file=sys.stderr)
    raise SystemExit(WRONG_ARGUMENTS)


def _in_one_line(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())


class NotRun(Exception):
    """The network could not be run; the text says why."""


def selftest(run: Run, report: Report = print, pictures: int | None = None, expected: Expected | None = None) -> int:
    """Run the network on the pictures and report which profiles its outputs are those of, and what differs.

    Args:
        run: input codes, int8 (1, height, width, channels) -> raw outputs in the order of the file.
        report: is given lines. pictures: so many; None: all.

    Returns:
        the exit status.
    """
    given = Expected() if expected is None else expected
    facts, count = given.facts, len(given.codes) if pictures is None else min(pictures, len(given.codes))
    decode = _decoder() if given.boxes is not None else None
    equal, output_line, box_line = np.zeros(len(facts["profiles"]), int), "", ""
    for picture in range(count):
        where = f"picture {picture + 1} of {count}"
        try:
            outputs = [_shaped(given, maps, i) for i, maps in enumerate(_outputs(given, run, picture))]
        except NotRun as error:
            report(f"{where}: the network did not run ({error})")
            return NOT_RUN
        crcs = np.array([zlib.crc32(codes.tobytes()) for codes in outputs], np.uint32)
        same = crcs == given.crcs[:, picture]
        equal += same.sum(1)
        if not output_line and not same[0].all():
            i = int(np.argmin(same[0]))
            output_line = (
                f"{where}: output {i} ({facts['outputs'][i]['name']}) differs: its CRC is {crcs[i]:08x}, expected "
                f"{given.crcs[0, picture, i]:08x}"
            )
        if decode is not None and not output_line and not box_line:
            found = decode(outputs, given.codes.shape[1:3])
            if difference := _box_difference(found, given.boxes_of(picture)):
                box_line = f"{where}: {difference}"
    return _verdict(given, count, equal.tolist(), output_line, box_line, report)


def _outputs(expected: Expected, run: Run, picture: int) -> list[np.ndarray]:
    wanted = len(expected.facts["outputs"])
    try:
        outputs = [np.asarray(maps) for maps in run(expected.codes[picture : picture + 1])]
    except Exception as error:  # of the user's function, or of whatever runtime is there
        raise NotRun(_in_one_line(error)) from error
    if len(outputs) != wanted:
        raise NotRun(f"{len(outputs)} outputs, the file has {wanted}")
    return outputs


def _shaped(expected: Expected, maps: np.ndarray, number: int) -> np.ndarray:
    """An output as the file has it: raw codes of its type, (1, height, width, channels)."""
    output = expected.facts["outputs"][number]
    if maps.dtype != output["dtype"] or maps.size != int(np.prod(output["shape"])):
        raise NotRun(
            f"output {number} ({output['name']}) is {maps.dtype} {maps.shape}, the file's {output['dtype']} "
            f"{tuple(output['shape'])}"
        )
    return np.ascontiguousarray(maps).reshape(output["shape"]).astype(np.dtype(output["dtype"]).newbyteorder("<"))


def _box_difference(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> str:
    """What of the boxes is not as expected, to the last bit; or nothing."""
    if len(found["scores"]) != len(expected["scores"]):
        return f"{len(found['scores'])} boxes, expected {len(expected['scores'])}"
    for i, (label, right) in enumerate(zip(found["labels"].tolist(), expected["labels"].tolist())):
        if label != right:
            return f"box {i} differs: its label is {label}, expected {right}"
        rows = [np.append(one["boxes"][i], one["scores"][i]).astype("<f4").view("<u4") for one in (found, expected)]
        for name, bits, wanted in zip(("x1", "y1", "x2", "y2", "score"), rows[0].tolist(), rows[1].tolist()):
            if bits != wanted:
                return f"box {i} differs: the bits of its {name} are {bits:08x}, expected {wanted:08x}"
    return ""


def _verdict(
    expected: Expected, pictures: int, equal: list[int], output_line: str, box_line: str, report: Report
) -> int:
    profiles, left_out = expected.facts["profiles"], expected.facts["left_out"]
    outputs = len(expected.facts["outputs"])
    total = pictures * outputs
    for profile, number in zip(profiles, equal):
        word = "implements" if number == total else "not"
        report(f"{word} {profile['name']}: {number} of {total} outputs equal")
    others = [profile["name"] for profile, number in zip(profiles[1:], equal[1:]) if number == total]
    if output_line:
        for name, why in left_out.items() if not others else ():
            report(f"{name} is not known of this file: {why}")
        report(output_line)
        if not others:
            return OUTPUT_DIFFERS
        own = profiles[0]
        report(f"this device runs {others[0]}, the file is made for {own['name']}: {own['kernels']}")
        return OTHER_PROFILE
    if box_line:
        report(box_line)
        return BOX_DIFFERS
    boxes = f", {int(expected.boxes[3][pictures])} boxes" if expected.boxes is not None else ""
    report(f"ok: {pictures} pictures, {outputs} outputs each{boxes}")
    return OK


def _decoder() -> Callable[..., dict[str, np.ndarray]]:
    return _function(DECODER, "decode")


def _function(path: Path, name: str) -> Callable[..., Any]:
    """A function of a Python file."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None or not path.is_file():
        _stop(f"{path} is not there, or no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault(path.stem, module)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        _stop(f"{path} cannot be imported ({_in_one_line(error)})")
    found: Callable[..., Any] | None = getattr(module, name, None)
    if not callable(found):
        _stop(f"{path} has no function {name!r}")
    return found


def interpreter_run(model: bytes, kernels: str, threads: int, runtime: str | None = None) -> tuple[Run, str]:
    """A TensorFlow Lite interpreter of the file as a function, and what it is in words.

    Args:
        kernels: a key of :data:`KERNELS`. runtime: a package; None: the first that is installed.

    Raises:
        NotRun: none is installed, or it does not take the file.
    """
    module, package = _runtime(runtime)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            types = module.OpResolverType if hasattr(module, "OpResolverType") else module.experimental.OpResolverType
            interpreter = module.Interpreter(
                model_content=model, num_threads=threads, experimental_op_resolver_type=getattr(types, KERNELS[kernels])
            )
            interpreter.allocate_tensors()
        except (AttributeError, RuntimeError, TypeError, ValueError) as error:
            raise NotRun(" ".join(f"{package}: {error}".split())) from error
    source = interpreter.get_input_details()[0]["index"]
    targets = [detail["index"] for detail in interpreter.get_output_details()]

    def run(codes: np.ndarray) -> list[np.ndarray]:
        interpreter.set_tensor(source, codes)
        interpreter.invoke()
        return [interpreter.get_tensor(index) for index in targets]

    return run, f"{package}, {kernels} kernels, {threads} thread{'s' if threads > 1 else ''}"


def _runtime(wanted: str | None) -> tuple[Any, str]:
    for name in RUNTIMES:
        package = name.split(".")[0]
        if wanted not in (None, package):
            continue
        try:
            module = importlib.import_module(package).lite if package == "tensorflow" else importlib.import_module(name)
        except (AttributeError, ImportError):
            continue
        version = getattr(sys.modules.get(package), "__version__", "")
        return module, f"{package} {version}".strip()
    packages = wanted or ", ".join(name.split(".")[0] for name in RUNTIMES)
    raise NotRun(f"not installed: {packages}; pip install ai-edge-litert, or give --run FILE.py:FUNCTION")


def main(words: Sequence[str] | None = None) -> int:
    """The command line."""
    expected = Expected()
    own = expected.facts["profiles"][0]
    parser = _Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=MODEL, help=f"the file (default: {MODEL.name} beside the script)")
    parser.add_argument("--kernels", choices=tuple(KERNELS), default=own["litert"],
                        help=f"of the interpreter (default: those of {own['name']}: {own['litert']})")  # fmt: skip
    parser.add_argument("--threads", type=int, default=1, help="of the interpreter (default: 1)")
    parser.add_argument("--runtime", choices=tuple(name.split(".")[0] for name in RUNTIMES),
                        help="the package (default: the first that is installed)")  # fmt: skip
    parser.add_argument("--run", metavar="FILE.py:FUNCTION", help="a function that runs the network instead")
    parser.add_argument("--pictures", type=int, help=f"so many (default: all {len(expected.codes)})")
    args = parser.parse_args(words)
    if args.threads < 1 or (args.pictures is not None and args.pictures < 1):
        parser.error("--threads and --pictures are 1 and more")
    if args.run is not None:
        path, _, name = args.run.rpartition(":")
        if not path:
            parser.error(f"--run {args.run}: give FILE.py:FUNCTION")
        return selftest(_function(Path(path), name), print, args.pictures, expected)
    if not args.model.is_file():
        parser.error(f"--model {args.model} is not there")
    model = args.model.read_bytes()
    if hashlib.sha256(model).hexdigest() != expected.facts["sha256"]:
        print(f"note: {args.model.name} is not the file that this self-test was made of")
    try:
        run, what = interpreter_run(model, args.kernels, args.threads, args.runtime)
    except NotRun as error:
        print(f"the network did not run ({error})")
        return NOT_RUN
    print(what)
    return selftest(run, print, args.pictures, expected)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(WRONG_ARGUMENTS, f"{self.prog}: {message}\n")


if __name__ == "__main__":
    raise SystemExit(main())
