"""Damaged model files: a sealed one is refused whatever happened to it; of others the structure is checked first."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hatdet.config.config import Config
from hatdet.export.onnx import exact as onnx_exact
from hatdet.export.onnx import file as onnx_file
from hatdet.export.onnx.evaluate import OnnxLayout
from hatdet.export.runtimes import trial
from hatdet.export.runtimes.floating import is_compiled, is_float_tflite
from hatdet.export.runtimes.integer import FileLayout, LiteRTRuntime, ModelRefused, TFLiteMicroRuntime
from hatdet.export.seal import is_whole, seal
from hatdet.export.tflite import consistency as model_consistency
from hatdet.export.tflite import int8 as tflite
from hatdet.export.tflite.consistency import check_file
from hatdet.export.tflite.file_operators import FileModel, read_file
from hatdet.inference import model_files
from hatdet.inference.model_files import model_file, open_model
from hatdet.utils.errors import UserError
from tests.faults.mutate import KINDS, mutations
from tests.helpers.int_graphs import random_codes, small_network
from tests.unit.commands.conftest import Files

pytest.importorskip("ai_edge_litert", reason="the .tflite schema comes from ai-edge-litert")

READERS: dict[str, Callable[[bytes], Any]] = {
    "read_file": read_file,
    "read_metadata": tflite.read_metadata,
    "FileLayout": FileLayout,
    "is_float_tflite": is_float_tflite,
    "is_compiled": is_compiled,
}


@pytest.fixture(scope="module")
def sealed() -> bytes:
    return tflite.write(small_network(), metadata={"classes": ["a", "b"]})


@pytest.fixture(scope="module")
def unsealed(sealed: bytes) -> bytes:
    """As an earlier version of hatdet wrote it."""
    return without_seal(sealed)


def without_seal(data: bytes) -> bytes:
    return data.replace(b"hatdet-sealed", b"hatdet-former").replace(b"hatdet-sha256:", b"former-sha256:")


def refused(read: Callable[[bytes], Any], name: str, data: bytes) -> bool:
    """Whether a reader refuses the file; anything but a UserError of one line fails the test."""
    try:
        read(data)
    except UserError as error:
        assert str(error) and "\n" not in str(error), name
        return True
    except Exception as error:
        pytest.fail(f"{name}: {read} raised {type(error).__name__}: {error}")
    return False


# ------------------------------------------------------------------------------------------------------ sealed files
def test_a_file_as_it_was_written_is_whole(sealed: bytes) -> None:
    assert is_whole(sealed) and check_file(sealed)
    assert tflite.read_metadata(sealed)["classes"] == ["a", "b"]
    assert tflite.write(small_network(), metadata={"classes": ["a", "b"]}) == sealed == seal(sealed)


def test_the_seal_changes_no_number(sealed: bytes, unsealed: bytes) -> None:
    codes = random_codes((2, 32, 48, 3))
    for runtime in (LiteRTRuntime, TFLiteMicroRuntime):
        for a, b in zip(runtime(sealed).run(codes), runtime(unsealed).run(codes), strict=True):
            assert np.array_equal(a, b)


def test_every_bit_of_a_sealed_file_counts(sealed: bytes) -> None:
    """One in 61 bits here, each of its own byte; the checksum covers them all alike."""
    for bit in range(0, 8 * len(sealed), 61):
        data = bytearray(sealed)
        data[bit // 8] ^= 1 << bit % 8
        with pytest.raises(UserError):
            check_file(bytes(data))


@pytest.mark.parametrize("count", [700, pytest.param(5000, marks=pytest.mark.slow)])
def test_every_mutation_of_a_sealed_file_is_refused(sealed: bytes, count: int) -> None:
    for name, data in mutations(sealed, count, seed=count):
        for read in READERS.values():
            assert refused(read, name, data), f"{name} was taken for a good file by {read}"


def test_the_message_says_what_to_do(sealed: bytes) -> None:
    data = bytearray(sealed)
    data[len(data) // 2] ^= 1
    with pytest.raises(UserError) as caught:
        read_file(bytes(data))
    assert str(caught.value) == (
        "the file is damaged or cut off, or another program has changed it (its bytes are not those that its checksum "
        "was made of); copy it again, or export it anew"
    )


def test_damage_to_the_seal_itself(sealed: bytes) -> None:
    for data in (sealed.replace(b"hatdet-sha256:", b"hatdet-sha257:"), sealed + b"hatdet-sha256:"):
        with pytest.raises(UserError, match="its checksum is broken"):
            check_file(data)


# ------------------------------------------------------------------------------------------------- files without a seal
def test_files_of_earlier_versions_are_still_read(unsealed: bytes) -> None:
    assert not check_file(unsealed)
    assert isinstance(read_file(unsealed), FileModel)
    assert tflite.read_metadata(unsealed)["classes"] == ["a", "b"]


@pytest.mark.parametrize("count", [120, pytest.param(600, marks=pytest.mark.slow)])
def test_a_mutated_file_without_a_seal_is_refused_or_read(unsealed: bytes, count: int) -> None:
    """Damage to a weight cannot be seen there; damage to the structure is."""
    found = 0
    for name, data in mutations(unsealed, count, seed=1, begin=len(unsealed) // 3):
        found += sum(refused(read, name, data) for read in READERS.values())
    assert found > count


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_each_kind_of_damage_is_made(kind: Any, unsealed: bytes) -> None:
    data = bytearray(unsealed)
    kind(np.random.default_rng(5), data)
    assert data != unsealed


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.subgraphs[0].operators[0].__setattr__("opcodeIndex", 77), "operator 0 refers to number 77 of"),
        (lambda m: m.subgraphs[0].operators[1].inputs.__setitem__(0, 9999), "operator 1 refers to number 9999 of"),
        (lambda m: m.subgraphs[0].outputs.__setitem__(0, -5), "the graph's ends refers to number -5 of"),
        (lambda m: m.subgraphs[0].tensors[1].__setattr__("buffer", 500), r"tensor '.*' refers to number 500 of"),
        (lambda m: m.subgraphs[0].tensors[0].shape.__setitem__(1, 0), r"has the type 9 and the shape \[1, 0, 48, 3\]"),
        (lambda m: m.subgraphs[0].tensors[0].__setattr__("type", 99), "has the type 99"),
        (lambda m: weight(m).shape.__setitem__(0, 4096), r"tensor '.*' of shape \[4096, .* has \d+ bytes, not \d+"),
        (lambda m: weight(m).quantization.scale.__setitem__(0, np.nan), "has a scale that is not positive"),
        (lambda m: weight(m).quantization.__setattr__("quantizedDimension", 9), "has 8 scales"),
        (lambda m: convolution(m).builtinOptions.__setattr__("strideW", 0), "stride, dilation or window"),
        (lambda m: m.metadata[0].__setattr__("buffer", 123), "metadata refers to number 123 of"),
        (lambda m: m.signatureDefs[0].inputs[0].__setattr__("tensorIndex", 1000), "signature refers to number 1000"),
        (lambda m: m.__setattr__("version", 4), "format version 4, not 3"),
        (lambda m: m.subgraphs[0].operators.reverse(), "reads a tensor that nothing makes before"),
    ],
)
def test_numbers_that_do_not_fit(unsealed: bytes, change: Callable[[Any], None], message: str) -> None:
    """Sound as a flatbuffer, but LiteRT would read foreign memory or divide by zero."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(unsealed, 0))
    for tensor in model.subgraphs[0].tensors:
        tensor.shape = np.array(tensor.shape)
        if tensor.quantization is not None and tensor.quantization.scale is not None:
            tensor.quantization.scale = np.array(tensor.quantization.scale)
    for op in model.subgraphs[0].operators:
        op.inputs = np.array(op.inputs)
    model.subgraphs[0].outputs = np.array(model.subgraphs[0].outputs)
    change(model)
    builder = flatbuffers.Builder(len(unsealed))
    builder.Finish(model.Pack(builder), b"TFL3")
    with pytest.raises(UserError, match=message):
        check_file(bytes(builder.Output()))


def weight(model: Any) -> Any:
    """The first convolution's weights."""
    graph = model.subgraphs[0]
    return graph.tensors[convolution(model).inputs[1]]


def convolution(model: Any) -> Any:
    return next(op for op in model.subgraphs[0].operators if hasattr(op.builtinOptions, "dilationWFactor"))


def test_a_runtime_that_would_end_this_process_is_tried_out_in_another(
    unsealed: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial.try_out(unsealed, "reference")
    monkeypatch.setattr(trial, "_CODE", "import os; os.abort()")
    with pytest.raises(UserError, match="LiteRT ends with SIGABRT on it"):
        trial.try_out(unsealed, "reference")
    monkeypatch.setattr(trial, "_CODE", "import time; time.sleep(9)")
    monkeypatch.setattr(trial, "SECONDS", 0.2)
    with pytest.raises(UserError, match="does not come to an end"):
        trial.try_out(unsealed, "reference")


# ----------------------------------------------------------------------------------------------------------- test.py
def opens(config: Config, path: Path) -> str:
    """What ``tools/test.py`` makes of a file: the kind, or the one line of its refusal."""
    try:
        kind, _, _ = open_model(config, model_file(path))
    except UserError as error:
        assert "\n" not in str(error)
        return str(error)
    return kind


@pytest.mark.parametrize("count", [100, pytest.param(800, marks=pytest.mark.slow)])
def test_test_py_refuses_every_damaged_file(files: Files, tmp_path: Path, count: int) -> None:
    path, config = tmp_path / "m_int8.tflite", files.config()
    for name, data in mutations((files.root / "model_int8.tflite").read_bytes(), count, seed=2):
        path.write_bytes(data)
        assert opens(config, path).startswith(f"{path} cannot be evaluated: "), name


@pytest.mark.parametrize("count", [4, pytest.param(20, marks=pytest.mark.slow)])
def test_test_py_survives_damaged_files_without_a_seal(files: Files, tmp_path: Path, count: int) -> None:
    path, config = tmp_path / "m_int8.tflite", files.config()
    data = without_seal((files.root / "model_int8.tflite").read_bytes())
    path.write_bytes(data)
    assert opens(config, path) == "tflite"
    for name, changed in mutations(data, count, seed=3, begin=len(data) // 3):
        path.write_bytes(changed)
        found = opens(config, path)
        assert found == "tflite" or str(path) in found, f"{name}: {found}"


def test_align_tries_a_file_without_a_seal_out_in_another_process(
    files: Files, tool: Callable[[str], Callable[[list[str]], int | None]], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    path = tmp_path / "m_int8.tflite"
    path.write_bytes(without_seal((files.root / "model_int8.tflite").read_bytes()))
    monkeypatch.setattr(trial, "_CODE", "import os; os.abort()")
    words = ["--config", files.config_path, "--ckpt", str(files.root / "graph.pth.tar"), "--model", str(path)]
    with pytest.raises(UserError, match="m_int8.tflite cannot be compared: .*LiteRT ends with SIGABRT on it"):
        tool("align_bpu_validation")([*words, *files.words(work_dir=str(tmp_path / "wd"))])


def test_test_py_says_what_to_do_where_the_kernels_refuse_a_file(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: object) -> None:
        raise ModelRefused("LiteRT cannot load this file: no such operator")

    monkeypatch.setattr(model_files, "TFLiteDetector", refuse)
    path = files.root / "model_int8.tflite"
    line = f"{path} cannot be run: LiteRT cannot load this file: no such operator; export it again"
    assert opens(files.config(), path) == line + ", or try --kernels default"
    with pytest.raises(UserError) as caught:
        open_model(files.config(), model_file(path), kernels="default")
    assert str(caught.value) == line


def test_a_file_is_checked_once_for_all_that_read_it(monkeypatch: pytest.MonkeyPatch) -> None:
    checked = []
    monkeypatch.setattr(model_consistency, "check_structure", checked.append)
    data = without_seal(tflite.write(small_network(), metadata={"classes": ["c"]}))
    for read in READERS.values():
        read(data)
    assert checked == [data]


# -------------------------------------------------------------------------------------------------------------- ONNX
@pytest.fixture(scope="module")
def exact() -> bytes:
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    return onnx_exact.write_exact(small_network())


def test_onnx_files_are_sealed_too(exact: bytes) -> None:
    assert is_whole(exact)
    assert "hatdet_seal" not in onnx_file.read_metadata(exact)
    assert json.dumps(onnx_file.read_metadata(exact))


@pytest.mark.parametrize("count", [300, pytest.param(3000, marks=pytest.mark.slow)])
def test_every_mutation_of_an_onnx_file_is_refused(exact: bytes, count: int) -> None:
    for name, data in mutations(exact, count, seed=4):
        assert refused(onnx_file.open_session, name, data), name


@pytest.mark.parametrize("count", [200, pytest.param(1500, marks=pytest.mark.slow)])
def test_a_mutated_onnx_file_without_a_seal_is_refused_or_read(
    exact: bytes, count: int, capfd: pytest.CaptureFixture[str]
) -> None:
    def read(data: bytes) -> OnnxLayout:
        return OnnxLayout.of(onnx_file.open_session(data), "the model")

    found = sum(refused(read, name, data) for name, data in mutations(without_seal(exact), count, seed=9))
    assert found > count // 4
    assert not capfd.readouterr().out
