"""tools/export.py and tools/test.py on float files, from the same float checkpoint."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from hatdet.commands.shared.evaluation import Evaluation, evaluate_model
from hatdet.export.tflite import int8 as tflite
from hatdet.export.tflite.file_operators import read_file
from hatdet.inference.checkpoints import find_checkpoint, set_device, stem_of
from hatdet.utils.errors import UserError
from tests.unit.commands.conftest import Files

pytestmark = pytest.mark.slow  # whole commands, one after another

Tool = Callable[[str], Callable[[list[str]], int | None]]


def boxes(result: Evaluation) -> np.ndarray:
    """(n, 7): image, box, score, label of every detection."""
    found = result.predictor.val_metrics.detection_boxes()
    return np.column_stack([found.image_ids, found.boxes, found.scores, found.labels])


@pytest.fixture(scope="module")
def exported(files: Files, tool: Tool, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the files of ``epoch_7.pth``, which is this toolbox's ``float-checkpoint-epoch-0007.pth.tar``."""
    folder = tmp_path_factory.mktemp("exported")
    shutil.copy(files.root / "epoch_150.pth", folder / "float-checkpoint-epoch-0007.pth.tar")
    words = ["--format", "tflite", "torchscript", "--verify", "1", "--image_path", str(files.root / "data" / "val2017")]
    arguments = [files.config_path, str(folder / "epoch_7.pth"), *words, "--device", "cpu", *files.words()]
    assert tool("export")(arguments) == 0
    return folder


@pytest.fixture(scope="module")
def in_torch(files: Files) -> Evaluation:
    return evaluate_model(files.config(), files.root / "epoch_150.pth")


def test_names_and_results(exported: Path) -> None:
    names = {path.name for path in exported.iterdir() if path.suffix != ".json"} - {
        "float-checkpoint-epoch-0007.pth.tar"
    }
    kinds = ("_float32.tflite", "_float16.tflite", "_int8.tflite", ".torchscript")
    assert names == {f"epoch_7{kind}" for kind in kinds}
    results = json.loads((exported / "export-results.json").read_text())
    assert [record["file"] for record in results["files"]] == [f"epoch_7{kind}" for kind in kinds]
    assert results["file"] == "epoch_7_int8.tflite" and results["parity"]["ok"] and results["stage"] == "float"
    assert results["checkpoint"].endswith("epoch_7.pth")
    for record in results["files"]:
        assert record["ok"] and record["bytes"] == (exported / record["file"]).stat().st_size
    metadata = [json.loads(path.read_text()) for path in exported.glob("epoch_7*.json")]
    assert len(metadata) == 4 and len({frozenset(m) for m in metadata}) == 1, "the same keys in every file"
    assert all(m["classes"] == ["square", "disc"] and m["strides"] == [8, 16, 32] for m in metadata)


def test_torchscript_scores_what_torch_scores(files: Files, exported: Path, in_torch: Evaluation) -> None:
    result = evaluate_model(files.config(), exported / "epoch_7.torchscript")
    assert result.kind == "torchscript_float32" and result.runtime.startswith("TorchScript, torch ")
    assert len(boxes(result)) > 100
    assert np.array_equal(boxes(result), boxes(in_torch)) and result.values == in_torch.values


def test_a_torchscript_called_pt_is_one(files: Files, exported: Path, tmp_path: Path) -> None:
    shutil.copy(exported / "epoch_7.torchscript", tmp_path / "model.pt")
    assert evaluate_model(files.config(), tmp_path / "model.pt").kind == "torchscript_float32"
    shutil.copy(files.root / "epoch_150.pth", tmp_path / "weights.pt")
    assert evaluate_model(files.config(), tmp_path / "weights.pt").kind == "float"


@pytest.mark.parametrize(("kind", "tolerance"), [("float32", 1e-4), ("float16", 0.1)])
def test_float_tflite_scores_nearly_what_torch_scores(
    kind: str, tolerance: float, files: Files, exported: Path, in_torch: Evaluation
) -> None:
    result = evaluate_model(files.config(), exported / f"epoch_7_{kind}.tflite")
    assert (result.kind, result.runtime) == (f"tflite_{kind}", "LiteRT, default kernels")
    found, expected = boxes(result), boxes(in_torch)
    assert abs(len(found) - len(expected)) <= 0.02 * len(expected)
    for image in np.unique(expected[:, 0]):  # the best score of each image
        first, second = (rows[rows[:, 0] == image, 5].max() for rows in (expected, found))
        assert abs(first - second) < tolerance


def test_reference_kernels_can_be_asked_for(files: Files, exported: Path) -> None:
    result = evaluate_model(files.config(), exported / "epoch_7_float32.tflite", kernels="reference")
    assert result.runtime == "LiteRT, reference kernels"


@pytest.mark.parametrize("name", ["epoch_7_float32.tflite", "epoch_7.torchscript"])
def test_mismatches_are_refused(name: str, files: Files, exported: Path) -> None:
    with pytest.raises(UserError, match=r"takes images of \(64, 64\) .* the config has imgsz=\(32, 96\)"):
        evaluate_model(files.config(imgsz=(32, 96)), exported / name)
    config = files.config()
    config["int_infer"]["model"]["preprocessor"]["bgr_to_rgb"] = True
    with pytest.raises(UserError, match="takes BGR images, the config's preprocessor makes RGB"):
        evaluate_model(config, exported / name)


@pytest.mark.parametrize("share", [0.1, 0.9])
@pytest.mark.parametrize("name", ["epoch_7_float32.tflite", "epoch_7.torchscript"])
def test_damaged_files(name: str, share: float, files: Files, exported: Path, tmp_path: Path) -> None:
    data = (exported / name).read_bytes()
    (tmp_path / name).write_bytes(data[: int(share * len(data))])
    with pytest.raises(UserError, match=name.replace(".", r"\.")):
        evaluate_model(files.config(), tmp_path / name)


def test_quantized_weights_give_the_int8_file_alone(
    files: Files, tool: Tool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("calibrated", "graph"):
        suffix = ".pth" if name == "calibrated" else ".pth.tar"
        words = ["--out-dir", str(tmp_path), "--verify", "1", *files.words()]
        assert tool("export")([files.config_path, str(files.root / f"{name}{suffix}"), *words]) == 0
        assert ", 0 differing" in capsys.readouterr().out
    found = sorted(path.name for path in tmp_path.glob("*.tflite"))
    assert found == ["calibrated_int8.tflite", "graph_int8.tflite"]
    first, second = ((tmp_path / name).read_bytes() for name in found)
    assert read_file(first) == read_file(second)
    facts = [tflite.read_metadata(data) for data in (first, second)]
    assert facts[0].pop("source_bits") == 8  # of the data set; the graph was made without one
    assert facts[0].keys() == facts[1].keys()
    with pytest.raises(UserError, match="the weights are those of calibration, which only integer files carry"):
        tool("export")([files.config_path, str(files.root / "calibrated.pth"), "--format", "torchscript", *words])
    with pytest.raises(UserError, match="--decode is for float files, the weights are those of int_infer"):
        tool("export")([files.config_path, str(files.root / "graph.pth.tar"), "--decode", *words])


# ---- names of checkpoints, devices, flags


def test_an_epoch_of_mmengines_name_is_the_float_stages(tmp_path: Path) -> None:
    ours = tmp_path / "float-checkpoint-epoch-0150.pth.tar"
    ours.touch()
    assert find_checkpoint(tmp_path / "epoch_150.pth") == ours
    (tmp_path / "epoch_150.pth").touch()
    assert find_checkpoint(tmp_path / "epoch_150.pth") == tmp_path / "epoch_150.pth", "a file of that name comes first"
    message = r"no such checkpoint: .*epoch_15\.pth; .* has epoch_150\.pth, float-checkpoint-epoch-0150\.pth\.tar"
    with pytest.raises(UserError, match=message):
        find_checkpoint(tmp_path / "epoch_15.pth")
    with pytest.raises(UserError, match=r"no such checkpoint: .*nowhere/a\.pth; name a file that is there$"):
        find_checkpoint(tmp_path / "nowhere" / "a.pth")


@pytest.mark.parametrize(
    ("path", "stem"),
    [
        ("a/epoch_1.pth", "epoch_1"),
        ("qat-checkpoint-best.pth.tar", "qat-checkpoint-best"),
        ("m.pt", "m"),
        ("m.x", "m.x"),
    ],
)
def test_stem(path: str, stem: str) -> None:
    assert stem_of(path) == stem


def test_device(files: Files) -> None:
    config = files.config()
    set_device(config, "cpu")
    assert {config[name]["device"] for name in ("float_trainer", "qat_trainer", "int_infer")} == {"cpu"}
    with pytest.raises(UserError, match="device='cuda:99' is not available"):
        set_device(config, "cuda:99")


@pytest.mark.parametrize("name", ["test", "quantization", "export"])
def test_results_are_never_pickled(name: str, files: Files, tool: Tool) -> None:
    message = r"--out x\.pkl: numbers are written as json \(a pickle can run code when it is read\)"
    with pytest.raises(UserError, match=message):
        tool(name)([files.config_path, "epoch_150.pth", "--out", "x.pkl"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--opset", "11"], "--opset means nothing to --format tflite; leave it out"),
        (["--simplify", "--format", "torchscript"], "--simplify means nothing to --format torchscript"),
        (["--arch", "hailo8l"], "--arch hailo8l is a Hailo chip"),
        (["--format", "hailo"], "--format hailo is not available"),
    ],
)
def test_flags_of_export_that_are_refused(words: list[str], message: str, files: Files, tool: Tool) -> None:
    with pytest.raises(UserError, match=message):
        tool("export")([files.config_path, "epoch_150.pth", *words])
