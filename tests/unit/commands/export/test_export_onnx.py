"""tools/export_onnx.py: which stage it picks, what it writes, what it refuses."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from hatdet.commands.export_onnx.run import choose_stage
from hatdet.commands.shared.evaluation import evaluate_model
from hatdet.export.onnx.file import read_metadata
from hatdet.utils.errors import UserError
from tests.unit.commands.conftest import Files

pytestmark = pytest.mark.slow  # whole commands, one after another

pytest.importorskip("onnx", reason="onnx is not installed")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
Command = Callable[..., int | None]


@pytest.fixture
def command(files: Files, tool: Callable[[str], Callable[[list[str]], int | None]], tmp_path: Path) -> Command:
    """``command("--stage", "qat")`` with the config, and ``tmp_path`` as work dir."""
    main = tool("export_onnx")
    return lambda *words: main(["--config", files.config_path, *words, *files.words(work_dir=tmp_path)])


def trained(files: Files, work_dir: Path, *stages: str) -> None:
    """Put the best checkpoints of stages where training leaves them."""
    sources = {"float": "epoch_150.pth", "calibration": "calibrated.pth", "qat": "trained.pth.tar"}
    for stage in stages:
        shutil.copy(files.root / sources[stage], work_dir / f"{stage}-checkpoint-best.pth.tar")


def test_the_last_stage_that_was_trained(files: Files, tmp_path: Path) -> None:
    config = files.config(work_dir=str(tmp_path))
    assert choose_stage(config, None, None)[0] == "float"
    trained(files, tmp_path, "float")
    assert choose_stage(config, None, None)[0] == "float"
    trained(files, tmp_path, "calibration")
    assert choose_stage(config, None, None) == (
        "int_infer",
        "the best checkpoint of calibration, the last stage that was trained",
    )
    trained(files, tmp_path, "qat")
    assert "checkpoint of qat" in choose_stage(config, None, None)[1]
    config["onnx_cfg"] = {"stage": "float"}
    assert choose_stage(config, None, None)[0] == "float"
    assert choose_stage(config, "qat", None)[0] == "qat"
    assert choose_stage(config, None, files.root / "graph.pth.tar")[0] == "int_infer"
    config["onnx_cfg"] = {"stage": "int_infr"}
    with pytest.raises(UserError, match=r"has stage='int_infr'; use float, .*; did you mean 'int_infer'\?"):
        choose_stage(config, None, None)


def test_the_integer_model(files: Files, command: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trained(files, tmp_path, "calibration")
    assert command("--verify", "2", "--intermediates") == 0
    out = capsys.readouterr().out
    assert "stage int_infer: the best checkpoint of calibration" in out
    assert "drift: onnxruntime's own rounding" in out and ", 0 differing (torch = onnxruntime)" in out
    results = json.loads((tmp_path / "int_infer-model-results.json").read_text())
    assert [entry["file"] for entry in results["files"]] == [
        "int_infer-model_int8_qdq.onnx",
        "int_infer-model_int8_exact.onnx",
    ]
    exact = results["files"][1]["comparison"]
    assert exact["ok"] and exact["images"] == 2 and len(exact["tensors"]) > 100
    metadata = read_metadata(tmp_path / "int_infer-model_int8_exact.onnx")
    assert metadata["classes"] == ["square", "disc"] and metadata["strides"] == [8, 16, 32]
    assert metadata == json.loads((tmp_path / "int_infer-model_int8_exact.onnx.json").read_text())
    scored = evaluate_model(files.config(), tmp_path / "int_infer-model_int8_exact.onnx")
    assert scored.values == evaluate_model(files.config(), files.root / "graph.pth.tar").values


def test_the_float_model(files: Files, command: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trained(files, tmp_path, "float", "calibration")
    assert command("--stage", "float", "--verify", "1", "--decode", "--preprocess", "--opset", "11") == 0
    assert "stage float: its best checkpoint" in capsys.readouterr().out
    assert {path.name for path in tmp_path.glob("*model*")} == {
        "float-model.onnx", "float-model.onnx.json", "float-model-results.json",
    }  # fmt: skip
    assert read_metadata(tmp_path / "float-model.onnx")["output_names"] == ["boxes", "scores"]


def test_one_form_to_a_named_file(files: Files, command: Command, tmp_path: Path) -> None:
    out = tmp_path / "new" / "m.onnx"
    words = ["--ckpt", str(files.root / "graph.pth.tar"), "--out", str(out)]
    with pytest.raises(
        UserError, match="--out names one file, and qdq and exact are written: add --form qdq or --form"
    ):
        command(*words)
    assert not out.exists()
    assert command(*words, "--form", "qdq", "--verify", "0") == 0
    assert sorted(path.name for path in out.parent.iterdir()) == ["m-results.json", "m.onnx", "m.onnx.json"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--form", "qqd"], "--form qqd is not available: use float, qdq, exact; did you mean 'qdq'"),
        (["--stage", "int_infer", "--opset", "12"], "--opset 12 is not available for this file: use 13 to 20"),
        (["--opset", "30"], r"--opset 30 is not available for this file: use 11 to 20 \(default: 13\)"),
        (["--out", "model.tflite"], r"--out model\.tflite: the file is an \.onnx"),
        (["--form", "qdq", "--decode"], "--decode is for the float .onnx, and only integer ones are written"),
        (["--stage", "float", "--intermediates"], "--intermediates is for the exact form, which is not written"),
        (["--imgsz", "64", "40"], "--imgsz 64 40 does not suit the strides"),
        (["--imgsz", "0"], "--imgsz takes one or two positive numbers"),
        (["--verify", "-2"], "--verify takes a number of images, got -2"),
        ([], "no float-checkpoint-best in .*: run .*--stage float.* first, or name the weights with --ckpt"),
        (["--stage", "qat"], "no qat-checkpoint-best in .*"),
        (["--ckpt", "absent.pth"], "no such checkpoint: absent.pth"),
    ],
)
def test_what_is_refused(command: Command, tmp_path: Path, words: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        command(*words)
    assert list(tmp_path.glob("*.onnx")) == []


def test_weights_of_another_stage(files: Files, command: Command) -> None:
    with pytest.raises(
        UserError, match=r"epoch_150\.pth holds float weights, not those of stage qat; leave --stage out"
    ):
        command("--stage", "qat", "--ckpt", str(files.root / "epoch_150.pth"))
    with pytest.raises(UserError, match=r"calibrated\.pth holds quantized weights, not those of stage float"):
        command("--stage", "float", "--ckpt", str(files.root / "calibrated.pth"))
    with pytest.raises(UserError, match="the weights are those of calibration, which only integer files carry"):
        command("--ckpt", str(files.root / "calibrated.pth"), "--form", "float")
