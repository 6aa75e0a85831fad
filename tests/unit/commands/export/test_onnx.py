"""tools/test.py on ONNX files: the exact form finds the integer model's boxes, what does not fit is refused."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from hatdet.building import Builder
from hatdet.commands.shared.evaluation import Evaluation, evaluate_model
from hatdet.export.onnx.evaluate import OnnxDetector
from hatdet.export.onnx.exact import write_exact
from hatdet.export.onnx.floating import write_float
from hatdet.export.onnx.qdq import write_qdq
from hatdet.export.seal import seal
from hatdet.integer.graph import IntGraph
from hatdet.utils.checkpoints.checkpoint import load_checkpoint, load_state
from hatdet.utils.errors import UserError
from tests.unit.commands.conftest import SIZE, Files

pytestmark = pytest.mark.slow  # whole commands, one after another

onnx = pytest.importorskip("onnx", reason="onnx is not installed")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
CLASSES = {"classes": ["square", "disc"]}


def boxes(result: Evaluation) -> np.ndarray:
    """(n, 7): image, box, score, label of every detection."""
    found = result.predictor.val_metrics.detection_boxes()
    return np.column_stack([found.image_ids, found.boxes, found.scores, found.labels])


@pytest.fixture(scope="module")
def graph(files: Files) -> IntGraph:
    return IntGraph.from_state(load_checkpoint(files.root / "graph.pth.tar")["int_graph"])


@pytest.fixture(scope="module")
def float_detector(files: Files) -> torch.nn.Module:
    model: torch.nn.Module = Builder().build(files.config()["model"])
    load_state(model, load_checkpoint(files.root / "epoch_150.pth")["state_dict"])
    return model.eval()


@pytest.fixture(scope="module")
def exact(graph: IntGraph, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("onnx") / "exact.onnx"
    write_exact(graph, path, CLASSES)
    return path


@pytest.fixture(scope="module")
def float_file(float_detector: torch.nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("onnx") / "float.onnx"
    write_float(float_detector, SIZE, path, CLASSES)
    return path


def test_the_exact_form_finds_the_integer_models_boxes(files: Files, exact: Path) -> None:
    result, expected = (evaluate_model(files.config(), path) for path in (exact, files.root / "graph.pth.tar"))
    assert (result.kind, result.runtime) == ("onnx_exact", "onnxruntime, CPU")
    assert np.array_equal(boxes(result), boxes(expected)) and len(boxes(result)) > 100
    assert result.values == expected.values


def test_the_qdq_form_finds_similar_boxes(files: Files, graph: IntGraph, tmp_path: Path) -> None:
    write_qdq(graph, tmp_path / "q.onnx", CLASSES)
    result, exactly = (evaluate_model(files.config(), p) for p in (tmp_path / "q.onnx", files.root / "graph.pth.tar"))
    assert result.kind == "onnx_qdq"
    assert 0.8 < len(boxes(result)) / len(boxes(exactly)) < 1.25 and not np.array_equal(boxes(result), boxes(exactly))


@pytest.mark.parametrize(("decode", "preprocess"), [(False, False), (True, True)])
def test_the_float_forms_find_torchs_boxes(
    files: Files, float_detector: torch.nn.Module, tmp_path: Path, decode: bool, preprocess: bool
) -> None:
    write_float(float_detector, SIZE, tmp_path / "f.onnx", CLASSES, decode=decode, preprocess=preprocess)
    result, expected = (evaluate_model(files.config(), p) for p in (tmp_path / "f.onnx", files.root / "epoch_150.pth"))
    assert result.kind == "onnx_float32" and len(boxes(result)) > 100
    ours, theirs = (np.sort(boxes(r)[:, 5]) for r in (result, expected))
    assert abs(len(ours) - len(theirs)) <= 2
    np.testing.assert_allclose(ours[-100:], theirs[-100:], atol=1e-4)


def test_results_do_not_depend_on_workers(files: Files, exact: Path) -> None:
    detector = Builder().build(files.config()["model"]).eval()
    images = torch.randint(0, 256, (3, 3, *SIZE), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    one, four = (OnnxDetector(detector=detector, model=exact, workers=n)({"img": images}) for n in (1, 4))
    assert all(torch.equal(a[key], b[key]) for a, b in zip(one, four) for key in a) and len(one[0]["boxes"]) > 10
    with pytest.raises(UserError, match=r"takes images of \(64, 64\) \(h, w\), the batch has \(64, 32\)"):
        OnnxDetector(detector=detector, model=exact)({"img": images[..., :32]})


def test_another_image_size_names_both(files: Files, exact: Path) -> None:
    with pytest.raises(UserError, match=r"exact\.onnx takes images of \(64, 64\) .* the config has imgsz=\(32, 96\)"):
        evaluate_model(files.config(imgsz=(32, 96)), exact)


def test_other_class_names_are_refused(files: Files, graph: IntGraph, tmp_path: Path) -> None:
    write_exact(graph, tmp_path / "m.onnx", {"classes": ["cat", "dog"]})
    with pytest.raises(UserError, match=r"knows the classes cat, dog; the validation data has square, disc"):
        evaluate_model(files.config(), tmp_path / "m.onnx")


def without_metadata(source: Path, path: Path) -> Path:
    model = onnx.load(str(source))
    del model.metadata_props[:]
    onnx.save(model, str(path))
    return path


def test_a_foreign_file_that_fits_is_evaluated(files: Files, float_file: Path, tmp_path: Path) -> None:
    foreign = evaluate_model(files.config(), without_metadata(float_file, tmp_path / "foreign.onnx"))
    assert foreign.kind == "onnx"
    assert np.array_equal(boxes(foreign), boxes(evaluate_model(files.config(), float_file)))


def test_foreign_files_that_do_not_fit(files: Files, exact: Path, float_file: Path, tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"codes\.onnx takes images tensor\(uint8\).*; what can be evaluated takes one im"
    ):
        evaluate_model(files.config(), without_metadata(exact, tmp_path / "codes.onnx"))
    model = onnx.load(str(float_file))
    model.graph.output[0].name = "first"
    for node in model.graph.node:
        node.output[:] = ["first" if name == "cls_8" else name for name in node.output]
    (tmp_path / "renamed.onnx").write_bytes(seal(model.SerializeToString()))
    message = r"renamed\.onnx has the outputs first, cls_16, .*; the config's detector needs cls_8, cls_16"
    with pytest.raises(UserError, match=message):
        evaluate_model(files.config(), tmp_path / "renamed.onnx")


def test_another_number_of_classes(files: Files, tmp_path: Path) -> None:
    other = Builder().build(files.config(num_classes=3)["model"])
    write_float(other, SIZE, tmp_path / "three.onnx")
    message = r"three\.onnx gives cls_8 of \(1, 3, 8, 8\), the config's detector \(1, 2, 8, 8\): are num_classes and"
    with pytest.raises(UserError, match=message):
        evaluate_model(files.config(), tmp_path / "three.onnx")


@pytest.mark.parametrize("share", [0.0, 0.1, 0.6, 0.999])
def test_files_that_are_cut_off(files: Files, exact: Path, tmp_path: Path, share: float) -> None:
    data = exact.read_bytes()
    (tmp_path / "cut.onnx").write_bytes(data[: int(share * len(data))])
    with pytest.raises(UserError, match=r"onnxruntime cannot read .*cut\.onnx"):
        evaluate_model(files.config(), tmp_path / "cut.onnx")


def test_files_that_are_something_else(files: Files, tmp_path: Path) -> None:
    (tmp_path / "text.onnx").write_text("not a model\n")
    with pytest.raises(UserError, match=r"onnxruntime cannot read .*text\.onnx"):
        evaluate_model(files.config(), tmp_path / "text.onnx")


def test_without_onnxruntime(files: Files, exact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UserError, match="running ONNX files needs onnxruntime .*; install it with: pip install onnx"):
        evaluate_model(files.config(), exact)
