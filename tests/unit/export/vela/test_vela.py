"""Vela: every operator of the nano on the NPU, its numbers against ours, the report, and what goes wrong."""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from hatdet.export.calibrate import calibrate
from hatdet.export.formats.vela import write_compiled
from hatdet.export.targets.table import get_target
from hatdet.export.tflite import int8 as tflite
from hatdet.export.tflite.file_operators import graph_modules
from hatdet.export.vela import compile as vela
from hatdet.export.vela.compile import VelaMissing, VelaResult, VelaRow, compile_file
from hatdet.export.vela.layers import _Finder, layers_of
from hatdet.export.vela.report import PerformanceReport, performance_report
from hatdet.integer.operators.pairs.mul import agreeing_output_scale
from hatdet.profiling.calops import count_ops
from hatdet.utils.errors import UserError
from tests.helpers.int_graphs import GraphBuilder, qparams, small_network
from tests.helpers.rtmdet import build_rtmdet

U55 = get_target("ethos-u55-128")
SIZE = (64, 96)


@pytest.fixture(scope="module")
def nano() -> Iterator[SimpleNamespace]:
    """The ReLU6 nano with random weights: detector, bytes, graph and Vela's result."""
    pytest.importorskip("ethosu.vela", reason="Vela is not installed")
    torch.manual_seed(0)
    detector = build_rtmdet()
    macs = count_ops(detector, (1, 3, *SIZE)).macs
    noise = torch.randint(0, 256, (1, 3, *SIZE), dtype=torch.uint8)
    graph = calibrate(detector, [{"img": noise}], 1, "min_max")[0].int_graph(SIZE)
    data = tflite.write(graph, metadata={"classes": ["a", "b"]})
    result = compile_file(data, U55, modules=graph_modules(graph))
    yield SimpleNamespace(detector=detector, macs=macs, graph=graph, data=data, result=result)


def test_every_operator_of_the_relu6_nano_runs_on_the_npu(nano: SimpleNamespace) -> None:
    result: VelaResult = nano.result
    assert result.cpu_operators == ()
    assert {row.target for row in result.rows} == {"NPU"}
    assert [op.code for op in result.compiled.operators] == ["ethos-u"]


def test_pairs_of_maps_run_on_the_npu_whichever_sizes_are_one() -> None:
    pytest.importorskip("ethosu.vela", reason="Vela is not installed")
    q = qparams(0.05, 2)
    g = GraphBuilder((8, 6, 5), q)
    fields = {"activation": "none", "lo": -128, "hi": 127}
    shapes = {"channels": (8, 1, 1), "map": (1, 6, 5), "rows": (8, 6, 1), "columns": (8, 1, 5), "one": (1, 1, 1)}
    for name, (channels, rows, columns) in shapes.items():
        g.conv("x", name, channels, (7 - rows, 6 - columns), padding=(0, 0), activation="none", q=q)
    pairs = [("x", name) for name in shapes] + [(name, "x") for name in shapes]
    pairs += [("rows", "columns"), ("channels", "map")]
    for kind in ("add", "sub", "mul", "minimum", "maximum"):
        y = qparams(agreeing_output_scale([(q.scale, q.scale)], 0.02)) if kind == "mul" else q
        for number, pair in enumerate(pairs):
            g.apply(kind, list(pair), f"{kind}_{number}", y, **(fields if kind in ("add", "sub") else {}))
    outputs = [op.output for op in g.ops if op.kind != "conv"]
    result = compile_file(tflite.write(g.graph(*outputs)), U55)
    assert result.cpu_operators == () and len(outputs) == 60


def test_multiply_accumulates_are_those_of_calops(nano: SimpleNamespace) -> None:
    """Vela counts the copies, enlargements and pools too, as one per value and window position."""
    result: VelaResult = nano.result
    convolutions = sum(row.macs for row in result.rows if "Conv2D" in row.original)
    assert convolutions == result.source.macs == nano.macs
    assert sum(row.macs for row in result.rows) == result.number("nn_macs")


def test_passes_find_their_modules(nano: SimpleNamespace) -> None:
    layers = layers_of(nano.result)
    operators = {op.name: op for op in nano.result.source.operators}
    assert len(layers) == len(operators) and {layer.name for layer in layers} == set(operators)
    network = nano.detector.network()
    for layer in layers:
        if "CONV_2D" in layer.code:
            assert layer.macs == operators[layer.name].macs > 0 and layer.passes >= 1
            assert layer.where == "NPU"
            assert isinstance(network.get_submodule(layer.path), torch.nn.Conv2d)
    assert sum(layer.cycles for layer in layers) == sum(row.cycles for row in nano.result.rows)
    assert sum(layer.share for layer in layers) == pytest.approx(100.0)
    assert all(0 <= layer.utilisation <= 100 for layer in layers)


def test_each_convolution_finds_exactly_its_multiply_accumulates(nano: SimpleNamespace) -> None:
    found: dict[str, int] = {}
    for row, op in _Finder(nano.result.source).assign(nano.result.rows):
        assert op is not None
        found[op.name] = found.get(op.name, 0) + row.macs
    assert {op.name: op.macs for op in nano.result.source.operators if op.macs} == {
        op.name: found[op.name] for op in nano.result.source.operators if op.macs
    }


def test_the_same_model_gives_the_same_bytes_and_report(nano: SimpleNamespace) -> None:
    again = compile_file(nano.data, U55, modules=graph_modules(nano.graph))
    assert again.data == nano.result.data
    reports = [performance_report(r, nano.data, "m_int8.tflite", "-") for r in (nano.result, again)]
    assert reports[0].to_dict() == reports[1].to_dict()
    assert reports[0].text() == reports[1].text() and reports[0].html() == reports[1].html()


def test_size_takes_no_more_memory_than_performance(nano: SimpleNamespace) -> None:
    small = compile_file(nano.data, U55, opt=0)
    assert (small.optimise, nano.result.optimise) == ("Size", "Performance")
    assert small.number("sram_memory_used") <= nano.result.number("sram_memory_used")


@pytest.mark.parametrize("name", ["ethos-u55-32", "ethos-u65-512"])
def test_other_targets(nano: SimpleNamespace, name: str) -> None:
    result = compile_file(nano.data, get_target(name))
    assert result.cpu_operators == ()
    report = performance_report(result, nano.data, "m.tflite", "-")
    assert report.totals["dram_bytes" if "u65" in name else "flash_bytes"] > 0
    assert 0 < report.totals["utilisation"] <= 100


class WellFormed(HTMLParser):
    """Checks that every tag is closed in order."""

    VOID = ("meta", "wbr", "br", "img")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.rows = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.rows += tag == "tr"
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def report(nano: SimpleNamespace) -> PerformanceReport:
    return performance_report(nano.result, nano.data, "nano_int8.tflite", "It was compared on 3 images.")


def test_the_report_as_text_and_page(report: PerformanceReport) -> None:
    text, page = report.text(), report.html()
    for part in ("Vela " + report.result.version, "ethos-u55-128", "It was compared on 3 images.", "FPS at 500 MHz"):
        assert part in text and part in page
    assert "its values were not computed here" in text and "its values were not computed here" in page
    assert "backbone.stem.0.conv" in text and "Every operator runs on the NPU." in page
    assert "http" not in page.replace("http://www.w3.org", "") and "<script" not in page
    parser = WellFormed()
    parser.feed(page)
    assert parser.open == []
    assert parser.rows == 2 * (1 + len(report.running))
    cycles = [layer.cycles for layer in report.worst]
    assert cycles == sorted(cycles, reverse=True)


def test_totals_can_be_computed_by_hand(report: PerformanceReport) -> None:
    totals = report.totals
    assert totals["latency_ms"] == pytest.approx(totals["cycles"] / (1e3 * totals["clock_mhz"]))
    assert totals["fps"] == pytest.approx(1e3 / totals["latency_ms"])
    assert totals["utilisation"] == pytest.approx(100 * totals["vela_macs"] / (128 * totals["cycles"]))
    assert (totals["operators"], totals["cpu_operators"], totals["npu_share"]) == (118, 0, 100.0)


def test_files_are_written_with_the_metadata_inside_and_beside(report: PerformanceReport, tmp_path: Path) -> None:
    path = tmp_path / "new" / "nano_vela.tflite"
    written = write_compiled(path, report.result, report)
    names = ["nano_vela.json", "nano_vela.tflite", *(f"nano_vela_perf{s}" for s in (".html", ".json", ".txt"))]
    assert sorted(p.name for p in path.parent.iterdir()) == names == sorted(p.name for p in written)
    assert path.read_bytes() == report.result.data
    assert tflite.read_metadata(path)["classes"] == ["a", "b"]
    beside = json.loads((path.parent / "nano_vela.json").read_text())
    assert (beside["compiled_for"], beside["output_names"][0]) == ("ethos-u55-128", "cls_8")
    numbers = json.loads((path.parent / "nano_vela_perf.json").read_text())
    assert numbers["totals"]["cpu_operators"] == 0 and len(numbers["layers"]) == 118


def test_operators_left_to_the_cpu_are_said_so() -> None:
    pytest.importorskip("ethosu.vela", reason="Vela is not installed")
    g = GraphBuilder((8, 16, 24), qparams(6 / 255, -128))
    g.conv("x", "m", 8)
    g.resize("m", "y", 3)
    data = tflite.write(g.graph("y"))
    result = compile_file(data, U55)
    assert result.cpu_operators == ("RESIZE_NEAREST_NEIGHBOR",)
    report = performance_report(result, data, "m.tflite", "-")
    assert report.worst[0].where == "CPU" and report.worst[0].path == "y (after m_conv)"
    assert "1 of 2 operators (50.0 %) in 1 passes: RESIZE_NEAREST_NEIGHBOR run on the CPU" in report.text()
    assert "without the CPU's part, which Vela does not know" in report.text()
    assert "1 operators are left to the CPU." in report.html()


def test_all_kinds_of_operators_find_their_rows() -> None:
    pytest.importorskip("ethosu.vela", reason="Vela is not installed")
    data = tflite.write(small_network())
    result = compile_file(data, U55)
    layers = {layer.name: layer for layer in layers_of(result)}
    assert set(layers) == {op.name for op in result.source.operators}
    macs = {op.name: op.macs for op in result.source.operators if op.macs}
    for name in ("stem", "dw", "pw", "down", "mixed", "cls_8"):
        assert layers[name].macs == macs[name]
    assert layers["head"].passes == 5  # four groups and the activation
    assert layers["head"].macs == macs["head"]
    assert layers["merged"].passes == 0 and layers["up"].passes == 1 and layers["sum_shared"].passes == 1


def test_parts_and_orders_of_channels_run_on_the_npu() -> None:
    """A Focus stem, a part of channels, a shuffle before grouped convolutions, and channels as blocks of pixels."""
    pytest.importorskip("ethosu.vela", reason="Vela is not installed")
    g = GraphBuilder((3, 32, 48), qparams(0.02, 3))
    first, last, pixels = (0, 1, 0), (1, 1, 0), [(0, 0), (1, 0), (0, 1), (1, 1)]
    for i, k in pixels:
        g.apply("slice", "x", f"x{i}{k}", begin=(first, (0, 1, i), (0, 1, k)), end=(last,) * 3, stride=(2, 2))
    g.concat([f"x{i}{k}" for i, k in pixels], "blocks")
    g.conv("blocks", "stem", 8)
    g.apply("slice", "stem", "part", begin=((0, 1, 3), first, first), end=(last, last, (1, 1, -1)), stride=(1, 1))
    g.apply("channel_order", "stem", "shuffled", channels=(0, 4, 1, 5, 2, 6, 3, 7))
    g.apply("channel_order", "part", "swapped", channels=(4, 3, 2, 1, 0))
    g.conv("swapped", "a", 4)
    g.conv("shuffled", "b", 4, groups=2)
    g.conv("stem", "fine", 12)
    g.apply("depth_to_space", "fine", "pixels", block=2)
    g.conv("pixels", "c", 4)
    result = compile_file(tflite.write(g.graph("a", "b", "c")), U55)
    assert result.cpu_operators == () and {row.target for row in result.rows} == {"NPU"}
    found = {layer.name for layer in layers_of(result)} - {op.name for op in result.source.operators}
    assert found <= {"Reshape stem_copy"}  # Vela's own, before a reshaping of what others read too


def test_a_name_that_vela_made_up_follows_the_next_of_its_kind(nano: SimpleNamespace) -> None:
    rows = [r for r in nano.result.rows if r.name == "backbone_stem_0_conv"]
    made_up = VelaRow("Conv2D", "Transpose", "NPU", "#28", 7, 7, 0, 0, 0, 0, 0, 0.0)
    result = VelaResult(**{**vars(nano.result), "rows": (made_up, *rows)})
    first = layers_of(result)[0]
    assert first.path == "backbone.stem.0.conv" and first.cycles == 7 + sum(r.cycles for r in rows)
    alone = VelaResult(**{**vars(nano.result), "rows": (made_up,)})
    assert layers_of(alone)[0].path == "Conv2D #28"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"opt": 3}, "--opt is 3; use 0"),
        ({"system_config": "No_Such_System"}, "Vela failed: .*No_Such_System"),
        ({"memory_mode": "No_Such_Mode"}, "Vela failed: .*No_Such_Mode"),
        ({"config": "no/such.ini"}, "no such Vela configuration file: no/such.ini"),
    ],
)
def test_wrong_settings(nano: SimpleNamespace, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        compile_file(nano.data, U55, **changes)


def test_an_ini_of_ones_own(nano: SimpleNamespace, tmp_path: Path) -> None:
    """Half the clock of the preset: the same cycles take twice the time."""
    spec = importlib.util.find_spec("ethosu.vela")
    assert spec is not None and spec.origin is not None
    preset = next(Path(spec.origin).parents[1].rglob("vela.ini")).read_text()
    own = tmp_path / "own.ini"
    own.write_text(preset.replace("core_clock=500e6", "core_clock=250e6"))
    result = compile_file(nano.data, U55, config=own)
    assert result.number("cycles_total") == nano.result.number("cycles_total")
    assert result.number("inference_time") == 2 * nano.result.number("inference_time")


def test_other_files_are_refused(nano: SimpleNamespace) -> None:
    with pytest.raises(UserError, match="not a TensorFlow Lite model"):
        compile_file(b"PK\x03\x04" * 9, U55)
    with pytest.raises(UserError, match="compiled by Vela already"):
        compile_file(nano.result.data, U55)


def test_without_vela_one_line_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(VelaMissing) as error:
        vela.vela_command()
    assert str(error.value) == (
        "Vela, the compiler for Ethos-U, is not installed; install it with: pip install 'hatdet[vela]' "
        "(package ethos-u-vela)"
    )
    monkeypatch.setattr(shutil, "which", lambda name: "/opt/bin/vela")
    assert vela.vela_command() == ["/opt/bin/vela"]


def test_the_reason_for_a_failure() -> None:
    assert vela._reason("a\nError: x is wrong\nTraceback\n") == "Error: x is wrong"
    assert vela._reason("a\nRuntimeError: y\n  \n") == "RuntimeError: y"
    assert vela._reason("only this\n") == "only this"
    assert vela._reason("") == "it said nothing"


def test_a_table_of_another_form(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("Original Operator,Name\nConv2D,a\n")
    with pytest.raises(UserError, match="another form than that of version 5: 'NNG Operator'"):
        vela._read_rows(path)
