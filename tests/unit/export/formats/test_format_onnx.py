"""``--format onnx``: which files a job gives, and what is refused before any is written."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hatdet.export.formats.table import ExportJob, ExportOptions, FileRecord, choose_formats, export_all
from hatdet.export.onnx.file import read_metadata
from hatdet.integer.graph import IntGraph
from hatdet.utils.errors import UserError
from tests.helpers.int_graphs import random_codes, small_network

onnx = pytest.importorskip("onnx", reason="onnx is not installed")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")


class Tiny(nn.Module):
    """A float detector of one convolution."""

    output_names = ("cls_8", "reg_8")

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 7, 3, stride=8, padding=1)

    def network(self) -> nn.Module:
        conv = self.conv

        class Network(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.conv = conv

            def forward(self, x: Tensor) -> tuple[Tensor, ...]:
                y = self.conv(x)
                return y[:, :3], y[:, 3:]

        return Network()

    def preprocess(self, img: Tensor) -> Tensor:
        return img.float() / 255

    def metadata(self) -> dict[str, Any]:
        return {"mean": [0.0], "std": [255.0], "classes": ["a", "b", "c"]}


def job(folder: Path, *, floats: bool = True, graph: IntGraph | None = None, **options: Any) -> ExportJob:
    def make_graph() -> IntGraph:
        if graph is None:
            raise UserError("there is nothing to calibrate on")
        return graph

    return ExportJob(
        stem=folder / "epoch_3",
        image_size=(32, 48),
        options=ExportOptions(**{"verify": 2, **options}),
        make_detector=Tiny if floats else None,
        make_graph=make_graph,
        make_pixels=lambda n: torch.from_numpy(random_codes((n, 3, 32, 48)).view("uint8")),
        make_codes=lambda pixels: (pixels.int() - 128).to(torch.int8),
        facts=Tiny().metadata(),
        source="float" if floats else "qat",
    )


def export(of: ExportJob) -> list[FileRecord]:
    """``--format onnx`` as the command runs it."""
    return list(export_all(of, choose_formats(["onnx"])))


def test_float_weights_give_three_files(tmp_path: Path) -> None:
    records = export(job(tmp_path, graph=small_network(), opset=11))
    assert all(record.ok for record in records)
    assert [(record.path.name, record.format) for record in records] == [
        ("epoch_3.onnx", "onnx float32"),
        ("epoch_3_int8_qdq.onnx", "onnx uint8 qdq"),
        ("epoch_3_int8_exact.onnx", "onnx uint8 exact"),
    ]
    opsets = [onnx.load(str(record.path)).opset_import[0].version for record in records]
    assert opsets == [11, 13, 13]
    assert read_metadata(records[0].path)["classes"] == ["a", "b", "c"]
    assert {path.name for path in tmp_path.iterdir()} == {
        name for record in records for name in (record.path.name, f"{record.path.name}.json")
    }


def test_float_weights_without_an_integer_form_give_the_float_file(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("hatdet"), "propagate", True)
    assert [record.path.name for record in export(job(tmp_path))] == ["epoch_3.onnx"]
    assert "the integer .onnx files are left out: there is nothing to calibrate on" in caplog.text


def test_quantized_weights_give_integer_files(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("hatdet"), "propagate", True)
    caplog.set_level(logging.INFO)
    records = export(job(tmp_path, floats=False, graph=small_network(), verify=0, simplify=True))
    assert [record.path.name for record in records] == ["epoch_3_int8_qdq.onnx", "epoch_3_int8_exact.onnx"]
    assert all(record.text == "" and "comparison" not in record.checks for record in records)
    assert "--simplify: nothing to do, integer .onnx files have no constants to fold" in caplog.text
    with pytest.raises(UserError, match="there is nothing to calibrate on"):
        export(job(tmp_path, floats=False))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"opset": 9}, "--opset 9 is not available for this file: use 11 to 20"),
        ({"decode": True}, r"--decode is for the float \.onnx, and only integer ones are written"),
        ({"preprocess": True}, r"--preprocess is for the float \.onnx"),
    ],
)
def test_options_that_do_not_fit(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        export(job(tmp_path, floats=False, graph=small_network(), **options))
    assert list(tmp_path.iterdir()) == []


def test_a_missing_runtime_is_said_before_files_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UserError, match="running ONNX files needs onnxruntime"):
        export(job(tmp_path, graph=small_network()))
    assert list(tmp_path.iterdir()) == []
    assert len(export(job(tmp_path, graph=small_network(), verify=0))) == 3
