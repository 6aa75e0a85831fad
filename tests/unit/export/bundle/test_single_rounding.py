"""The bundle of a model for firmware that rounds once, and what other devices hear."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from hatdet.export.bundle.write import write_bundle
from hatdet.export.opening import in_one_line, lines
from hatdet.export.runtimes.integer import LiteRTRuntime, to_nhwc
from hatdet.export.targets.boards import get_board
from hatdet.export.tflite import int8 as tflite
from hatdet.integer.executor import IntExecutor
from tests.helpers.int_graphs import GraphBuilder, qparams

pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed")

BUILT = "built with -DTFLITE_SINGLE_ROUNDING=1 -DCMSIS_NN_USE_SINGLE_ROUNDING"


def test_the_self_test_tells_one_rounding_from_two(tmp_path: Path) -> None:
    g = GraphBuilder((3, 16, 16), qparams(1 / 255, -128), seed=3)
    g.conv("x", "a", 16, activation="relu6")
    g.conv("a", "b", 16, activation="none", q=qparams(0.021, -7))
    g.add("a", "b", "c", qparams(0.03, 5))
    g.conv("c", "y", 8, activation="none", q=qparams(0.011, 3))
    graph = replace(g.graph("y"), metadata={"profile": "tflite_single"})
    codes = np.random.default_rng(0).integers(-128, 128, (2, 16, 16, 3)).astype(np.int8)
    model = tflite.write(graph)
    bundle = write_bundle(tmp_path, model, graph, codes, None, no_decoder="none", board=get_board("esp32-p4"))
    assert {"model_data.c", "model_ops.h"} <= set(bundle.files)
    assert f"TensorFlow Lite Micro computes in the arithmetic 'tflite_single' when it is {BUILT}" in bundle.remarks
    assert BUILT in (tmp_path / "README.md").read_text()
    selftest = runpy.run_path(str(tmp_path / "model_selftest.py"))["selftest"]

    def firmware(image: np.ndarray) -> list[np.ndarray]:
        maps = IntExecutor(graph)(torch.from_numpy(image.transpose(0, 3, 1, 2).copy()))
        return [to_nhwc(each) for each in maps]

    def told(device: Callable[[np.ndarray], list[np.ndarray]]) -> tuple[int, list[str]]:
        said: list[str] = []
        return selftest(device, said.append), said

    assert told(firmware) == (0, [
        "implements tflite_single: 2 of 2 outputs equal", "not tflite_ref: 0 of 2 outputs equal",
        "not xnnpack: 0 of 2 outputs equal", "ok: 2 pictures, 1 outputs each",
    ])  # fmt: skip
    status, said = told(LiteRTRuntime(model).run)
    assert status == 4 and said[1] == "implements tflite_ref: 2 of 2 outputs equal"
    assert said[-1].startswith("this device runs tflite_ref, the file is made for tflite_single: TFLite Micro or CMSIS")


def test_how_the_file_is_opened() -> None:
    facts = {"profile": "tflite_single"}
    assert in_one_line(facts).endswith(f": no kernels of LiteRT have it; TensorFlow Lite Micro {BUILT} has")
    assert lines(facts)[1] == f"no kernels of LiteRT have it; TensorFlow Lite Micro {BUILT} has"
