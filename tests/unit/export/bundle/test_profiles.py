"""The self-test on devices of each arithmetic: compiled (its run function answered by a runtime), and as a script."""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import platform
import shutil
import subprocess
import sys
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from hatdet.export.bundle import expected as expectations
from hatdet.export.bundle.expected import Expected, expectation, kernels_of, litert_of
from hatdet.export.bundle.selftest import selftest_texts
from hatdet.export.bundle.selftest_python import selftest_files
from hatdet.export.bundle.write import Bundle, check_profile, write_bundle
from hatdet.export.metadata import file_names
from hatdet.export.runtimes.integer import LiteRTRuntime, TFLiteMicroRuntime
from hatdet.export.targets.boards import get_board
from hatdet.export.targets.table import get_target
from hatdet.export.tflite import int8 as tflite
from hatdet.integer.graph import IntGraph
from hatdet.integer.profiles.table import PROFILES
from hatdet.utils.errors import UserError
from tests.helpers.int_graphs import GraphBuilder, in_profile, qparams

pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed")
pytestmark = pytest.mark.usefixtures("profiles_of_litert")

FLAGS = "-std=c99 -O1 -Wall -Wextra -Werror -pedantic -shared -fPIC".split()
RUN = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.POINTER(ctypes.c_void_p))
PRINT = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_char_p)
Device = Callable[[np.ndarray], list[np.ndarray]]
KERNELS = {
    "tflite_ref": "LiteRT's reference kernels and TFLite Micro",
    "xnnpack": "LiteRT's default kernels (XNNPACK)",
}
OTHER = {"tflite_ref": "xnnpack", "xnnpack": "tflite_ref"}


def network(profile: str, seed: int = 3) -> IntGraph:
    """Two outputs; of the second, behind one convolution of these pictures, all arithmetics give the same."""
    g = GraphBuilder((3, 16, 16), qparams(1 / 255, -128), seed)
    g.conv("x", "a", 16, activation="relu6")
    g.conv("a", "b", 16, activation="none", q=qparams(0.021, -7))
    g.add("a", "b", "c", qparams(0.03, 5))
    g.conv("c", "late", 8, activation="none", q=qparams(0.011, 3))
    g.conv("x", "early", 2, activation="none", q=qparams(0.04, 0))
    return in_profile(g.graph("late", "early"), profile)


class Made:
    """A bundle of the network, and its self-test as a library."""

    def __init__(self, profile: str, folder: Path) -> None:
        self.profile, self.graph = profile, network(profile)
        self.codes = np.random.default_rng(0).integers(-128, 128, (2, 16, 16, 3)).astype(np.int8)
        self.model, self.folder = tflite.write(self.graph), folder
        self.bundle: Bundle = write_bundle(folder, self.model, self.graph, self.codes, None, no_decoder="no boxes")

    def c(self, device: Device) -> tuple[int, list[str]]:
        """Status and lines of the C self-test whose run function is answered by ``device``."""
        library = ctypes.CDLL(str(compiled(self.folder)))
        kept: list[Any] = []
        lines: list[str] = []

        def run(_context: int, codes: int, outputs: Any) -> int:
            kept[:] = device(np.ctypeslib.as_array(ctypes.cast(codes, ctypes.POINTER(ctypes.c_int8)), (1, 16, 16, 3)))
            for i, maps in enumerate(kept):
                outputs[i] = maps.ctypes.data
            return 0

        status = library.model_selftest(RUN(run), PRINT(lambda _context, line: lines.append(line.decode())), None)
        return status, lines

    def script(self, *words: str) -> tuple[int, list[str]]:
        """Status and lines of the Python self-test as a program; without the interpreter's own."""
        done = subprocess.run(
            [sys.executable, str(self.folder / "model_selftest.py"), *words], capture_output=True, text=True
        )
        assert not done.stderr.startswith("Traceback"), done.stderr
        return done.returncode, done.stdout.splitlines()


@cache
def compiled(folder: Path) -> Path:
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed: the self-test cannot be compiled")
    library = folder.parent / "selftest.so"
    done = subprocess.run(
        ["gcc", *FLAGS, str(folder / "model_selftest.c"), "-o", str(library)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return library


@pytest.fixture(scope="module", params=["tflite_ref", "xnnpack"])
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Made:
    return Made(request.param, tmp_path_factory.mktemp(request.param) / "device")


def devices(made: Made) -> dict[str, tuple[str, Device]]:
    """By name: the profile that a device has, and what runs the network on it."""
    found: dict[str, tuple[str, Device]] = {
        "reference": ("tflite_ref", LiteRTRuntime(made.model).run),
        "default": ("xnnpack", LiteRTRuntime(made.model, "default").run),
        "default, 4 threads": ("xnnpack", LiteRTRuntime(made.model, "default", threads=4).run),
    }
    try:
        found["micro"] = "tflite_ref", TFLiteMicroRuntime(made.model).run
    except UserError:  # not installed
        pass
    return found


def crc_of(made: Made, profile: str) -> int:
    kernels = {"tflite_ref": "reference", "xnnpack": "default"}[profile]
    return zlib.crc32(LiteRTRuntime(made.model, kernels).run(made.codes[:1])[0].tobytes())


def lines_of(made: Made, device: str) -> tuple[int, list[str]]:
    """What a device with this profile has to hear."""
    counts = {made.profile: 4, OTHER[made.profile]: 2}  # the early output is the same
    if device != made.profile:
        counts = {made.profile: 2, OTHER[made.profile]: 4}
    lines = [f"{'implements' if n == 4 else 'not'} {name}: {n} of 4 outputs equal" for name, n in counts.items()]
    if device == made.profile:
        return 0, [*lines, "ok: 2 pictures, 2 outputs each"]
    crcs = [crc_of(made, profile) for profile in (device, made.profile)]
    lines.append(f"picture 1 of 2: output 0 (late) differs: its CRC is {crcs[0]:08x}, expected {crcs[1]:08x}")
    lines.append(f"this device runs {device}, the file is made for {made.profile}: {KERNELS[made.profile]}")
    return 4, lines


def test_compiled_it_names_the_profile_of_each_device(made: Made) -> None:
    for name, (profile, device) in devices(made).items():
        assert made.c(device) == lines_of(made, profile), name


def test_compiled_it_names_the_first_output_of_a_device_of_none(made: Made) -> None:
    def device(codes: np.ndarray) -> list[np.ndarray]:
        outputs = LiteRTRuntime(made.model, PROFILES[made.profile].litert).run(codes)
        if (codes == made.codes[1]).all():
            outputs[1].reshape(-1)[3] ^= 4
        return outputs

    status, lines = made.c(device)
    assert status == 1 and lines[:2] == [
        f"not {made.profile}: 3 of 4 outputs equal",
        f"not {OTHER[made.profile]}: 1 of 4 outputs equal",
    ]
    assert len(lines) == 3 and lines[2].startswith("picture 2 of 2: output 1 (early) differs: its CRC is ")


def test_as_a_script_it_names_the_profile_of_each_kernels(made: Made) -> None:
    """By default it opens the file with the kernels that the file is made for."""
    from ai_edge_litert import __version__ as version

    own = PROFILES[made.profile].litert
    for words, profile, kernels in (
        ([], made.profile, f"{own} kernels, 1 thread"),
        (["--kernels", "reference", "--runtime", "ai_edge_litert"], "tflite_ref", "reference kernels, 1 thread"),
        (["--kernels", "default", "--threads", "4"], "xnnpack", "default kernels, 4 threads"),
    ):
        status, lines = lines_of(made, profile)
        assert made.script(*words) == (status, [f"ai_edge_litert {version}, {kernels}", *lines]), words


def test_as_a_script_of_kernels_of_no_profile(made: Made) -> None:
    """Those that LiteRT has without its delegate round in a way of their own."""
    status, lines = made.script("--kernels", "no-delegate", "--pictures", "1")
    assert status == 1 and lines[1] == f"not {made.profile}: 1 of 2 outputs equal"
    assert lines[-1].startswith("picture 1 of 1: output 0 (late) differs: its CRC is ")


def module_at(folder: Path) -> Any:
    """The script of a bundle as a module."""
    spec = importlib.util.spec_from_file_location("model_selftest_under_test", folder / "model_selftest.py")
    assert spec is not None and spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


def test_as_a_module_with_a_function_of_the_users(made: Made, tmp_path: Path) -> None:
    """Outputs of any shape; what cannot be outputs of the file did not run."""
    script = module_at(made.folder)
    for name, (profile, device) in devices(made).items():
        lines: list[str] = []
        flat = lambda codes: [maps.reshape(-1) for maps in device(codes)]  # noqa: B023, E731
        assert (script.selftest(flat, lines.append), lines) == lines_of(made, profile), name
    for run, words in (
        (lambda codes: device(codes)[:1], "1 outputs, the file has 2"),
        (lambda codes: [maps.astype(np.int16) for maps in device(codes)], "output 0 (late) is int16 (1, 16, 16, 8), "),
        (lambda codes: device(codes)[::-1], "output 0 (late) is int8 (1, 16, 16, 2), the file's int8 (1, 16, 16, 8)"),
        (lambda codes: 1 // 0, "ZeroDivisionError: integer division or modulo by zero"),
    ):
        lines = []
        assert script.selftest(run, lines.append) == 3
        assert len(lines) == 1 and lines[0].startswith(f"picture 1 of 2: the network did not run ({words}")


def test_as_a_script_with_a_function_of_the_users(made: Made, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "import numpy as np\n\ndef run(codes):\n    return [np.zeros((16, 16, c), np.int8) for c in (8, 2)]\n"
    )
    status, lines = made.script("--run", f"{tmp_path / 'mine.py'}:run")
    assert status == 1 and lines[0] == f"not {made.profile}: 0 of 4 outputs equal"
    assert made.script("--threads", "0")[0] == made.script("--run", "mine")[0] == 9
    other = tmp_path / "other.tflite"
    other.write_bytes(made.model + b"\0")
    assert (
        made.script("--model", str(other))[1][0] == "note: other.tflite is not the file that this self-test was made of"
    )
    other.write_bytes(b"nothing")
    status, lines = made.script("--model", str(other))
    assert status == 3 and lines[1].startswith("the network did not run (ai_edge_litert")


def test_in_tensorflow_the_interpreter_is_an_attribute(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the package; the folder ``tensorflow/lite`` of its wheels, which importlib would give, has none."""
    litert = importlib.import_module("ai_edge_litert.interpreter")
    experimental = SimpleNamespace(OpResolverType=litert.OpResolverType)
    lite = SimpleNamespace(Interpreter=litert.Interpreter, experimental=experimental)
    script, profile = module_at(made.folder), made.profile
    monkeypatch.setitem(sys.modules, "tensorflow", SimpleNamespace(lite=lite, __version__="9"))
    monkeypatch.setitem(sys.modules, "tensorflow.lite", SimpleNamespace())
    kernels = {"tflite_ref": "reference", "xnnpack": "default"}[profile]
    run, what = script.interpreter_run(made.model, kernels, 1, "tensorflow")
    assert what == f"tensorflow 9, {kernels} kernels, 1 thread"
    assert script.selftest(run, [].append) == 0
    lite.Interpreter = None
    with pytest.raises(script.NotRun, match="tensorflow 9"):
        script.interpreter_run(made.model, kernels, 1, "tensorflow")


def test_what_cannot_be_read_is_no_output_that_differs(made: Made, tmp_path: Path) -> None:
    """Status 9 and one line, not Python's 1 and a traceback."""

    def stopped(folder: Path, *words: str) -> str:
        script = str(folder / "model_selftest.py")
        done = subprocess.run([sys.executable, script, *words], capture_output=True, text=True)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (9, "", 1), done.stderr
        return done.stderr

    (tmp_path / "mine.py").write_text("run = 5\n")
    (tmp_path / "broken.py").write_text("def run(codes):\n")
    assert "has no function 'run'" in stopped(made.folder, "--run", f"{tmp_path / 'mine.py'}:run")
    assert "has no function 'other'" in stopped(made.folder, "--run", f"{tmp_path / 'mine.py'}:other")
    assert "cannot be imported (" in stopped(made.folder, "--run", f"{tmp_path / 'broken.py'}:run")
    assert "is not there" in stopped(made.folder, "--run", f"{tmp_path / 'none.py'}:run")
    copy = Path(shutil.copytree(made.folder, tmp_path / "copy"))
    data = copy / "model_selftest.npz"
    whole = data.read_bytes()
    for content in (b"", b"no zip", whole[: len(whole) // 2], whole[:300] + bytes(300) + whole[600:]):
        data.write_bytes(content)
        assert "model_selftest.npz is damaged (" in stopped(copy)
    data.unlink()
    assert "model_selftest.npz is not there" in stopped(copy)


def test_python_39_reads_the_script(made: Made) -> None:
    """The oldest that it is said to run on; packages come from elsewhere."""
    import ast

    ast.parse((made.folder / "model_selftest.py").read_text(), feature_version=(3, 9))
    names = set(sys.stdlib_module_names) | {"numpy"}
    tree = ast.parse((made.folder / "model_selftest.py").read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            assert {alias.name.split(".")[0] for alias in node.names} <= names
        elif isinstance(node, ast.ImportFrom):
            assert node.module is not None and node.module.split(".")[0] in names


def test_what_is_in_the_bundle(made: Made) -> None:
    """C arrays, resolver and arena are TensorFlow Lite Micro's, which has one of the profiles."""
    micro = {"model_data.c", "model_data.h", "model_ops.h"}
    assert micro & set(made.bundle.files) == (micro if made.profile == "tflite_ref" else set())
    assert {"model_selftest.py", "model_selftest.npz", "model_selftest.c", "model_selftest_host.c"} <= set(
        made.bundle.files
    )
    page = (made.folder / "README.md").read_text()
    assert f"The file is made for `{made.profile}`" in page and "| `tflite_ref` | LiteRT's reference kernels" in page
    assert f"| `{OTHER[made.profile]}` | {KERNELS[OTHER[made.profile]]} | 2 of 4 |" in page
    assert ("arena" in page) == ("resolver" in page) == (made.profile == "tflite_ref")
    order = [page.index("In C99, link"), page.index("In Python, with numpy")]
    assert order == sorted(order, reverse=made.profile == "xnnpack")


def test_the_same_model_gives_the_same_bytes(made: Made) -> None:
    found = expectation(made.model, made.graph, made.codes, None)
    files = selftest_files("model", ["late", "early"], found, made.model)
    assert files == {name: (made.folder / name).read_bytes() for name in files}


def product() -> tuple[IntGraph, np.ndarray]:
    """A product of scales that are powers of two: x86 and ARM round its ties differently."""
    g = GraphBuilder((2, 32, 32), qparams(1 / 16, 0))
    g.conv("x", "w", 2, (1, 1), padding=(0, 0), activation="none", q=qparams(1 / 16, 0))
    g.mul("x", "w", "y", qparams(1.0, 0))
    return g.graph("y"), np.random.default_rng(0).integers(-128, 128, (1, 32, 32, 2)).astype(np.int8)


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="LiteRT's kernels of x86 are measured")
def test_where_implementations_of_a_profile_differ_each_is_named() -> None:
    graph, codes = product()
    found = expectation(tflite.write(graph), graph, codes, None)
    x86, arm = "xnnpack (LiteRT default, x86_64)", "xnnpack (LiteRT default, aarch64)"
    assert list(found.outputs) == ["tflite_ref", x86, arm]
    assert "XNNPACK rounds some products differently on x86 and ARM" in found.left_out["xnnpack"]
    assert kernels_of(arm) == "LiteRT default, aarch64" and litert_of(arm) == "default"
    q = codes[0].astype(int)
    tensors = LiteRTRuntime(tflite.write(graph), "default", keep_tensors=True).run_all(codes)
    centred = tensors[file_names(graph)["w"]][0].astype(int)
    exact = q * centred / 256  # the output's scale is that many products
    assert np.array_equal(found.outputs[x86][0][0], np.clip(np.rint(exact), -128, 127))
    assert np.array_equal(found.outputs[arm][0][0], np.clip(np.floor(exact + 0.5), -128, 127))
    assert not np.array_equal(*(found.outputs[name][0] for name in (x86, arm)))


def test_where_they_agree_on_the_pictures_it_is_the_profile() -> None:
    """Numbers that the profile does not promise, with which these pictures meet no tie."""
    graph, _ = product()
    codes = np.zeros((1, 32, 32, 2), np.int8)
    found = expectation(tflite.write(graph), graph, codes, None)
    assert list(found.outputs) == ["tflite_ref", "xnnpack"] and not found.left_out


def test_a_profile_that_says_nothing_of_a_file_is_left_out_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph, codes = product()
    monkeypatch.setattr(expectations, "_by_implementation", lambda *args: {})
    found = expectation(tflite.write(graph), graph, codes, None)
    why = "XNNPACK rounds some products differently on x86 and ARM"
    assert list(found.outputs) == ["tflite_ref"] and why in found.left_out["xnnpack"]
    text = selftest_texts("model", ["y"], found)["model_selftest.c"]
    assert f"/* xnnpack is left out: {found.left_out['xnnpack']} */" in text
    for name, data in selftest_files("model", ["y"], found, b"").items():
        (tmp_path / name).write_bytes(data)
    lines: list[str] = []
    script = module_at(tmp_path)
    assert script.selftest(lambda codes: [codes], lines.append) == 1
    assert lines[0] == "not tflite_ref: 0 of 1 outputs equal"
    assert lines[1] == f"xnnpack is not known of this file: {found.left_out['xnnpack']}"


def test_a_runtime_that_computes_otherwise_is_not_promised(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the executor gives for a profile is held against LiteRT where that has its kernels."""
    monkeypatch.setattr(expectations, "under", lambda graph, profile: graph)
    found = expectation(made.model, made.graph, made.codes, None)
    assert list(found.outputs) == [made.profile]
    assert "other codes of the output late than the executor" in found.left_out[OTHER[made.profile]]
    another = network(made.profile, seed=4)
    with pytest.raises(UserError, match="no self-test can be made: LiteRT .* gives .* than the executor; export"):
        expectation(made.model, another, made.codes, None)


def test_boxes_that_differ_are_named(tmp_path: Path) -> None:
    """By the script, to the last bit; the decoder is one that knows the first output."""
    (tmp_path / "model_decoder.py").write_text(
        "import numpy as np\n\n\ndef decode(outputs, size):\n    assert tuple(size) == (4, 4)\n"
        "    score = outputs[0].reshape(-1)[:2].astype(np.float32) / np.float32(3)\n"
        "    return dict(boxes=np.ones((2, 4), np.float32), scores=score, labels=np.array([0, 1]))\n"
    )
    outputs = [np.array([5, 4], np.int8).reshape(1, 1, 1, 2)]
    right = {
        "boxes": np.ones((2, 4), np.float32),
        "scores": np.array([5, 4], np.float32) / np.float32(3),
        "labels": np.array([0, 1]),
    }

    def status(**changed: np.ndarray) -> tuple[int, str]:
        found = Expected(np.zeros((1, 4, 4, 3), np.int8), {"xnnpack": outputs}, [{**right, **changed}], "by hand")
        for name, data in selftest_files("model", ["y"], found, b"").items():
            (tmp_path / name).write_bytes(data)
        lines: list[str] = []
        code = module_at(tmp_path).selftest(lambda codes: outputs, lines.append)
        assert lines[0] == "implements xnnpack: 1 of 1 outputs equal"
        return code, lines[-1]

    assert status() == (0, "ok: 1 pictures, 1 outputs each, 2 boxes")
    score = np.nextafter(right["scores"], np.float32(9))
    bits = right["scores"].view(np.uint32)[0]
    line = f"picture 1 of 1: box 0 differs: the bits of its score are {bits:08x}, expected {bits + 1:08x}"
    assert status(scores=score) == (2, line)
    assert status(labels=np.array([0, 2])) == (2, "picture 1 of 1: box 1 differs: its label is 1, expected 2")
    one = {key: value[:1] for key, value in right.items()}
    assert status(**one) == (2, "picture 1 of 1: 2 boxes, expected 1")


def test_what_runs_the_file_with_other_numbers_is_said(tmp_path: Path) -> None:
    graph, codes = network("tflite_ref"), np.zeros((1, 16, 16, 3), np.int8)
    model, target = tflite.write(graph), get_target("litert-xnnpack")
    bundle = write_bundle(tmp_path / "b", model, graph, codes, None, no_decoder="no boxes", target=target)
    assert len(bundle.remarks) == 1 and bundle.remarks[0] in (tmp_path / "b" / "README.md").read_text()
    assert bundle.remarks[0].startswith("litert-xnnpack computes in the arithmetic 'xnnpack', and this model is made")


def test_what_runs_the_file_in_its_second_arithmetic_is_said() -> None:
    ref, xnn, target = PROFILES["tflite_ref"], PROFILES["xnnpack"], get_target("litert-xnnpack")
    assert target.other_arithmetic(xnn, ref) == ""
    assert "computes in the second arithmetic, 'xnnpack': the codes are the eval" in target.other_arithmetic(ref, xnn)
    assert "and this model is made for 'tflite_ref'" in target.other_arithmetic(ref, PROFILES["tflite_single"])


def test_boards_and_npus_of_another_arithmetic_are_refused() -> None:
    xnn, ref = PROFILES["xnnpack"], PROFILES["tflite_ref"]
    check_profile(xnn, get_target("tflite"), get_board("raspberry-pi"))
    check_profile(ref, get_target("ethos-u55-64"), get_board("esp32-s3"))
    with pytest.raises(UserError, match="Arm Ethos-U55, 64 MACs a cycle computes in the arithmetic 'tflite_ref'"):
        check_profile(xnn, get_target("ethos-u55-64"), None)
    with pytest.raises(
        UserError, match="--board esp32-s3 runs TensorFlow Lite Micro, which computes in .* 'tflite_ref'"
    ):
        check_profile(xnn, None, get_board("esp32-s3"))
