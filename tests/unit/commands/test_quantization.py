"""tools/quantization.py: what epochs means, where the weights come from, the table, the whole run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from hatdet.commands.quantization.run import QAT, format_rows, quantization_config, start_from, with_float_weights
from hatdet.config.config import Config
from hatdet.utils.errors import UserError
from tests.unit.commands.conftest import Files

Tool = Callable[[str], Callable[[list[str]], int | None]]


@pytest.mark.parametrize(
    ("given", "epochs"), [({}, 5), ({"epochs": 3}, 3), ({"max_epochs": 2}, 2), ({"epochs": 4, "qat_epochs": 4}, 4)]
)
def test_epochs_are_those_of_qat(files: Files, given: dict[str, object], epochs: int) -> None:
    """The float trainer and what is derived from its length follow the checkpoint (20 epochs), not the option."""
    config = quantization_config(files.config_path, {**files.options, **given}, files.root / "epoch_150.pth")
    assert config["qat_trainer"]["num_epochs"] == epochs
    assert config["float_trainer"]["num_epochs"] == 20
    assert config["late_scale_ratio"] == (0.7, 1.3), "the mild augmentation of short trainings"


def test_a_config_without_a_name_for_it(files: Files, tmp_path: Path) -> None:
    path = tmp_path / "plain.py"
    path.write_text("qat_trainer = dict(num_epochs=30)\n")
    config = quantization_config(str(path), {"epochs": 2}, files.root / "epoch_150.pth")
    assert config["qat_trainer"]["num_epochs"] == 2


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"epochs": 0}, "epochs=0: the number of QAT epochs is a whole number, at least 1"),
        ({"epochs": True}, "epochs=True: "),
        ({"epochs": 2.5}, r"epochs=2\.5: "),
        ({"epochs": 5, "qat_epochs": 3}, "epochs=5, qat_epochs=3: all of them mean the number of QAT epochs"),
    ],
)
def test_epochs_that_are_refused(files: Files, given: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        quantization_config(files.config_path, {**files.options, **given}, files.root / "epoch_150.pth")


def test_only_float_weights_are_replaced() -> None:
    """Before the quantizing converter a LoadCheckpoint reads float weights, behind it quantized ones."""
    kinds = [("LoadCheckpoint", "a"), ("FuseBN", None), ("Float2QAT", None), ("LoadCheckpoint", "b")]
    converters = [{"type": kind, **({"checkpoint_path": path} if path else {})} for kind, path in kinds]
    config = Config({"qat_trainer": {"model_convert_pipeline": {"converters": converters}, "num_epochs": 3}})
    changed = with_float_weights(config, "qat_trainer", Path("new.pth"))
    found = changed["model_convert_pipeline"]["converters"]
    assert [c.get("checkpoint_path") for c in found] == ["new.pth", None, None, "b"]
    assert changed["num_epochs"] == 3 and converters[0]["checkpoint_path"] == "a"
    config = Config({"qat_trainer": {"model_convert_pipeline": {"converters": converters[1:]}}})
    with pytest.raises(UserError, match="loads no float weights: put a LoadCheckpoint before Float2Calibration"):
        with_float_weights(config, "qat_trainer", Path("new.pth"))


@pytest.mark.parametrize("name", ["calibrated.pth", "trained.pth.tar", "graph.pth.tar", "model_int8.tflite"])
def test_quantized_weights_are_refused(files: Files, tool: Tool, name: str, tmp_path: Path) -> None:
    arguments = [files.config_path, str(files.root / name), *files.words(work_dir=tmp_path / "wd")]
    with pytest.raises(UserError, match="is quantized already; quantization starts from float weights"):
        tool("quantization")(arguments)
    assert not (tmp_path / "wd").exists()


def test_a_config_without_qat_is_refused_before_anything_runs(files: Files) -> None:
    config = files.config()
    del config._values["qat_trainer"]
    with pytest.raises(UserError, match="the config has no such name"):
        start_from(config, files.root / "epoch_150.pth")


def test_table() -> None:
    rows = {"float": {"AP": 0.5, "AP50": 0.75}, "PTQ (calibration)": {}, "QAT (int_infer)": {"AP": 0.4925, "AP50": 0.7}}
    assert format_rows(rows).splitlines() == [
        "model                               AP    AP50   points",
        "float                           0.5000  0.7500    +0.00",
        "PTQ (calibration)                    -       -        -",
        "QAT (int_infer)                 0.4925  0.7000    -0.75",
    ]
    rows = {"float": {"top1": 0.75, "top5": 1.0, "n": 3}, QAT: {"top1": 0.5, "top5": -1.0}}
    assert format_rows(rows).splitlines() == [
        "model                             top1    top5   points",
        "float                           0.7500  1.0000    +0.00",
        "QAT (int_infer)                 0.5000       -   -25.00",
    ]
    assert format_rows({"float": {"AP": -1.0}, QAT: {"AP": 0.5}}).splitlines()[1:] == [
        "float                                -       -        -",
        "QAT (int_infer)                 0.5000       -        -",
    ]


@pytest.mark.slow
def test_the_whole_run(files: Files, tool: Tool, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("tflite_micro", reason="TFLite Micro is not installed")
    options = files.words(work_dir=tmp_path, epochs=1, calibration_steps=1, batch_size=4)
    assert tool("quantization")([files.config_path, str(files.root / "epoch_150.pth"), *options]) == 0
    out = capsys.readouterr().out
    assert ", 0 differing (torch = LiteRT reference = TFLite Micro)" in out and "equal to the last digit" in out
    record = json.loads((tmp_path / "qat" / "quantization.json").read_text())
    names = {"float", "PTQ (calibration)", "QAT (int_infer)", "int8 file (LiteRT reference)"}
    assert set(record["metrics"]) == names and all("AP50" in values for values in record["metrics"].values())
    assert record["parity"]["ok"] and record["different"] == [] and record["parity"]["images"] == 5

    # the tutorial's next command gives the number in the table
    model = tmp_path / "qat" / "qat_model_int8.tflite"
    tool("test")([files.config_path, str(model), *files.words(work_dir=tmp_path)])
    scored = json.loads((tmp_path / "test" / "qat_model_int8.tflite.json").read_text())
    assert scored["metrics"] == record["metrics"]["int8 file (LiteRT reference)"]


def test_a_difference_ends_with_status_1(files: Files) -> None:
    from hatdet.commands.quantization.run import INT8_FILE, QAT, Quantization
    from hatdet.export.runtimes.parity import ParityReport, TensorParity

    rows = {"float": {"AP": 0.5}, QAT: {"AP": 0.5}, INT8_FILE: {"AP": 0.25}}
    same = ParityReport(1, ("LiteRT reference",), {}, [TensorParity("cls_8", True, 10, {"LiteRT reference": 0})])
    path = files.root / "model_int8.tflite"
    assert Quantization(path, rows, same, []).ok
    assert not Quantization(path, rows, same, ["AP"]).ok
    assert "of the file 0.25: DIFFERENT in AP" in Quantization(path, rows, same, ["AP"]).text()
    same.tensors[0].differing["LiteRT reference"] = 1
    assert not Quantization(path, rows, same, []).ok


@pytest.mark.parametrize("kernels", ["reference", "default"])
def test_the_row_of_the_file_names_its_kernels(files: Files, kernels: str) -> None:
    from hatdet.commands.quantization.run import FILE_ROWS, QAT, Quantization
    from hatdet.export.runtimes.parity import ParityReport

    parity = ParityReport(1, (f"LiteRT {kernels}",), {}, [])
    rows = {QAT: {"AP": 0.5}, FILE_ROWS[kernels]: {"AP": 0.5}}
    text = Quantization(files.root / "model_int8.tflite", rows, parity, []).text()
    assert f"int8 file (LiteRT {kernels})" in text and text.endswith("of the file 0.5: equal to the last digit")


def test_layers_kept_in_float_are_refused_before_the_training(files: Files) -> None:
    config = quantization_config(
        files.config_path, {**files.options, "keep_float": ["bbox_head.rtm_reg.0"]}, files.root / "epoch_150.pth"
    )
    with pytest.raises(UserError, match=r"keep_float=\['bbox_head.rtm_reg.0'\].*cannot be exported"):
        start_from(config, files.root / "epoch_150.pth")
