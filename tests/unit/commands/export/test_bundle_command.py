"""tools/export.py --bundle: from weights to a folder whose self-test the file passes."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from hatdet.building import Builder
from hatdet.commands.export.command import main
from hatdet.config.load import load_config
from hatdet.export.runtimes.integer import LiteRTRuntime
from hatdet.utils.checkpoints.checkpoint import save_checkpoint
from hatdet.utils.errors import UserError
from tests.integration.mini_coco import mini_coco

Tool = Callable[[str], Callable[[list[str]], "int | None"]]
FLAGS = "-std=c99 -O1 -Wall -Wextra -Werror -pedantic".split()


def selftest(folder: Path) -> tuple[int, str]:
    """The bundle's own self-test, of what LiteRT makes of its own pictures: status and verdict."""
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed: the self-test cannot be compiled")
    program = folder / "selftest"
    sources = [str(folder / f"model_selftest{suffix}.c") for suffix in ("", "_host")]
    subprocess.run(["gcc", *FLAGS, *sources, "-o", str(program), "-lm"], check=True)
    subprocess.run([str(program), "--codes", str(folder / "in.bin")], check=True)
    runtime = LiteRTRuntime((folder / "model.tflite").read_bytes())
    codes = np.fromfile(folder / "in.bin", np.int8).reshape(-1, *runtime.input_shape[1:])
    outputs = runtime.run(codes)
    data = b"".join(maps[i].tobytes() for i in range(len(codes)) for maps in outputs)
    (folder / "out.bin").write_bytes(data)
    done = subprocess.run([str(program), str(folder / "out.bin")], capture_output=True, text=True)
    script = subprocess.run([sys.executable, str(folder / "model_selftest.py")], capture_output=True, text=True)
    assert (script.returncode, script.stdout.splitlines()[1:]) == (done.returncode, done.stdout.splitlines())
    return done.returncode, done.stdout.splitlines()[-1]


@pytest.mark.slow
def test_from_a_calibrated_checkpoint(files, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint, folder = tmp_path / "calibrated.pth", tmp_path / "board"
    checkpoint.write_bytes((files.root / "calibrated.pth").read_bytes())
    words = [files.config_path, str(checkpoint), "--verify", "1", "--bundle", str(folder)]
    assert main([*words, "--decoder-score-thr", "0.2", "--board", "coral", *files.words()]) == 0
    assert f"written: {folder} (" in capsys.readouterr().out
    record = json.loads((tmp_path / "export-results.json").read_text())["bundle"]
    assert record["folder"] == str(folder) and "model_selftest.c" in record["files"]
    assert (folder / "model.tflite").read_bytes() == (tmp_path / "calibrated_int8.tflite").read_bytes()
    assert "score > 0.2" in (folder / "model_decoder.h").read_text()
    page = (folder / "README.md").read_text()
    assert "channel order: BGR" in page and "## Google Coral" in page
    status, line = selftest(folder)
    assert status == 0 and line.startswith("ok: 3 pictures, 6 outputs each, ")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fcos", "yolox", "gfl"])
def test_of_mmdetections_detectors(name: str, tmp_path: Path, repo_root: Path) -> None:
    """Weights as drawn, livelier than those of the first step."""
    config, folder = str(repo_root / "configs" / "mmdetection" / f"{name}_int8.py"), tmp_path / "board"
    options = {"data_root": str(mini_coco(tmp_path / "data", count=3)), "num_classes": 2, "imgsz": (64, 64),
               "workers": 0, "work_dir": str(tmp_path / "wd")}  # fmt: skip
    torch.manual_seed(0)
    model = Builder().build(load_config(config, options)["model"])
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 2.0)
            torch.nn.init.normal_(module.bias)
    save_checkpoint(tmp_path / "weights.pth", {"state_dict": model.state_dict()})
    words = [config, str(tmp_path / "weights.pth"), "--verify", "1", "--bundle", str(folder)]
    if name == "yolox":
        words += ["--decoder-score-thr", "0.000001"]  # its scores are products of two
    assert main([*words, "--cfg-options", *(f"{key}={value}" for key, value in options.items())]) == 0
    status, line = selftest(folder)
    assert status == 0 and line.startswith("ok: 3 pictures, ")
    assert int(line.split()[-2]) > 0  # boxes


@pytest.mark.slow
def test_a_file_that_did_not_pass_gets_no_bundle(
    files, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from hatdet.commands.export import run

    checkpoint, folder = tmp_path / "calibrated.pth", tmp_path / "board"
    checkpoint.write_bytes((files.root / "calibrated.pth").read_bytes())
    original = run.export_all

    def failed(*args: object) -> object:
        for record in original(*args):
            yield type(record)(record.path, record.format, False)

    monkeypatch.setattr(run, "export_all", failed)
    words = [files.config_path, str(checkpoint), "--verify", "0", "--bundle", str(folder), *files.words()]
    assert main(words) == 1
    assert f"no bundle in {folder}: calibrated_int8.tflite did not pass its checks" in capsys.readouterr().out
    assert not folder.exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--format", "onnx"], "--bundle is made around the int8 .tflite: add --format tflite"),
        (["--target", "ethos-u55-6"], "unknown target 'ethos-u55-6'; did you mean"),
        (
            ["--target", "onnx"],
            "which --target onnx does not read: leave --target out, or name one of tflite, litert-xnnpack, ethos",
        ),
        (["--board", "list"], "unknown board 'list'"),
        (["--board", "we2", "--target", "ethos-u55-128"], "--board grove-vision-ai-v2 runs ethos-u55-64, not --target"),
    ],
)
def test_wrong_arguments(words: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        main(["config.py", "--bundle", str(tmp_path / "b"), *words])


def test_a_board_without_a_bundle() -> None:
    with pytest.raises(UserError, match="--board is of --bundle: add --bundle DIR"):
        main(["config.py", "--board", "we2"])


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "b").write_text("")
    with pytest.raises(UserError, match="--bundle names a folder, and .*b is a file; give another name"):
        main(["config.py", "--bundle", str(tmp_path / "b")])


def test_a_readme_of_something_else_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("# My project\n")
    with pytest.raises(UserError, match=r"README\.md is there, and not of a bundle; name a folder of its own"):
        main(["config.py", "--bundle", str(tmp_path)])
    assert (tmp_path / "README.md").read_text() == "# My project\n"
