"""tools/export.py --emit-decoder: decoders of a real int8 file give the boxes that the toolbox gives."""

from __future__ import annotations

import importlib
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from hatdet.commands.table import COMMANDS
from hatdet.export.runtimes.integer import LiteRTRuntime
from hatdet.utils.errors import UserError
from tests.helpers.decoders import load_module
from tests.unit.commands.conftest import Files

Tool = Callable[[str], Callable[[list[str]], int | None]]


@pytest.fixture(scope="module")
def exported(files: Files, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with what ``tools/export.py CONFIG trained.pth.tar --emit-decoder`` wrote."""
    folder = tmp_path_factory.mktemp("decoder")
    shutil.copy(files.root / "trained.pth.tar", folder)
    main = importlib.import_module(COMMANDS["export"].module).main
    arguments = [files.config_path, str(folder / "trained.pth.tar"), "--emit-decoder", "--verify", "0", *files.words()]
    assert main(arguments) == 0
    return folder


def test_boxes_of_raw_image_files(files: Files, exported: Path) -> None:
    from hatdet.commands.shared.evaluation import evaluate_model

    decoder = load_module(exported / "trained_int8_decoder.py")
    assert (exported / "trained_int8_decoder.h").is_file() and decoder.CLASSES == ["square", "disc"]
    runtime = LiteRTRuntime((exported / "trained_int8.tflite").read_bytes())
    found = evaluate_model(files.config(), exported / "trained_int8.tflite").predictor.val_metrics.detection_boxes()
    total = 0
    for number in range(5):
        picture = cv2.imread(str(files.root / "data" / "val2017" / f"{number}.png"))
        ours = decoder.decode(runtime.run(decoder.preprocess(picture)), picture.shape[:2])
        theirs = found.of_image(number + 1)
        assert np.array_equal(ours["boxes"], theirs.boxes)
        assert np.array_equal(ours["scores"], theirs.scores) and np.array_equal(ours["labels"], theirs.labels)
        total += len(ours["boxes"])
    assert total > 100


def test_another_threshold(files: Files, exported: Path, tool: Tool, tmp_path: Path) -> None:
    words = [files.config_path, str(exported / "trained.pth.tar"), "--out-dir", str(tmp_path), "--verify", "0"]
    assert tool("export")([*words, "--emit-decoder", "--decoder-score-thr", "0.4", *files.words()]) == 0
    assert load_module(tmp_path / "trained_int8_decoder.py").MODEL["score_thr"] == 0.4


def test_refusals(files: Files, exported: Path, tool: Tool, tmp_path: Path) -> None:
    words = [files.config_path, str(exported / "trained.pth.tar"), "--out-dir", str(tmp_path / "new")]
    for more, message in (
        (["--decoder-score-thr", "0.4"], "--decoder-score-thr is of --emit-decoder"),
        (["--emit-decoder", "--format", "onnx"], "decoders of the int8 .tflite: add --format tflite"),
        (["--emit-decoder", "--decoder-score-thr", "1.5"], "score threshold is at least 0 and below 1, got 1.5"),
    ):
        with pytest.raises(UserError, match=message):
            tool("export")([*words, *more, *files.words()])
    assert not (tmp_path / "new").exists()
