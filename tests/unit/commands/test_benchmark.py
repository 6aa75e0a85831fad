"""tools/benchmark.py: what a row says, how the table reads, and what is refused."""

from __future__ import annotations

import csv
import itertools
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from hatdet.commands.benchmark.measure import Job, Row, groups, load_pictures, measure, size_of, timed
from hatdet.commands.benchmark.run import Benchmark, csv_text, jobs_of, run_benchmark, table
from hatdet.commands.shared.evaluation import evaluate_model
from hatdet.utils.errors import UserError
from tests.unit.commands.conftest import Files

Tool = Callable[[str], Callable[[list[str]], int | None]]


class Clock:
    """Each look at it takes as long as the detector says that its last call took."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def run_for(spent: list[float], **words: Any) -> list[float]:
    clock, calls = Clock(), iter(spent)

    def detector(group: Any, batch: int) -> None:
        clock.now += next(calls)

    return timed(detector, itertools.repeat([0]), Job("m", **words), clock, None)


def test_the_warm_up_does_not_count_and_the_time_ends_it() -> None:
    assert run_for([9.0, 9.0, 1.0, 2.0, 3.0], warmup=2, runs=3, seconds=100) == [1.0, 2.0, 3.0]
    assert run_for([1.0, 1.0, 1.0, 1.0, 1.0], warmup=1, runs=9, seconds=3) == [1.0, 1.0]
    assert run_for([50.0], warmup=5, runs=9, seconds=3) == [50.0], "one is measured in any case"


def test_groups_begin_again() -> None:
    assert list(itertools.islice(groups([1, 2, 3], 2), 3)) == [[1, 2], [3, 1], [2, 3]]


def test_pictures_and_sizes(files: Files, tmp_path: Path) -> None:
    noise = load_pictures(None)
    assert noise[0].shape == (480, 640, 3) and np.array_equal(noise, load_pictures(None))
    assert len(load_pictures(str(files.root / "data" / "val2017"))) == 5
    (tmp_path / "sub").mkdir()
    (tmp_path / "a").write_bytes(b"123")
    (tmp_path / "sub" / "b").write_bytes(b"45")
    assert size_of(tmp_path / "a") == 3 and size_of(tmp_path) == 5, "of a SavedModel all files"


def test_a_row_has_the_evaluation_s_ap(files: Files) -> None:
    model = files.root / "model_int8.tflite"
    expected = evaluate_model(files.config(), model).values
    words = {"config": files.config_path, "options": files.options, "kernels": "reference"}
    row = measure(Job(str(model), runs=3, warmup=1, batch=2, score=True, **words))  # type: ignore[arg-type]
    assert row.kind == "tflite" and re.fullmatch(r"LiteRT \S+, reference kernels", row.runtime)
    assert row.arithmetic == "tflite_ref"
    assert (row.ap, row.ap50) == (expected["AP"], expected["AP50"]) and row.timed == 3
    assert row.size == model.stat().st_size and row.memory is not None
    assert row.p50 is not None and row.p95 is not None and row.rate is not None
    assert 0 < row.p50 <= row.p95 < 1e5 and row.rate > 0


def test_an_int8_file_runs_under_both_kinds_of_kernels(files: Files) -> None:
    models = [str(files.root / name) for name in ("model_int8.tflite", "epoch_150.pth")]
    jobs = jobs_of(Benchmark(models, images="x", batch=3))
    assert [(Path(job.model).name, job.kernels) for job in jobs] == [
        ("model_int8.tflite", "reference"), ("model_int8.tflite", "default"), ("epoch_150.pth", None)
    ]  # fmt: skip
    assert {(job.images, job.batch) for job in jobs} == {("x", 3)}
    with pytest.raises(UserError, match="no such model"):
        jobs_of(Benchmark(["absent.tflite"]))


ROWS = [
    Row("a/slow.onnx", "onnx_qdq", "onnxruntime, CPU", 20.0, 30.0, 40.0, 9, 2_000_000, 50_000_000, 0.5, 0.75),
    Row("a/fast.tflite", "tflite", "LiteRT", 2.0, 3.5, 600.0, 99, 1_500_000, 30_000_000, -1.0, 0.25),
    Row("b/none", problem="tensorflow is missing"),
]


def test_the_table_has_the_fastest_first_and_the_reasons_last() -> None:
    lines = table(ROWS).splitlines()
    assert [line.split()[0] for line in lines] == ["model", "fast.tflite", "slow.onnx", "none:"]
    assert lines[1].split()[-10:] == ["LiteRT", "float", "2.00", "3.50", "600.0", "1.50", "30", "99", "-", "0.2500"]
    assert lines[3] == "none: not measured: tensorflow is missing"
    assert "AP" not in table([Row("m", "tflite", "LiteRT", 1.0, 1.0, 1.0, 1, 1, 1)])
    assert table(ROWS[2:]) == "none: not measured: tensorflow is missing"


def test_the_table_says_whose_numbers_were_evaluated() -> None:
    def rows(arithmetic: str, *kernels: str) -> list[Row]:
        numbers = (1.0, 1.0, 1.0, 1, 1, 1)
        return [Row("m", "tflite", f"LiteRT 2, {each} kernels", *numbers, arithmetic=arithmetic) for each in kernels]

    end = "; the other ones compute otherwise"
    both = ("reference", "default")
    for arithmetic, own in (("tflite_ref", "reference"), ("xnnpack", "default")):
        text = table(rows(arithmetic, *both))
        assert text.splitlines()[-1] == f"{arithmetic}: the evaluated numbers are those of LiteRT's {own} kernels{end}"
        assert f" {arithmetic} " in text.splitlines()[1] and end not in table(rows(arithmetic, own))
        assert csv_text(rows(arithmetic, own)).splitlines()[1].endswith(f",{arithmetic}")
    assert end not in table(ROWS)
    last = table(rows("tflite_single", "reference")).splitlines()[-1]
    assert last.startswith("tflite_single: no kernels of LiteRT compute the evaluated numbers (TFLite Micro or")


def test_the_csv_keeps_the_order() -> None:
    rows = list(csv.DictReader(csv_text(ROWS).splitlines()))
    assert [row["model"] for row in rows] == ["a/slow.onnx", "a/fast.tflite", "b/none"]
    assert rows[0]["p50_ms"] == "20.0000" and rows[0]["AP"] == "0.500000" and rows[0]["size_mb"] == "2.000000"
    assert rows[1]["AP"] == "" and rows[2]["problem"] == "tensorflow is missing" and rows[2]["p50_ms"] == ""


def test_refusals(files: Files, tool: Tool) -> None:
    model = str(files.root / "model_int8.tflite")
    for words, message in (
        ([], "no model was given; name checkpoints or exported files"),
        (["config.py"], "no model was given"),
        ([model, "--runs", "0"], "--runs is a number, got 0: give 1 or more"),
        ([model, "--seconds", "0"], "--seconds is a time, got 0.0: give more than 0"),
        ([model, "--out", "a.txt"], "--out a.txt: the table is written as CSV; give a name that ends with .csv"),
    ):
        with pytest.raises(UserError, match=message):
            tool("benchmark")(words)


def test_what_every_model_would_fail_at_is_refused_once(files: Files, tmp_path: Path) -> None:
    models = [str(files.root / "model_int8.tflite")]
    with pytest.raises(UserError, match="no picture, folder or video is at nowhere"):
        run_benchmark(Benchmark(models, images="nowhere"))
    with pytest.raises(UserError, match=r"nothing\.py"):
        run_benchmark(Benchmark(models, config="nothing.py"))
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        run_benchmark(Benchmark(models), tmp_path / "file" / "b.csv")


def test_a_crash_of_one_model_costs_no_other_its_row(
    files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Pool:
        def __init__(self, workers: int, mp_context: Any) -> None: ...

        def __enter__(self) -> Pool:
            return self

        def __exit__(self, *args: object) -> None: ...

        def submit(self, function: Any, job: Job) -> Any:
            if job.kernels == "reference":
                raise RuntimeError("CUDA out of memory\nTried to allocate")
            return SimpleNamespace(result=lambda: Row(job.model, "tflite", "LiteRT", 1.0, 1.0, 1.0, 1, 1, 1))

    monkeypatch.setattr("hatdet.commands.benchmark.run.ProcessPoolExecutor", Pool)
    out = tmp_path / "new" / "b.csv"
    assert not run_benchmark(Benchmark([str(files.root / "model_int8.tflite")]), out)
    bad, good = csv.DictReader(out.read_text().splitlines())
    assert bad["problem"] == "RuntimeError: CUDA out of memory" and good["p50_ms"] == "1.0000"
    assert "could not be measured" in caplog.text


@pytest.mark.slow
def test_the_command(files: Files, tool: Tool, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each model in a process of its own; one that cannot be measured does not stop the others."""
    broken = tmp_path / "broken_int8.tflite"
    broken.write_bytes((files.root / "model_int8.tflite").read_bytes()[:-400])
    words = ["--config", files.config_path, str(files.root / "model_int8.tflite"), str(broken), "--runs", "2"]
    words += ["--kernels", "reference", "--no-ap", "--out", str(tmp_path / "b.csv")]
    assert tool("benchmark")([*words, *files.words()]) == 1
    text = capsys.readouterr().out
    assert re.search(r"model_int8.tflite \(tflite\)  LiteRT \S+, reference kernels", text)
    assert "broken_int8.tflite: not measured: " in text
    good, bad = csv.DictReader((tmp_path / "b.csv").read_text().splitlines())
    assert good["timed"] == "2" and float(good["memory_mb"]) > 1 and "broken_int8.tflite" in bad["problem"]
