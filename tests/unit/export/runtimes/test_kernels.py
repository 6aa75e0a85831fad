"""Which kernels run a file, and the warning where they are not those that it is made for."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hatdet.export.arithmetic import described, other_kernels
from hatdet.export.opening import OPENINGS, WIDE_VERSION, in_one_line, lines, opening_of
from hatdet.export.runtimes import kernels as module
from hatdet.export.runtimes.integer import LiteRTRuntime, ModelRefused, TFLiteMicroRuntime
from hatdet.export.runtimes.kernels import KernelsUsed, kernels_used, operators_of, used_by
from hatdet.export.runtimes.parity import check_parity
from hatdet.export.runtimes.probe import probe, probe_graph
from hatdet.export.tflite import int8 as tflite
from hatdet.integer.profiles.table import PROFILES
from hatdet.utils.errors import UserError
from tests.helpers.int_graphs import GraphBuilder, qparams, random_codes, random_network, small_network, wide

litert = pytest.importorskip("ai_edge_litert.interpreter", reason="LiteRT is not installed")
WITHOUT = "BUILTIN_WITHOUT_DEFAULT_DELEGATES"


def network(profile: str) -> bytes:
    graph = small_network()
    graph.metadata["profile"] = profile
    return tflite.write(graph)


def opened(model: bytes, resolver: str, **words: Any) -> Any:
    kind = getattr(litert.OpResolverType, resolver)
    return litert.Interpreter(model_content=model, experimental_op_resolver_type=kind, **words)


@pytest.fixture
def build_without_xnnpack(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in builds that leave the delegate out: what is asked for as default kernels comes without it."""
    real = litert.Interpreter

    def other(*args: Any, **words: Any) -> Any:
        if words.get("experimental_op_resolver_type") == litert.OpResolverType.BUILTIN:
            words["experimental_op_resolver_type"] = getattr(litert.OpResolverType, WITHOUT)
        return real(*args, **words)

    monkeypatch.setattr(litert, "Interpreter", other)


def test_the_probe_tells_all_arithmetics_apart() -> None:
    found = probe()
    for name, outputs in found.expected.items():
        assert found.identify(outputs) == name
        assert all(len(np.unique(values)) > 100 for values in outputs)
        tflite.write(probe_graph(name))  # every arithmetic takes its scales
    outputs = [values.copy() for values in found.expected["xnnpack"]]
    outputs[3][0, 5, 5, 5] ^= 1
    assert found.identify(outputs) is None and set(found.expected) == set(PROFILES)


@pytest.mark.parametrize(("kernels", "threads"), [("reference", 1), ("default", 1), ("default", 4)])
def test_litert_names_its_kernels(kernels: str, threads: int) -> None:
    used = used_by(LiteRTRuntime(network("tflite_ref"), kernels, threads=threads))
    profile = {"reference": "tflite_ref", "default": "xnnpack"}[kernels]
    assert (used.arithmetic, used.kernels, used.threads) == (profile, kernels, threads)
    assert (used.operators, used.left) == (17, ())
    assert used.delegated == (16 if kernels == "default" else 0), "RESIZE_NEAREST_NEIGHBOR is TensorFlow Lite's own"
    count = "1 thread" if threads == 1 else "4 threads"
    part = "" if kernels == "reference" else " (XNNPACK) for 16 of 17 operators"
    assert used.text() == f"LiteRT {module.version_of('ai_edge_litert')}, {kernels} kernels{part}, {count}"
    other = {"tflite_ref": "xnnpack", "xnnpack": "tflite_ref"}[profile]
    opening = opening_of(other)
    assert used.warning(profile) is None and opening is not None
    assert used.warning(other) == (
        f"{used.text()}: these compute in {profile}, and the file is made for {described(other)}; results differ: open "
        f"it with LiteRT's {PROFILES[other].litert} kernels, {opening.python}"
    )


def test_micro_names_its_kernels() -> None:
    pytest.importorskip("tflite_micro", reason="TFLite Micro is not installed")
    used = used_by(TFLiteMicroRuntime(network("tflite_ref")))
    assert (used.library, used.arithmetic, used.warning("tflite_ref")) == ("TFLite Micro", "tflite_ref", None)
    assert used.text().startswith("TFLite Micro ") and used.text().endswith(", reference kernels, 1 thread")


def test_whatever_xnnpack_rounds_it_is_given() -> None:
    """No false alarm: nothing that other kernels round otherwise is left out of the delegate."""
    kept = set()
    for seed in range(12):
        runtime = LiteRTRuntime(tflite.write(random_network(seed)), "default")
        kept.update(operators_of(runtime.interpreter)[1])
    assert kept & module.ROUNDED_BY_XNNPACK == set() and {"AVERAGE_POOL_2D", "RESIZE_NEAREST_NEIGHBOR"} <= kept


def test_outputs_of_16_bits_are_left_to_tensorflow_lite() -> None:
    g = GraphBuilder((5, 7, 9), qparams(1 / 255, -128))
    g.conv("x", "y", 6, q=wide(6 / 32767))
    runtime = LiteRTRuntime(tflite.write(g.graph("y", profile="xnnpack")), "default")
    assert operators_of(runtime.interpreter) == (2, ["QUANTIZE16", "CONV_2D16"])
    used = used_by(runtime)
    assert used.warning("xnnpack") is None and "(XNNPACK) for 0 of 2 operators" in used.text()


def test_a_litert_that_lacks_16_bits_is_told_which_one_has_them(monkeypatch: pytest.MonkeyPatch) -> None:
    def older(*args: Any, **words: Any) -> Any:
        raise RuntimeError("quantize.cc:191 output->type == kTfLiteUInt8 was not true.")

    monkeypatch.setattr(litert, "Interpreter", older)
    g = GraphBuilder((5, 7, 9), qparams(1 / 255, -128))
    g.conv("x", "y", 6, q=wide(6 / 32767))
    with pytest.raises(ModelRefused, match=r"was not true\.; its 16-bit outputs need LiteRT 2\.1\.3 or later: pip"):
        LiteRTRuntime(tflite.write(g.graph("y")))
    with pytest.raises(ModelRefused, match=r"was not true\.$"):
        LiteRTRuntime(network("tflite_ref"))


def test_the_packages_minimum_is_the_first_that_loads_every_file(repo_root: Path) -> None:
    setup, pinned = (repo_root / "setup.py").read_text(), (repo_root / "constraints.txt").read_text()
    assert f'"ai-edge-litert>={WIDE_VERSION}"' in setup
    (version,) = re.findall(r"^ai-edge-litert==([\d.]+)$", pinned, re.MULTILINE)
    assert tuple(map(int, version.split("."))) >= tuple(map(int, WIDE_VERSION.split(".")))


def test_delegates_of_single_operators_are_counted_alike() -> None:
    """Each in a delegate of its own, as where all tensors are kept."""
    interpreter = opened(network("xnnpack"), "BUILTIN", experimental_disable_delegate_node_fusion=True)
    interpreter.allocate_tensors()
    assert sum(op["op_name"] == "DELEGATE" for op in interpreter._get_ops_details()) > 10
    assert operators_of(interpreter) == (17, ["RESIZE_NEAREST_NEIGHBOR"])


def test_a_build_without_xnnpack_is_named(build_without_xnnpack: None) -> None:
    used = used_by(LiteRTRuntime(network("xnnpack"), "default"))
    assert (used.arithmetic, used.delegated) == (None, 0)
    assert used.name.endswith("default kernels without XNNPACK")
    warning = used.warning("xnnpack") or ""
    assert "compute in an arithmetic that hatdet does not have" in warning
    assert "use a build that has XNNPACK, or make the model with arithmetic='tflite_ref'" in warning
    assert "open it with LiteRT's reference kernels" in (used.warning("tflite_ref") or "")


def test_parity_says_what_ran_and_why_it_differs(build_without_xnnpack: None) -> None:
    graph = small_network()
    graph.metadata["profile"] = "xnnpack"
    report = check_parity(graph, tflite.write(graph), random_codes((1, 3, 32, 48)))
    assert not report.ok and len(report.warnings) == 2, "one for each number of threads"
    assert all("default kernels without XNNPACK" in text for text in report.warnings)
    record = report.to_dict()
    assert record["kernels"]["LiteRT default"]["delegated"] == 0 and record["default_kernels"]["kernels"] == "reference"


def test_parity_of_both_profiles_names_what_ran() -> None:
    names = {"tflite_ref": "reference kernels, 1 thread", "xnnpack": "(XNNPACK) for 16 of 17 operators"}
    for profile, name in names.items():
        graph = small_network()
        graph.metadata["profile"] = profile
        report = check_parity(graph, tflite.write(graph), random_codes((1, 3, 32, 48)))
        assert report.ok and report.warnings == []
        assert f"{name}" in next(text for text in report.text().splitlines() if text.startswith("  run by LiteRT "))
        assert set(report.to_dict()["kernels"]) == set(report.runtimes)


@pytest.mark.parametrize("profile", ["tflite_ref", "xnnpack"])
@pytest.mark.parametrize("resolver", ["AUTO", "BUILTIN", "BUILTIN_REF", WITHOUT])
def test_an_interpreter_that_somebody_opened(resolver: str, profile: str) -> None:
    model = network(profile)
    used = kernels_used(opened(model, resolver, num_threads=2), model)
    expected = {"BUILTIN_REF": "tflite_ref", WITHOUT: None}.get(resolver, "xnnpack")
    assert (used.arithmetic, used.library, used.threads) == (expected, "LiteRT", None)
    assert (used.warning(profile) is None) == (expected == profile)
    if resolver == WITHOUT:
        assert used.name.endswith("unknown kernels without a delegate")


def test_a_file_of_another_maker_has_no_kernels_to_be_used() -> None:
    with pytest.raises(UserError, match="not a TensorFlow Lite model"):
        kernels_used(opened(network("xnnpack"), "AUTO"), b"something else")


def test_operators_left_out_are_warned_of() -> None:
    used = KernelsUsed("LiteRT", "9", "default", 1, 4, 2, ("CONV_2D",), "xnnpack")
    assert "other kernels run its CONV_2D; results may differ" in (used.warning("xnnpack") or "")


def test_every_profile_says_how_it_is_opened() -> None:
    for name in PROFILES:
        text = in_one_line({"profile": name})
        opening = opening_of(name)
        assert text.startswith(f"arithmetic {name}") and lines({"profile": name})[0] == f"arithmetic {described(name)}"
        if opening is not None:
            assert f"Python: {opening.python} of ai_edge_litert.interpreter" in lines({"profile": name})
            assert opening.python in text
    assert set(OPENINGS) == {"reference", "default"}
    assert "LiteRT 2.1.3 or later" in in_one_line({"profile": "xnnpack", "outputs": [{"dtype": "int16"}]})
    assert "2.1.3" not in in_one_line({"profile": "xnnpack", "outputs": [{"dtype": "int8"}]})


@pytest.mark.parametrize("first", PROFILES)
@pytest.mark.parametrize("second", PROFILES)
def test_a_file_for_two_arithmetics_says_how_it_is_opened_for_both(first: str, second: str) -> None:
    metadata = {"profile": first, "second_profile": second}
    text, said = in_one_line(metadata), lines(metadata)
    assert text.startswith(f"arithmetic {first}") and f"; made for {second} too (" in text
    assert f"made for {described(second)} too: the same numbers but for what the export reported" in said
    openings = [opening for name in (first, second) if (opening := opening_of(name)) is not None]
    for opening in openings:
        assert opening.python in text
        assert f"Python: {opening.python} of ai_edge_litert.interpreter" in said
        assert set(opening.lacking) <= set(opening.platforms)
        others = [opening.beware, *(opening.platforms[name] for name in opening.lacking)]
        assert len(openings) < 2 or not any(other in text + " ".join(said) for other in others)


@pytest.mark.parametrize(
    ("arithmetic", "second", "other"),
    [
        ("tflite_ref", None, "default"),
        ("xnnpack", None, "reference"),
        ("tflite_single", None, "reference"),
        ("tflite_single", "xnnpack", "default"),
        ("tflite_ref", "tflite_single", "default"),
    ],
)
def test_kernels_that_are_measured_beside(arithmetic: str, second: str | None, other: str) -> None:
    assert other_kernels(arithmetic, second) == other
    graph = small_network()
    graph.metadata |= {"profile": arithmetic} | ({"second_profile": second} if second else {})
    codes = random_codes((1, 3, 32, 48))
    report = check_parity(graph, tflite.write(graph), codes)
    own = second is not None and PROFILES[second].litert == other
    assert (report.other, report.other_is_second) == (other, own)


def test_kernels_of_the_second_arithmetic_are_no_others() -> None:
    used = KernelsUsed("LiteRT", "9", "default", 1, 4, 4, (), "xnnpack")
    text = used.warning("tflite_ref", "xnnpack") or ""
    assert "these compute in xnnpack, the second arithmetic of the file" in text and "results differ" not in text
    assert "results differ" in (used.warning("tflite_ref", "tflite_single") or "")
    unknown = KernelsUsed("LiteRT", "9", "unknown", 1, 4, 4, (), None)
    assert "results differ" in (unknown.warning("tflite_ref", None) or "")


def test_of_a_file_that_both_kernels_compute_alike_those_with_the_delegate_are_named() -> None:
    g = GraphBuilder((3, 8, 8), qparams(0.05, -10))
    g.requantize("x", "a", qparams(0.05, -10))
    model = tflite.write(g.graph("a"))
    assert kernels_used(opened(model, "AUTO"), model).kernels == "default"
    assert kernels_used(opened(model, "BUILTIN_REF"), model).kernels == "reference"


@pytest.mark.parametrize("resolver", ["AUTO", "BUILTIN_REF"])
def test_what_is_said_in_python_opens_the_file(resolver: str, tmp_path: Any) -> None:
    """The expressions themselves."""
    profile = "xnnpack" if resolver == "AUTO" else "tflite_ref"
    path = tmp_path / "model.tflite"
    path.write_bytes(network(profile))
    opening = opening_of(profile)
    assert opening is not None
    names = {"Interpreter": litert.Interpreter, "OpResolverType": litert.OpResolverType, "path": str(path)}
    assert kernels_used(eval(opening.python, names), path).warning(profile) is None
