"""tools/test.py: which files it knows, that integer files give integer boxes, what it refuses."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from hatdet.commands.shared.evaluation import Evaluation, evaluate_model, with_run_beside
from hatdet.config.load import load_config
from hatdet.engine.checkpoints.provenance import trained_constants
from hatdet.utils.errors import UserError
from tests.unit.commands.conftest import Files

Tool = Callable[[str], Callable[[list[str]], int | None]]


def boxes(result: Evaluation) -> np.ndarray:
    """(n, 7): image, box, score, label of every detection."""
    found = result.predictor.val_metrics.detection_boxes()
    return np.column_stack([found.image_ids, found.boxes, found.scores, found.labels])


@pytest.fixture(scope="module")
def integer(files: Files) -> Evaluation:
    return evaluate_model(files.config(), files.root / "graph.pth.tar")


def test_the_integer_graph(integer: Evaluation) -> None:
    assert integer.kind == "int_infer"
    assert len(boxes(integer)) > 100, "without detections, equality would show nothing"


@pytest.mark.parametrize(
    ("name", "kind"), [("calibrated.pth", "calibration"), ("trained.pth.tar", "qat"), ("model_int8.tflite", "tflite")]
)
def test_every_integer_file_finds_the_same_boxes(files: Files, integer: Evaluation, name: str, kind: str) -> None:
    result = evaluate_model(files.config(), files.root / name)
    assert result.kind == kind
    assert np.array_equal(boxes(result), boxes(integer))
    assert result.values == integer.values


def test_float_weights_are_scored_in_float(files: Files, integer: Evaluation) -> None:
    result = evaluate_model(files.config(), files.root / "epoch_150.pth")
    assert result.kind == "float"
    assert len(boxes(result)) > 100 and not np.array_equal(boxes(result), boxes(integer))


def test_default_kernels_are_named(files: Files) -> None:
    result = evaluate_model(files.config(), files.root / "model_int8.tflite", kernels="default")
    assert re.fullmatch(r"LiteRT \S+, default kernels \(XNNPACK\)", result.runtime)


def test_needs_no_other_stage(files: Files) -> None:
    """A file is evaluated where nothing else of the run is left, and by a config without int_infer."""
    config = files.config(work_dir=str(files.root / "absent"))
    config["int_infer"] = None
    assert evaluate_model(config, files.root / "model_int8.tflite").kind == "tflite"
    assert not (files.root / "absent").exists()


def test_command(files: Files, tool: Tool, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, out, show = files.root / "model_int8.tflite", tmp_path / "new" / "r.json", tmp_path / "show"
    arguments = [files.config_path, str(model), "--out", str(out), "--show-dir", str(show), *files.words()]
    assert not tool("test")(arguments)
    text = capsys.readouterr().out
    assert text.count(" Average Precision ") == 6 and text.count(" Average Recall ") == 6
    record = json.loads(out.read_text())
    assert record["kind"] == "tflite" and re.fullmatch(r"LiteRT \S+, reference kernels", record["runtime"])
    assert record["arithmetic"] == "tflite_ref"
    assert {"AP", "AP50", "AR100", "AP/square"} <= record["metrics"].keys()
    pictures = sorted(show.iterdir())
    assert [path.name for path in pictures] == ["0_1.jpg", "1_2.jpg", "2_3.jpg", "3_4.jpg", "4_5.jpg"]
    original = cv2.imread(str(files.root / "data" / "val2017" / "0.png"))
    drawn = cv2.imread(str(pictures[0])).shape[1] - 4  # truth, a gap of 4, detections
    assert drawn % 2 == 0 and drawn // 2 >= original.shape[1]  # small pictures are enlarged


def test_command_with_a_config_flag(files: Files, tool: Tool, tmp_path: Path) -> None:
    words = files.words(work_dir=tmp_path)
    tool("test")(["--config", files.config_path, str(files.root / "epoch_150.pth"), *words])
    record = json.loads((tmp_path / "test" / "epoch_150.pth.json").read_text())
    assert record["kind"] == "float"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("model.har", r"model\.har is a \.har file; what can be evaluated: checkpoints \(\.pth, \.pth\.tar\), Tensor"),
        ("model.torchscript", r"no such model: .*model\.torchscript; .* has calibrated\.pth"),
        ("saved_model", "no such model: .*saved_model; what can be evaluated"),
        ("", "is a folder without saved_model.pb; what can be evaluated"),
        (
            "epoch_300.pth",
            r"no such checkpoint: .*epoch_300\.pth; .* has calibrated\.pth, epoch_150\.pth, graph",
        ),
    ],
)
def test_files_that_are_refused(files: Files, name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        evaluate_model(files.config(), files.root / name)


@pytest.mark.parametrize("name", ["model_int8.tflite", "graph.pth.tar"])
def test_another_image_size_names_both(files: Files, name: str) -> None:
    message = r"takes images of \(64, 64\) .* the config has imgsz=\(32, 96\); .*'imgsz=\(64,64\)'"
    with pytest.raises(UserError, match=message):
        evaluate_model(files.config(imgsz=(32, 96)), files.root / name)


@pytest.mark.parametrize("name", ["model_int8.tflite", "graph.pth.tar"])
def test_an_image_size_that_nobody_set_is_the_files(files: Files, integer: Evaluation, name: str) -> None:
    """``tools/train.py --cfg-options imgsz=(64,64)``, then ``tools/test.py CONFIG FILE`` without it."""
    options = {key: value for key, value in files.options.items() if key != "imgsz"}
    result = evaluate_model(load_config(files.config_path, options), files.root / name)
    assert result.values == integer.values


def test_a_checkpoint_of_another_image_size_is_scored_with_a_warning(
    files: Files, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    import logging

    monkeypatch.setattr(logging.getLogger("hatdet"), "propagate", True)
    evaluate_model(files.config(imgsz=(32, 96)), files.root / "epoch_150.pth")
    assert "was trained with imgsz=(64, 64), the config has (32, 96)" in caplog.text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the identifier TFL3 is missing"),
        (b"PK\x03\x04" * 10, "the identifier TFL3 is missing"),
        (b"\x1c\x00\x00\x00TFL3", "the file is damaged or cut off"),
    ],
)
def test_damaged_tflite(files: Files, tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "damaged.tflite"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message):
        evaluate_model(files.config(), path)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_tflite_that_is_cut_off(files: Files, tmp_path: Path, share: float) -> None:
    data = (files.root / "model_int8.tflite").read_bytes()
    path = tmp_path / "cut.tflite"
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(UserError, match=r"cut\.tflite"):
        evaluate_model(files.config(), path)


def test_other_classes_are_refused(files: Files, tmp_path: Path) -> None:
    import torch

    from hatdet.export.tflite import int8 as tflite
    from hatdet.integer.graph import IntGraph

    state = torch.load(files.root / "graph.pth.tar", weights_only=True)["int_graph"]
    path = tmp_path / "other.tflite"
    tflite.write(IntGraph.from_state(state), path, metadata={"classes": ["cat", "dog"]})
    with pytest.raises(UserError, match=r"knows the classes cat, dog; the validation data has square, disc"):
        evaluate_model(files.config(), path)


def test_another_name_of_a_checkpoint_is_said_once(
    files: Files, tool: Tool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ours = tmp_path / "float-checkpoint-epoch-0150.pth.tar"
    ours.write_bytes((files.root / "epoch_150.pth").read_bytes())
    tool("test")([files.config_path, str(tmp_path / "epoch_150.pth"), *files.words(work_dir=tmp_path)])
    said = capsys.readouterr()
    assert (said.out + said.err).count(f"this is {ours.name} here") == 1


def test_a_forgotten_model(files: Files, tool: Tool) -> None:
    with pytest.raises(UserError, match="no model was given; give its file: CONFIG MODEL"):
        tool("test")([files.config_path])
    with pytest.raises(UserError, match=r"no model was given; put m\.pth before --cfg-options"):
        tool("test")([files.config_path, "--cfg-options", "num_classes=2", "m.pth"])


def test_constants_of_a_checkpoints_config() -> None:
    text = "import os\nepochs = 3\nimgsz = (64, 96)\nhalf = epochs // 2\nmodel = dict(type='A')\na.b = 4\n"
    assert trained_constants({"config": text}) == {"epochs": 3, "imgsz": (64, 96)}
    assert trained_constants({}) == {} and trained_constants({"config": "x = ("}) == {}


def test_an_exported_file_is_scored_with_what_its_run_was_made_with(tmp_path: Path) -> None:
    """The checkpoint beside it says it, first the one it was exported from, if it is of this config; an option that
    differs means something else, and nothing is taken then."""
    path = tmp_path / "mine.py"
    path.write_text('data_root = "usual"\nimgsz = (64, 64)\nfloat_trainer = dict(root=data_root, size=imgsz)\n')

    def checkpoint(name: str, config: str, root: str) -> None:
        values = {"data_root": "usual", "imgsz": (64, 64)}
        record = {"version": 1, "id": "a", "inputs": [], "constants": {}, "model": {}, "data": {}, "parents": {}}
        record |= {"stage": "float", "config": config, "options": {"data_root": root, "imgsz": (32, 32)}}
        torch.save({"state_dict": {}, "run": {**record, "file_values": values}}, tmp_path / name)

    file = tmp_path / "epoch_2_int8.tflite"
    assert with_run_beside(load_config(path), file).data_root == "usual"
    checkpoint("other-checkpoint-best.pth.tar", "other.py", "others")
    assert with_run_beside(load_config(path), file).data_root == "usual"
    checkpoint("float-checkpoint-epoch-0002.pth.tar", "configs/mine.py", "second")
    checkpoint("float-checkpoint-last.pth.tar", "configs/mine.py", "last")
    taken = with_run_beside(load_config(path), file)
    assert taken.float_trainer == {"root": "second", "size": (32, 32)}
    (tmp_path / "qat").mkdir()
    assert with_run_beside(load_config(path), tmp_path / "qat" / "qat_model_int8.tflite").data_root == "last"
    assert with_run_beside(load_config(path, {"imgsz": (32, 32)}), file).data_root == "second"
    other = load_config(path, {"data_root": "elsewhere"})
    assert with_run_beside(other, file) is other
