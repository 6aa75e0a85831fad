"""tools/align_bpu_validation.py: equal paths pass, every kind of difference is found and named, runs resume."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hatdet.commands.align_bpu_validation import loop
from hatdet.commands.align_bpu_validation import run as alignment_run
from hatdet.commands.align_bpu_validation.comparison import Alignment, load_decoder, make_reference, open_runtimes
from hatdet.commands.align_bpu_validation.progress import Progress, pack, unpack
from hatdet.export.metadata import file_names
from hatdet.export.tflite import int8 as tflite
from hatdet.integer.graph import IntGraph
from hatdet.integer.operators.windows.conv import ConvOp
from hatdet.utils.checkpoints.checkpoint import load_checkpoint
from hatdet.utils.errors import UserError
from tests.unit.commands.conftest import Files

Tool = Callable[[str], Callable[[list[str]], int | None]]
Run = Callable[..., tuple[int | None, dict[str, Any]]]


@pytest.fixture
def run(files: Files, tool: Tool, tmp_path: Path) -> Run:
    """``run("--num-images", "2")``: exit status and report, of the integer graph (it needs no conversion)."""

    def call(
        *words: str, runtimes: tuple[str, ...] = ("litert",), checkpoint: str = "graph.pth.tar", **changes: object
    ) -> tuple[int | None, dict[str, Any]]:
        out = tmp_path / "report.json"
        arguments = ["--config", files.config_path, "--ckpt", str(files.root / checkpoint), "--out", str(out)]
        options = files.words(work_dir=str(tmp_path / "wd"), **changes)
        status = tool("align_bpu_validation")([*arguments, *words, "--runtimes", *runtimes, *options])
        return status, json.loads(out.read_text())

    return call


def test_equal_paths(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    status, report = run(runtimes=("torch", "litert", "litert-default"), checkpoint="trained.pth.tar")
    assert status == 0 and report["ok"] and report["images"] == 5
    assert report["values"] == 5 * (64 + 16 + 4) * (2 + 4)
    assert report["input_differing"] == 0 and report["differing"] == {"torch": 0, "litert": 0}
    assert report["boxes_differing"] == 0 and report["different"] == []
    assert report["metrics"]["int_infer"] == report["metrics"]["deployed"]
    assert report["drift"]["max_lsb"] >= 0 and report["drift"]["kernels"] == "default"
    assert report["arithmetic"] == "tflite_ref" and "litert-default" in report["metrics"]
    text = capsys.readouterr().out
    assert "5 images, 2520 output values" in text and "equal to the last digit" in text and text.count("aligned") == 1


def test_a_model_for_the_default_kernels(run: Run, files: Files, capsys: pytest.CaptureFixture[str]) -> None:
    """Its own kernels have to agree, under either name, and the drift is the reference ones'."""
    trained: dict[str, Any] = {"checkpoint": "trained.pth.tar", "arithmetic": "xnnpack"}
    status, report = run(runtimes=("litert-default", "litert-reference"), **trained)
    assert status == 0 and report["arithmetic"] == "xnnpack" and report["differing"] == {"torch": 0, "litert": 0}
    assert report["runtimes"] == ["torch", "litert", "litert-reference"]
    assert report["drift"]["kernels"] == "reference" and report["drift"]["share"] > 0
    assert set(report["metrics"]) == {"int_infer", "deployed", "litert-reference"}
    text = capsys.readouterr().out
    assert "arithmetic: xnnpack (LiteRT's default kernels (XNNPACK))" in text and "default kernels (not" not in text
    assert "LiteRT's reference kernels (not part of the verdict)" in text
    with pytest.raises(UserError, match="tflm computes in the arithmetic 'tflite_ref', and this model is made for"):
        run(runtimes=("tflm",), **trained)
    message = "model_int8.tflite is made for the arithmetic 'tflite_ref', the int_infer model for 'xnnpack'; export it"
    with pytest.raises(UserError, match=message):
        run("--model", str(files.root / "model_int8.tflite"), **trained)


def test_equals_predict(run: Run, files: Files) -> None:
    from hatdet.commands.shared.evaluation import evaluate_model

    values = evaluate_model(files.config(), files.root / "graph.pth.tar").values
    assert run()[1]["metrics"]["deployed"] == pytest.approx(values, abs=0, nan_ok=True)


def test_split_and_number_of_images(run: Run) -> None:
    status, report = run("--split", "train", "--num-images", "3")
    assert status == 0 and report["images"] == 3 and report["split"] == "train"


def test_an_interrupted_run_goes_on(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    original = Alignment.image

    def image(self: Alignment, index: int) -> dict[str, Any]:
        if index == 3 and len(seen) == 3:
            raise KeyboardInterrupt
        seen.append(index)
        return original(self, index)

    monkeypatch.setattr(Alignment, "image", image)
    with pytest.raises(KeyboardInterrupt):
        run()
    seen.append(-1)
    first = run()[1]
    assert seen == [0, 1, 2, -1, 3, 4] and first["ok"]
    again = run()[1]
    assert len(seen) == 6, "nothing was left to do"
    assert again["metrics"] == first["metrics"]
    run("--restart", "--num-images", "2")
    assert seen[6:] == [0, 1]


def test_of_a_set_that_takes_long_the_first_images_are_compared(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Four at least; a run that goes on keeps to them, --all takes the rest, and the metric is of the part's own."""
    seen: list[int] = []
    original = Alignment.image
    monkeypatch.setattr(Alignment, "image", lambda self, index: seen.append(index) or original(self, index))
    monkeypatch.setattr(loop, "HOUR_S", 1e-6)
    status, report = run()
    assert status == 0 and seen == [0, 1, 2, 3] and (report["images"], report["of_images"]) == (4, 5)
    text = capsys.readouterr().out
    assert "the first 4 are compared (--all: all of them" in text and "the first 4 of 5; 4 images, " in text
    assert run()[1]["metrics"] == report["metrics"] == run("--num-images", "4")[1]["metrics"] and seen == [0, 1, 2, 3]
    assert run("--all")[1]["images"] == 5 and seen == [0, 1, 2, 3, 4]
    monkeypatch.setattr(loop, "HOUR_S", 3600.0)
    assert run("--restart")[1]["images"] == 5
    with pytest.raises(UserError, match="--all compares every image, --num-images 2 some: give one of them"):
        run("--all", "--num-images", "2")


def test_how_many_images_fit_into_an_hour(tmp_path: Path) -> None:
    progress = Progress(tmp_path / "p.jsonl", {})
    assert loop.sample_of(progress, 5000) == 5000  # nothing is known
    for index, seconds in enumerate((900.0, 100.0, 300.0)):
        progress.add({"index": index, "detections": {}, "seconds": seconds})
        assert loop.settled(progress, index) == (index != 1)
    assert loop.sample_of(progress, 36) == 36 and loop.sample_of(progress, 37) == 36  # 100 s each
    progress.take_sample(36)
    again = Progress(tmp_path / "p.jsonl", {})
    assert again.sample == 36 and sorted(again.records) == [0, 1, 2]
    assert Progress(tmp_path / "p.jsonl", {}, restart=True).sample is None


def test_a_different_preprocessing_is_found(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(path: Path) -> Any:
        module = load_decoder(path)
        original = module.preprocess
        module.preprocess = lambda picture: np.roll(original(picture), 1, axis=2)  # type: ignore[attr-defined]
        return module

    monkeypatch.setattr(alignment_run, "load_decoder", broken)
    status, report = run("--num-images", "1")
    assert status == 1 and not report["ok"] and report["input_differing"] > 100
    assert report["first_differing"] == {"torch": "the input codes", "litert": "the input codes"}
    assert report["different_images"][0]["file"] == "0.png"


def test_different_boxes_are_found(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(path: Path) -> Any:
        module = load_decoder(path)
        module.MODEL["iou_threshold"] = 0.3  # type: ignore[attr-defined]
        return module

    monkeypatch.setattr(alignment_run, "load_decoder", broken)
    status, report = run("--num-images", "2")
    assert status == 1 and report["boxes_differing"] == 2 and report["differing"] == {"torch": 0, "litert": 0}


@pytest.fixture(scope="module")
def graph(files: Files) -> IntGraph:
    return IntGraph.from_state(load_checkpoint(files.root / "graph.pth.tar")["int_graph"])


def test_a_file_of_other_weights_is_found(
    run: Run, graph: IntGraph, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    convs = [op for op in graph.ops if isinstance(op, ConvOp)]
    changed = convs[7]
    changed.bias[:] = -changed.bias
    try:
        tflite.write(graph, tmp_path / "other.tflite", {"classes": ["square", "disc"]})
    finally:
        changed.bias[:] = -changed.bias
    status, report = run("--model", str(tmp_path / "other.tflite"), "--num-images", "1")
    assert status == 1 and report["differing"]["torch"] == 0 and report["differing"]["litert"] > 0
    assert report["first_differing"] == {"litert": changed.output}
    assert f"0.png (image 1): litert: first in {changed.output}" in capsys.readouterr().out
    tflite.write(graph, tmp_path / "same.tflite", {"classes": ["square", "disc"]})
    assert run("--model", str(tmp_path / "same.tflite"), "--num-images", "1")[0] == 0


def test_refusals(run: Run, files: Files, tool: Tool, tmp_path: Path) -> None:
    for words, message in (
        (["--num-images", "0"], "--num-images takes a number of at least 1, got 0"),
        (["--model", "a.pth"], "--model a.pth: an int8 .tflite is compared"),
        (["--model", "absent.tflite"], "no such model: absent.tflite"),
    ):
        with pytest.raises(UserError, match=message):
            run(*words)
    with pytest.raises(UserError, match="unknown runtime 'litrt'; did you mean 'litert'\\?; there are torch, litert"):
        run(runtimes=("litrt",))
    (tmp_path / "x.tflite").write_bytes(b"not a model")
    with pytest.raises(UserError, match="cannot be compared: this is not a TensorFlow Lite model"):
        run("--model", str(tmp_path / "x.tflite"))
    with pytest.raises(UserError, match="run `python tools/train.py --stage"):
        tool("align_bpu_validation")(["--config", files.config_path, *files.words(work_dir=str(tmp_path / "empty"))])


def test_torch_alone_needs_no_runtime(graph: IntGraph) -> None:
    found = open_runtimes(b"", graph, ["torch"])
    assert found.names == ["torch"] and found.drift is None


def test_every_reference_runtime_and_its_tensors(graph: IntGraph, files: Files) -> None:
    """TFLite Micro and the exact ONNX form agree with LiteRT, also in the tensors between."""
    pytest.importorskip("tflite_micro", reason="TFLite Micro is not installed")
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    file = (files.root / "model_int8.tflite").read_bytes()
    codes = np.random.default_rng(0).integers(-128, 128, (1, 64, 64, 3)).astype(np.int8)
    every = {name: make_reference(name, file, graph, keep_tensors=True) for name in ("litert", "tflm", "onnx")}
    outputs = {name: runtime.run(codes) for name, runtime in every.items()}
    tensors = {name: runtime.run_all(codes) for name, runtime in every.items()}
    assert len(outputs["onnx"]) == 6 and len(np.unique(outputs["litert"][0])) > 10
    for name in ("tflm", "onnx"):
        assert all(np.array_equal(a, b) for a, b in zip(outputs["litert"], outputs[name], strict=True))
        assert all(np.array_equal(tensors["litert"][key], tensors[name][key]) for key in tensors["onnx"])
    names = file_names(graph)
    assert {names[op.output] for op in graph.ops} <= tensors["onnx"].keys()


def test_progress_survives_a_cut_line_and_drops_other_runs(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    found = {
        "boxes": np.array([[0.1, 2, 3, 4.7]], np.float32),
        "scores": np.array([0.3], np.float32),
        "labels": np.array([2]),
    }
    progress = Progress(path, {"file": "a"})
    for index in (0, 1):
        progress.add({"index": index, "detections": {"int_infer": found}})
    path.write_text(path.read_text() + '{"index": 2, "dete')
    again = Progress(path, {"file": "a"})
    assert sorted(again.records) == [0, 1]
    back = again.detections(1, "int_infer")
    assert all(np.array_equal(back[key], found[key]) for key in found)
    assert not Progress(path, {"file": "b"}).records
    none = {"boxes": np.zeros((0, 4), np.float32), "scores": np.zeros(0, np.float32), "labels": np.zeros(0, np.int64)}
    assert all(len(values) == 0 for values in unpack(pack(none)).values())
