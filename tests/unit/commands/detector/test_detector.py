"""``hatdet.Detector``: any file alone, with the numbers that evaluation finds on the same pictures."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

import hatdet
from hatdet import Detector
from hatdet.commands.shared.evaluation import evaluate_model
from hatdet.inference.results import Result
from hatdet.metrics.records import Boxes
from hatdet.utils.checkpoints.checkpoint import load_checkpoint, save_checkpoint
from hatdet.utils.errors import UserError
from tests.unit.commands.conftest import Files

pytestmark = pytest.mark.slow  # eight kinds of files, each opened twice

Tool = Callable[[str], Callable[[list[str]], int | None]]
ALL = 5
"""Pictures in one batch of the evaluation: of float networks in torch the last digits depend on it."""
KINDS = {
    "model_int8.tflite": "tflite",
    "model_float32.tflite": "tflite_float32",
    "model_float16.tflite": "tflite_float16",
    "model.onnx": "onnx_float32",
    "model_int8_qdq.onnx": "onnx_qdq",
    "model_int8_exact.onnx": "onnx_exact",
    "model.torchscript": "torchscript_float32",
}


@pytest.fixture(scope="module")
def exported(files: Files, tool: Tool, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the float weights' exported files, and nothing else."""
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    made, alone = tmp_path_factory.mktemp("made"), tmp_path_factory.mktemp("alone")
    shutil.copy(files.root / "epoch_150.pth", made / "model.pth")
    words = ["--format", "tflite", "onnx", "torchscript", "--verify", "0", "--device", "cpu"]
    words += ["--image_path", str(files.root / "data" / "val2017")]
    assert tool("export")([files.config_path, str(made / "model.pth"), *words, *files.words()]) == 0
    for name in KINDS:
        shutil.copy(made / name, alone / name)
    return alone


@pytest.fixture(scope="module")
def int8(exported: Path) -> Detector:
    return Detector(exported / "model_int8.tflite", threshold=0.0)


def same(results: list[Result], expected: Boxes) -> None:
    """The very numbers of an evaluation, whose pictures are numbered from 1."""
    assert sum(map(len, results)) > 50
    for number, result in enumerate(results, 1):
        theirs = expected.of_image(number)
        assert np.array_equal(result.boxes, theirs.boxes) and np.array_equal(result.scores, theirs.scores)
        assert np.array_equal(result.labels, theirs.labels)


@pytest.mark.parametrize("name", KINDS)
def test_an_exported_file_alone_finds_what_its_evaluation_finds(name: str, files: Files, exported: Path) -> None:
    expected = evaluate_model(files.config(), exported / name).predictor.val_metrics.detection_boxes()
    detector = Detector(exported / name, threshold=0.0)
    assert detector.kind == KINDS[name] and detector.names == ("square", "disc")
    assert detector.origin == str(exported / name), "it says itself what is around its network"
    same(detector(files.root / "data" / "val2017", batch=ALL), expected)


@pytest.mark.parametrize("name", ["epoch_150.pth", "calibrated.pth", "trained.pth.tar", "graph.pth.tar"])
def test_a_checkpoint_of_any_stage_with_its_config(name: str, files: Files) -> None:
    expected = evaluate_model(files.config(), files.root / name).predictor.val_metrics.detection_boxes()
    detector = Detector(files.root / name, config=files.config(data_root="/does/not/exist"), threshold=0.0)
    assert detector.origin == files.config_path
    same(detector(files.root / "data" / "val2017", batch=ALL), expected)


@pytest.mark.parametrize("name", ["epoch_150.pth", "calibrated.pth", "graph.pth.tar"])
def test_a_checkpoint_that_carries_its_config_needs_none(name: str, files: Files, tmp_path: Path) -> None:
    state = dict(load_checkpoint(files.root / name))
    save_checkpoint(tmp_path / name, {**state, "config": files.config(data_root="/does/not/exist").dump()})
    expected = evaluate_model(files.config(), files.root / name).predictor.val_metrics.detection_boxes()
    detector = Detector(tmp_path / name, threshold=0.0)
    assert detector.origin == str(tmp_path / name)
    same(detector(files.root / "data" / "val2017", batch=ALL), expected)


def test_an_older_file_beside_its_checkpoint(files: Files, tmp_path: Path) -> None:
    shutil.copy(files.root / "model_int8.tflite", tmp_path / "best_int8.tflite")
    with pytest.raises(UserError, match=r"does not say what its detector is made of .* --config FILE"):
        Detector(tmp_path / "best_int8.tflite")
    text = files.config(data_root="/does/not/exist").dump()
    save_checkpoint(tmp_path / "last.pth.tar", {"state_dict": {}, "config": "imgsz = (64, 64)"})
    save_checkpoint(tmp_path / "best.pth.tar", {"state_dict": {}, "config": text})
    detector = Detector(tmp_path / "best_int8.tflite", threshold=0.0)
    assert detector.origin == str(tmp_path / "best.pth.tar")
    expected = evaluate_model(files.config(), tmp_path / "best_int8.tflite").predictor.val_metrics.detection_boxes()
    same(detector(files.root / "data" / "val2017", batch=ALL), expected)


def test_every_kind_of_source(files: Files, int8: Detector) -> None:
    folder = files.root / "data" / "val2017"
    paths = sorted(folder.iterdir())
    by_path = int8(paths[0])
    pixels = cv2.imread(str(paths[0]))
    assert isinstance(by_path, Result) and by_path.path == paths[0] and by_path.size == pixels.shape[:2]
    rgb = Detector(int8.path, threshold=0.0, color="RGB")(np.ascontiguousarray(pixels[:, :, ::-1]))
    for other in (int8(str(paths[0])), int8(pixels), rgb):
        assert np.array_equal(by_path.boxes, other.boxes) and np.array_equal(by_path.scores, other.scores)
    listed = int8([pixels, paths[1]])
    assert isinstance(listed, list) and [one.path for one in listed] == [None, paths[1]]
    assert np.array_equal(listed[0].image, pixels) and listed[1].image is None
    read: list[int] = []

    def frames() -> Iterator[np.ndarray]:
        for number in range(3):
            read.append(number)
            yield pixels

    found = int8(frames())
    assert not read and np.array_equal(next(found).scores, by_path.scores) and read == [0], "it reads as it goes"
    assert [one.number for one in found] == [1, 2]
    assert [one.path for one in int8(str(folder / "*.png"))] == paths


def test_batches_of_integers_are_the_single_pictures(files: Files, int8: Detector) -> None:
    folder = files.root / "data" / "val2017"
    for one, other in zip(int8(folder), int8(folder, batch=3), strict=True):
        assert np.array_equal(one.boxes, other.boxes) and np.array_equal(one.scores, other.scores)


def test_threshold_and_classes(files: Files, exported: Path, int8: Detector) -> None:
    picture = files.root / "data" / "val2017" / "0.png"
    everything = int8(picture)
    middle = float(np.median(everything.scores))
    kept = int8(picture, threshold=middle, classes=["disc"])
    assert 0 < len(kept) < len(everything) and set(kept.labels.tolist()) == {1} and kept.scores.min() >= middle
    assert np.array_equal(Detector(int8.path, threshold=middle, classes=[1])(picture).scores, kept.scores)
    for words, message in (
        ({"threshold": 2}, "threshold=2 is no score: give a number between 0 and 1"),
        ({"batch": 0}, "batch=0 is no number of pictures: give 1 or more"),
        ({"classes": ["dics"]}, "the model has no 'dics'; did you mean 'disc'"),
    ):
        with pytest.raises(UserError, match=message):
            int8(picture, **words)
    for words, message in (
        ({"kernels": "fast"}, "kernels='fast' is none of LiteRT's: use 'reference' or 'default'"),
        ({"color": "GBR"}, "color='GBR' is no order of an array's channels"),
    ):
        with pytest.raises(UserError, match=message):
            Detector(exported / "model_int8.tflite", **words)


def test_integers_run_under_reference_kernels_unless_asked_otherwise(
    int8: Detector, caplog: pytest.LogCaptureFixture
) -> None:
    assert re.fullmatch(r"LiteRT \S+, reference kernels", int8.runtime)
    assert repr(int8).startswith(f"Detector('{int8.path}': tflite, {int8.runtime}; classes square, disc")
    Detector(int8.path)
    assert caplog.messages == []
    assert re.fullmatch(r"LiteRT \S+, default kernels \(XNNPACK\)", Detector(int8.path, kernels="default").runtime)
    (warning,) = caplog.messages
    assert warning.startswith(f"{int8.path}: LiteRT ") and "results differ: open it with LiteRT's reference" in warning


def test_opening_leaves_the_random_generators_alone(exported: Path) -> None:
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    Detector(exported / "model_int8.tflite")
    assert torch.equal(torch.rand(1), expected)


def test_a_text_may_only_name_parts_of_hatdet(files: Files, tmp_path: Path) -> None:
    state = dict(load_checkpoint(files.root / "epoch_150.pth"))
    text = files.config().dump()
    for found, put, message in (
        ("type='Resize'", "type='CocoDataset'", "is built with 'CocoDataset', which is no model, transform or conv"),
        ("type='Resize'", "type='torch.hub.load'", "is built with 'torch.hub.load', which is no model"),
        ("type='Resize'", "type=open('x')", r"is built with open\('x'\), which cannot be read from a text"),
    ):
        assert found in text
        save_checkpoint(tmp_path / "bad.pth", {**state, "config": text.replace(found, put)})
        with pytest.raises(UserError, match=message):
            Detector(tmp_path / "bad.pth")


def test_importing_hatdet_imports_no_torch_until_a_detector_is_asked_for(repo_root: Path) -> None:
    code = "import sys, hatdet; print('torch' in sys.modules); hatdet.Detector; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=repo_root, check=True)
    assert done.stdout.split() == ["False", "True"]
    with pytest.raises(AttributeError, match="has no attribute 'Detectr'"):
        hatdet.Detectr  # noqa: B018


def test_objects_of_frames_are_followed(int8: Detector, files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    """The picture stands still: what is found again has the number that it had; a file that is no video is refused."""
    pytest.importorskip("supervision", reason="supervision is not installed")
    picture = cv2.imread(str(files.root / "data" / "val2017" / "0.png"))
    detect = type(int8.engine).detect

    def sure(engine: object, frames: object) -> list[Result]:
        """What the untrained network finds, as a trained one would be sure of it."""
        found: list[Result] = detect(engine, frames)  # type: ignore[arg-type]
        return [replace(one, scores=one.scores * 0 + np.float32(0.9)) for one in found]

    monkeypatch.setattr(type(int8.engine), "detect", sure)
    first, second = int8.track((picture for _ in range(2)), threshold=0.5, classes=["disc"])
    assert first.ids is not None and second.ids is not None and len(first.ids) > 1
    assert first.ids.tolist() == second.ids.tolist() and {name for *_, name in first} == {"disc"}
    with pytest.raises(UserError, match=r"0\.png is no video; name one, a camera, a stream"):
        int8.track(files.root / "data" / "val2017" / "0.png")
