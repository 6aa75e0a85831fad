"""The table of formats, the job that writers are given, and the files that hold float models."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from hatdet.export.delivery import file_record
from hatdet.export.files import sidecar, write_atomic
from hatdet.export.float_graph import trace_float
from hatdet.export.formats import savedmodel as format_savedmodel
from hatdet.export.formats import tflite as format_tflite
from hatdet.export.formats import torchscript as format_torchscript
from hatdet.export.formats.float_files import FLOAT32_TOLERANCE, checked
from hatdet.export.formats.table import FORMATS, ExportJob, ExportOptions, Format, choose_formats, export_all, module_of
from hatdet.export.formats.tflite import export_float
from hatdet.export.runtimes.floating import (
    FileDetector,
    SavedModelFolder,
    TorchScriptFile,
    channels_first,
    compare,
    is_torchscript,
    parse_metadata,
)
from hatdet.export.tflite.floating import stored_half, survives_half
from hatdet.utils.errors import UserError
from tests.helpers.float_nets import EveryOperatorDetector, every_operator, small_rtmdet

SIZE = (64, 96)


def job_for(folder: Path, detector: Any, size: tuple[int, int] = SIZE, **options: Any) -> ExportJob:
    """A job of float weights on random images."""
    pixels = torch.randint(0, 256, (2, 3, *size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))

    def no_graph() -> Any:
        raise UserError("no integer model here")

    def no_codes(raw: Tensor) -> Tensor:
        raise AssertionError("float formats need no codes")

    return ExportJob(
        stem=folder / "epoch_3",
        image_size=size,
        options=ExportOptions(**options),
        make_detector=(lambda: detector) if detector is not None else None,
        make_graph=no_graph,
        make_pixels=lambda count: pixels[:count],
        make_codes=no_codes,
        facts={**(detector.metadata() if detector is not None else {}), "image_size": list(size)},
        source="float" if detector is not None else "qat",
    )


# ---- the table


def test_names_aliases_and_order() -> None:
    chosen = choose_formats(["savemodel", "ONNX", "tflite", "saved_model"])
    assert [row.name for row in chosen] == ["savedmodel", "onnx", "tflite"]
    names = [name for row in FORMATS for name in (row.name, *row.aliases)]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tflight", r"--format tflight is not available; available: tflite, onnx, .*; did you mean 'tflite'\?"),
        ("hailo", "--format hailo is not available: its compiler is not public"),
        ("pb", "frozen graphs are a format of TensorFlow 1; use --format savedmodel"),
    ],
)
def test_other_names_are_refused(name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        choose_formats(["tflite", name])


def test_a_writer_that_is_not_there() -> None:
    with pytest.raises(UserError, match="--format new is not part of this version"):
        module_of(Format("new", "hatdet.export.format_new", ""))


def test_what_is_missing_is_said_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    records = export_all(job_for(tmp_path, small_rtmdet(), verify=1), choose_formats(["torchscript", "savedmodel"]))
    with pytest.raises(UserError, match="--format savedmodel needs tensorflow"):
        next(records)
    assert list(tmp_path.iterdir()) == []
    records = export_all(job_for(tmp_path, small_rtmdet(), opset=99), choose_formats(["torchscript", "onnx"]))
    with pytest.raises(UserError, match="--opset 99 is not available"):
        next(records)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("row", FORMATS, ids=lambda row: row.name)
def test_every_format_has_both_functions(row: Format) -> None:
    module = module_of(row)
    assert callable(module.require) and callable(module.export)


# ---- the job


def test_quantized_weights_have_no_float_files(tmp_path: Path) -> None:
    job = job_for(tmp_path, None)
    assert not job.has_float
    with pytest.raises(UserError, match="the weights are those of qat, which only integer files carry"):
        format_torchscript.export(job)
    assert list(tmp_path.iterdir()) == []


def test_file_names() -> None:
    job = job_for(Path("work") / "run", None)
    assert job.path("_int8.tflite") == Path("work/run/epoch_3_int8.tflite")
    assert sidecar(Path("a/epoch_3_int8.tflite")) == Path("a/epoch_3_int8.json")
    assert sidecar(Path("a/epoch_3.onnx")) == Path("a/epoch_3.onnx.json")
    assert sidecar(Path("a/epoch_3_saved_model")) == Path("a/epoch_3_saved_model.json")


def test_writing_leaves_nothing_behind_where_it_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_atomic(tmp_path / "new" / "a.bin", b"old")

    def full(source: object, target: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("hatdet.export.files.os.replace", full)
    with pytest.raises(OSError, match="No space"):
        write_atomic(tmp_path / "new" / "a.bin", b"new")
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["a.bin"]
    assert (tmp_path / "new" / "a.bin").read_bytes() == b"old"


def test_a_folder_has_a_record_too(tmp_path: Path) -> None:
    for name, content in (("a", b"1234"), ("b/c", b"56")):
        write_atomic(tmp_path / "m" / name, content)
    first = file_record(tmp_path / "m")
    assert (first["file"], first["bytes"], len(first["sha256"])) == ("m", 6, 64)
    write_atomic(tmp_path / "m" / "a", b"1235")
    assert file_record(tmp_path / "m")["sha256"] != first["sha256"]


# ---- .tflite in float


@pytest.mark.parametrize("decode", [False, True])
def test_float_tflite_files_and_their_metadata(decode: bool, tmp_path: Path) -> None:
    pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed")
    job = job_for(tmp_path, small_rtmdet(), decode=decode, verify=2)
    with pytest.raises(UserError, match="no integer model here"):
        format_tflite.export(job)
    assert list(tmp_path.iterdir()) == [], "what cannot be quantized is refused before anything is written"
    graph = format_tflite.trace_float(job.detector, job.image_size, decode)
    metadata = {}
    for kind in ("float32", "float16"):
        assert format_tflite.export_float(job, graph, half=kind == "float16").ok
        found = json.loads((tmp_path / f"epoch_3_{kind}.json").read_text())
        assert found == format_tflite.tflite.read_metadata(tmp_path / f"epoch_3_{kind}.tflite")
        assert (found["format"], found["profile"], found["decoded"]) == (f"tflite {kind}", "float32", decode)
        metadata[kind] = found
    float32 = metadata["float32"]
    assert float32["input"]["shape"] == [1, 64, 96, 3] and float32["input"]["scale"] is None
    names = ["boxes", "scores"] if decode else ["cls_8", "cls_16", "cls_32", "reg_8", "reg_16", "reg_32"]
    assert float32["output_names"] == names == [t["name"] for t in float32["outputs"]]
    assert float32["outputs"][0]["shape"] == ([1, 126, 4] if decode else [1, 8, 12, 2])
    assert set(float32) - {"boxes"} == set(metadata["float16"]) - {"boxes"}


def test_the_record_states_the_difference(tmp_path: Path) -> None:
    pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed")
    job = job_for(tmp_path, every_operator(), (36, 28), verify=2)
    graph = format_tflite.trace_float(job.detector, job.image_size)
    record = format_tflite.export_float(job, graph, half=False)
    assert record.ok and record.text.startswith("against torch on 2 images (LiteRT, default kernels): largest diff")
    outputs = record.checks["difference"]["outputs"]
    assert list(outputs) == ["cls_4", "reg_2", "up"]
    assert all(0 < v["max_abs_difference"] < 1e-5 * v["max_abs"] for v in outputs.values())


# ---- checks


class Runtime:
    """A file that computes what it is told to."""

    name = "test"

    def __init__(self, outputs: tuple[Tensor, ...], metadata: dict[str, Any] | None = None) -> None:
        self.outputs = outputs
        self.metadata = metadata or {"output_names": ["cls_4", "reg_2", "up"]}

    def run(self, images: Tensor) -> tuple[Tensor, ...]:
        return self.outputs


@torch.no_grad()
def test_a_file_that_computes_something_else_is_not_ok(tmp_path: Path) -> None:
    job = job_for(tmp_path, every_operator(), (36, 28), verify=2)
    maps = job.detector.run_network(job.images())
    wrong = (maps[0], maps[1] + 2 * FLOAT32_TOLERANCE * maps[1].abs().max(), maps[2])
    for outputs, ok in ((maps, True), (wrong, False)):
        record = checked(job, tmp_path / "a", "x", lambda: Runtime(outputs), FLOAT32_TOLERANCE)  # noqa: B023
        assert record.ok == ok and ("MORE THAN ROUNDING" in record.text) != ok


def test_compare_is_strict() -> None:
    a = torch.tensor([[1.0, -4.0]])
    assert compare([a], [a + 0.5], ["m"]) == {"m": {"max_abs_difference": 0.5, "max_abs": 4.0}}
    with pytest.raises(ValueError, match=r"output 'm' has the shape \(1, 3\), expected \(1, 2\)"):
        compare([a], [torch.zeros(1, 3)], ["m"])
    with pytest.raises(ValueError, match="not finite"):
        compare([a], [a / 0], ["m"])
    with pytest.raises(ValueError):
        compare([a, a], [a], ["m"])


def test_channels_first() -> None:
    assert channels_first(torch.zeros(2, 5, 7, 3).numpy()).shape == (2, 3, 5, 7)
    assert channels_first(torch.zeros(2, 9, 4).numpy()).shape == (2, 9, 4)


# ---- TorchScript


@pytest.mark.parametrize("decode", [False, True])
@torch.no_grad()
def test_torchscript_is_the_model_to_the_last_bit(decode: bool, tmp_path: Path) -> None:
    model = small_rtmdet(activation="SiLU", channel_attention=True)
    job = job_for(tmp_path, model, decode=decode, verify=2)
    (record,) = format_torchscript.export(job)
    assert record.ok and "largest difference 0 in" in record.text
    path = tmp_path / "epoch_3.torchscript"
    assert is_torchscript(path) and record.path == path
    loaded = TorchScriptFile(path)
    assert loaded.metadata == json.loads((tmp_path / "epoch_3.torchscript.json").read_text())
    images = model.preprocess(torch.randint(0, 256, (3, 3, *SIZE), dtype=torch.uint8))
    maps = model.run_network(images)
    expected = model.decoding(SIZE)(*maps) if decode else maps
    found = loaded.run(images)
    assert len(found) == len(expected) and all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_other_files_are_no_torchscript(tmp_path: Path) -> None:
    torch.save({"state_dict": {"a": torch.zeros(2)}}, tmp_path / "weights.pt")
    assert not is_torchscript(tmp_path / "weights.pt")
    (tmp_path / "text.pt").write_text("nothing")
    assert not is_torchscript(tmp_path / "text.pt")
    with pytest.raises(UserError, match=r"text\.pt cannot be read as TorchScript"):
        TorchScriptFile(tmp_path / "text.pt")
    torch.jit.save(torch.jit.trace(nn.ReLU(), torch.zeros(1)), tmp_path / "foreign.pt")
    with pytest.raises(UserError, match=r"foreign\.pt carries no hatdet metadata; export it with tools/export\.py"):
        TorchScriptFile(tmp_path / "foreign.pt")


@pytest.mark.parametrize("text", ["", "{", "[]", "{}"])
def test_metadata_that_is_none(text: str) -> None:
    with pytest.raises(UserError, match="carries no hatdet metadata"):
        parse_metadata(Path("m"), text)


# ---- SavedModel


def test_without_tensorflow_one_line_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    with pytest.raises(UserError, match=r"--format savedmodel needs tensorflow .* pip install 'hatdet\[savedmodel\]'"):
        format_savedmodel.export(job_for(tmp_path, small_rtmdet()))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("make", "size", "decode"),
    [(every_operator, (30, 42), False), (small_rtmdet, SIZE, False), (small_rtmdet, SIZE, True)],
)
def test_saved_model(make: Callable[[], Any], size: tuple[int, int], decode: bool, tmp_path: Path) -> None:
    pytest.importorskip("tensorflow", reason="tensorflow is not installed")
    job = job_for(tmp_path, make(), size, decode=decode, verify=2)
    for _ in range(2):  # the second replaces the first
        (record,) = format_savedmodel.export(job)
        assert record.ok, record.text
    outputs = record.checks["difference"]["outputs"]
    assert max(v["max_abs_difference"] / v["max_abs"] for v in outputs.values()) < 1e-5
    path = tmp_path / "epoch_3_saved_model"
    assert sorted(p.name for p in tmp_path.iterdir()) == [path.name, f"{path.name}.json"]
    assert SavedModelFolder(path).metadata == json.loads((tmp_path / f"{path.name}.json").read_text())


def test_a_saved_model_replaces_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "epoch_3_saved_model").mkdir()
    (tmp_path / "epoch_3_saved_model" / "photos").write_text("dear")
    with pytest.raises(UserError, match="is there and is no SavedModel: move it away"):
        format_savedmodel.write_saved_model(None, None, tmp_path / "epoch_3_saved_model", "")  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"is no SavedModel: it has no saved_model\.pb"):
        SavedModelFolder(tmp_path / "epoch_3_saved_model")


# ---- inside the evaluation


@torch.no_grad()
def test_a_file_finds_the_detectors_boxes() -> None:
    """Raw maps and decoded outputs; the metadata tells them apart."""
    model = small_rtmdet()
    img = torch.randint(0, 256, (2, 3, *SIZE), dtype=torch.uint8)
    batch = {"img": img}
    expected = model(batch)
    maps = model.run_network(model.preprocess(img))
    raw = FileDetector(detector=model, runtime=Runtime(maps, {"output_names": ["x"]}))
    decoded = FileDetector(detector=model, runtime=Runtime(model.decoding(SIZE)(*maps), {"decoded": True}))
    assert not list(raw.parameters()), "the float weights are not the file's"
    assert all(len(e["boxes"]) > 20 for e in expected)
    for detector, tolerance in ((raw, 0.0), (decoded, 1e-4)):
        for ours, theirs in zip(expected, detector(batch), strict=True):
            assert ours["boxes"].shape == theirs["boxes"].shape
            assert float((ours["scores"] - theirs["scores"]).abs().max()) <= tolerance


class Young(nn.Module):
    """A network that has hardly begun to learn: a map hardly varies for its size, and the batch norm behind the next
    convolution takes the mean away and enlarges what is left."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.bn = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 4, 1, bias=False), nn.BatchNorm2d(4)
        nn.init.constant_(self.first.bias, 60.0)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return (self.bn(self.second(self.first(x))),)


class YoungDetector(EveryOperatorDetector):
    output_names = ("y",)  # type: ignore[assignment]

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = Young()  # type: ignore[assignment]
        self.net.bn.momentum = None  # type: ignore[union-attr]
        self.train()
        with torch.no_grad():
            for _ in range(4):
                self.net(torch.rand(8, 3, 16, 16))
        self.eval()


@torch.no_grad()
def test_half_precision_is_judged_by_what_rounding_the_weights_does(tmp_path: Path) -> None:
    """More than a twentieth of the largest value, and every bit of it rounding: torch with those weights agrees."""
    pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed")
    model = YoungDetector()
    job = job_for(tmp_path, model, (16, 16), verify=2)
    graph = trace_float(model, (16, 16))
    full, half = (export_float(job, graph, kind) for kind in (False, True))
    assert full.ok and half.ok, half.text
    first, second = half.text.splitlines()
    assert first.startswith("against torch with the same weights on 2 images") and "MORE" not in first
    assert "weights of 16 bits change the model's outputs by at most" in second and "that is much" in second
    found = half.checks["difference"]["half_precision"]["y"]
    assert found["max_abs_difference"] > 0.05 * found["max_abs"]
    exact = half.checks["difference"]["outputs"]["y"]
    assert exact["max_abs_difference"] < 1e-3 * exact["max_abs"]


@torch.no_grad()
def test_weights_too_small_for_half_precision_stay_as_they_are(tmp_path: Path) -> None:
    """A channel of 1e-7 would be 0 or 1.2e-7; the next convolution enlarges it again."""
    pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed")
    model = YoungDetector()
    net: Any = model.net
    net.first.weight.mul_(1e-7)
    net.first.bias.zero_()
    net.second.weight.mul_(100)
    net.bn.reset_running_stats()
    net.bn.running_var.fill_(1e-6)
    job = job_for(tmp_path, model, (16, 16), verify=2)
    record = export_float(job, trace_float(model, (16, 16)), True)
    found = record.checks["difference"]["half_precision"]["y"]
    assert record.ok and found["max_abs_difference"] < 2e-3 * found["max_abs"], record.text


def test_what_survives_half_precision() -> None:
    value = np.array([[1.0, 1e-7], [3e-4, -2e-4]], np.float32)
    assert survives_half(value) and stored_half(value)[0, 1] == np.float32(np.float16(1e-7))
    small = np.array([[1.0, 1e-7], [3e-7, -2e-7]], np.float32)
    assert not survives_half(small) and stored_half(small) is small
    assert survives_half(np.zeros((2, 3), np.float32)) and not survives_half(np.array([5e-9, 4e-9], np.float32))


def test_a_weight_beyond_half_precision_costs_that_file_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed")
    model = YoungDetector()
    nn.init.constant_(model.net.first.weight, 1e5)  # type: ignore[union-attr, arg-type]
    monkeypatch.setattr(format_tflite, "export_int8", lambda job: "int8")
    monkeypatch.setattr(ExportJob, "graph", None)
    records: Any = format_tflite.export(job_for(tmp_path, model, (16, 16), verify=1))
    assert records[0].path.name == "epoch_3_float32.tflite" and records[1:] == ["int8"]
    assert caplog.messages == [
        "no float16 file: first/weight reaches 100000; float16 ends at 65504: use the float32 or int8 file"
    ]


class OneOutput(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return (x,)


def test_an_operator_without_a_float_form_costs_the_float_files_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed")
    model = YoungDetector()
    model.net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Mish(), OneOutput()).eval()  # type: ignore[assignment]
    monkeypatch.setattr(format_tflite, "export_int8", lambda job: "int8")
    monkeypatch.setattr(ExportJob, "graph", None)
    assert format_tflite.export(job_for(tmp_path, model, (16, 16), verify=1)) == ["int8"]
    assert caplog.messages == [
        "no float file: operator '1' (mish) computes a function that the float .tflite format does not have; "
        "use the int8 file, or --format onnx"
    ]
    assert list(tmp_path.iterdir()) == []
