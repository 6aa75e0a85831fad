"""hatdet report: what it reads of a run, what it says is not there, and that a reader sees all of it."""

from __future__ import annotations

import html
import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from hatdet.building import Builder
from hatdet.commands.report.command import main
from hatdet.commands.report.device import _drift
from hatdet.commands.report.memory import memory_of
from hatdet.commands.report.reading import read_run
from hatdet.commands.report.training import _verdict
from hatdet.commands.report.write import run_page
from hatdet.commands.shared.judged import save_judgement
from hatdet.config.load import load_config
from hatdet.engine.checkpoints.provenance import file_digest
from hatdet.export.tflite import int8 as tflite
from hatdet.integer.profiles.table import PROFILES
from hatdet.metrics.records import from_coco
from hatdet.utils.checkpoints.checkpoint import save_checkpoint
from hatdet.utils.errors import UserError
from tests.helpers.browser import check_readable, look, needs_browser
from tests.helpers.int_graphs import small_network
from tests.integration.mini_coco import CONFIG, mini_coco

SCORES = {"AP": 0.5, "AP50": 0.75, "AP75": 0.25, "AP/square": 0.4, "AP/disc": -1.0}
LAYER = {"index": 1, "own_sqnr": 40.0, "sqnr": "inf", "noise_share": 0.5, "kind": "conv", "advice": "weights",
         "advice_text": "its weights are coarse"}  # fmt: skip


def evaluated(folder: Path, repo_root: Path, found: str = "half") -> None:
    """evaluation.json and worst/ of a small data set.

    Args:
        found: "half": every second object, "all", or "none".
    """
    root = mini_coco(folder.parent.parent / f"data_{found}", count=12)
    options = {"data_root": str(root), "num_classes": 2, "imgsz": (64, 64), "workers": 0}
    config = load_config(str(repo_root / CONFIG), options)
    loader, metric = Builder().build(config["val_data_loader"]), Builder().build(config["metric"])
    metric.bind(loader.dataset)
    for index in range(len(loader.dataset)):
        sample = loader.dataset.raw(index)
        kept = {"half": slice(None, None, 2), "all": slice(None), "none": slice(0)}[found]
        boxes, labels = sample.boxes[kept], sample.labels[kept]
        metric.update(
            [{"boxes": boxes, "scores": np.full(len(boxes), 0.7), "labels": labels}], {"img_id": [sample.img_id]}
        )
    metric.compute()
    assert save_judgement(folder, metric, loader.dataset, "a test") is not None


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, repo_root: Path) -> Path:
    """A run's folder with every part of the page."""
    folder = tmp_path_factory.mktemp("report") / "run"
    for stage in ("float", "calibration", "qat", "int_infer"):
        (folder / stage).mkdir(parents=True)
        content: dict[str, Any] = {"stage": stage, "metrics": SCORES, "seconds": 2.5, "images": 12}
        (folder / stage / "predict.json").write_text(json.dumps(content))
    (folder / "float/results.csv").write_text(
        "epoch,train/loss,train/loss_cls,val/AP,val/AP50,train/lr,time/epoch\n"
        "1,2.0,1.0,0.1,0.2,0.01,60\n2,1.0,0.5,0.4,0.6,0.001,63\n"
    )
    (folder / "float/log.txt").write_text(
        "2026-01-01 10:00:00,000 INFO stage float of my_config.py (hatdet 0.1.0, python 3.11.7)\n"
        "2026-01-01 10:00:00,000 INFO model: RTMDet, 2.4 M parameters\n"
    )
    evaluated(folder / "int_infer", repo_root)
    graph = small_network()
    (folder / "int_infer-model_int8.tflite").write_bytes(tflite.write(graph))
    export = {
        "file": "int_infer-model_int8.tflite", "ok": True,
        "parity": {"compared": 1000, "differing": 0, "default_kernels": {"differing_share": 0.286, "max_lsb": 8}},
        "evaluation": {"tflite": SCORES, "tflite_default_kernels": SCORES, "seconds": {"tflite": 4.9}},
    }  # fmt: skip
    (folder / "export-results.json").write_text(json.dumps(export))
    (folder / "quant_analysis").mkdir()
    layers = [
        {**LAYER, "name": "backbone.stem.0.conv"},
        {**LAYER, "name": "b", "index": 2, "advice": "", "advice_text": ""},
    ]
    content = {
        "layers": layers,
        "tested": "int_infer",
        "reference": "float",
        "images": 2,
        "outputs_sqnr": 25.0,
        "notes": ["so"],
    }
    (folder / "quant_analysis/quant_analysis.json").write_text(json.dumps(content))
    (folder / "compile_perf").mkdir()
    totals = {
        "latency_ms": 3.25,
        "fps": 307.7,
        "sram_bytes": 204800,
        "flash_bytes": 307200,
        "operators": 20,
        "cpu_operators": 1,
    }
    content = {"target": "ethos-u55-64", "vela": "4.2", "totals": totals}
    (folder / "compile_perf/model_vela_perf.json").write_text(json.dumps(content))
    return folder


def page_of(folder: Path, **options: Any) -> tuple[str, list[str]]:
    run = read_run(folder, arena=False, **options)
    text = run_page(run).render()
    return text, run.absent


@pytest.mark.parametrize(("profile", "own", "other"), [
    (None, "reference", "default"), ("tflite_ref", "reference", "default"), ("xnnpack", "default", "reference"),
])  # fmt: skip
def test_the_drift_is_that_of_the_kernels_the_model_is_not_made_for(profile: str | None, own: str, other: str) -> None:
    record = {"parity": {"default_kernels": {"differing_share": 0.25, "max_lsb": 3}},
              "evaluation": {"tflite": {"AP": 0.5}, "tflite_default_kernels": {"AP": 0.25}}}  # fmt: skip
    record |= {"profile": profile} if profile else {}  # older exports do not say
    said, rows = map(html.unescape, _drift(SimpleNamespace(export=record)))  # type: ignore[arg-type]
    assert f"LiteRT's {other} kernels round otherwise: 25.0% of the output values differ, by at most 3 steps" in said
    assert f"The model is made for {PROFILES[profile or 'tflite_ref'].kernels}." in said
    assert rows.index(own) < rows.index("0.5") < rows.index(other) < rows.index("0.25")


def test_the_second_arithmetic_is_said_with_what_differs() -> None:
    parity = {
        "default_kernels": {"differing_share": 0.0, "max_lsb": 0, "kernels": "default"},
        "second": {"text": ["second arithmetic xnnpack: 2 of 4 operators have the same codes; others:", "  a", "  b"]},
    }
    same, second, _ = map(html.unescape, _drift(SimpleNamespace(  # type: ignore[arg-type]
        export={"parity": parity}, lacks=lambda name, command: command, command=lambda *words: "",
    )))  # fmt: skip
    assert "LiteRT's default kernels gave the same output values." in same
    assert "Second arithmetic xnnpack: 2 of 4 operators have the same codes; others: a; b." in second


def test_an_arithmetic_that_no_kernels_of_litert_have() -> None:
    """Its export measures how far the reference ones are off."""
    parity = {"compared": 0, "default_kernels": {"differing_share": 0.1, "max_lsb": 2, "kernels": "reference"}}
    (said, _) = map(html.unescape, _drift(SimpleNamespace(  # type: ignore[arg-type]
        export={"parity": parity, "profile": "tflite_single"}, lacks=lambda name, command: command,
        command=lambda *words: "",
    )))  # fmt: skip
    assert f"made for {PROFILES['tflite_single'].kernels}. LiteRT's reference kernels round otherwise: 10.0%" in said
    parity["unproven"] = PROFILES["tflite_single"].unproven
    (proof,) = map(html.unescape, _verdict(SimpleNamespace(stages={}, export={"parity": parity})))  # type: ignore[arg-type]
    assert "The .tflite was not verified against a runtime here: no package has" in proof


def test_kernels_that_were_not_run_have_no_drift() -> None:
    drift = {"kernels": "default", "differing_share": 0.0, "max_lsb": 0, "tensors": []}
    (said,) = _drift(SimpleNamespace(  # type: ignore[arg-type]
        export={"parity": {"default_kernels": drift}}, lacks=lambda name, command: command, command=lambda *words: "",
    ))  # fmt: skip
    assert "What other kernels make of the file was not measured." in said


@pytest.mark.parametrize("arithmetic", ["tflite_ref", "xnnpack"])
def test_the_files_arithmetic_is_named(tmp_path: Path, arithmetic: str) -> None:
    graph = small_network()
    graph.metadata["profile"] = arithmetic
    (tmp_path / "m.tflite").write_bytes(tflite.write(graph))
    assert memory_of(tmp_path / "m.tflite", False)["arithmetic"] == f"{arithmetic} ({PROFILES[arithmetic].kernels})"


def test_a_whole_run(whole: Path) -> None:
    text, absent = page_of(whole)
    assert absent == ["arena: not measured (--no-arena)"]
    assert "<td>float</td><td>0.500</td><td>0.750</td><td>0.250</td>" in text
    assert "2 min 3 s (2 epochs)" in text and "2.5 s (12 pictures)" in text and "without validations" in text
    assert "The integer model is as good as float." in text
    assert "1,000 output values of the .tflite compared with the integer model: all are equal." in text
    for title in (
        "Precision over recall",
        "F1 over the confidence threshold",
        "float: loss",
        "float: AP of validations",
    ):
        assert f"<figcaption>{title}</figcaption>" in text
    assert "Best threshold for all classes together: 0.00" in text, (
        "every detection is right, so the lowest is the best"
    )
    assert (
        "3.25 ms" in text
        and "200 KiB" in text
        and "300 KiB" in text
        and "19 of 20" in text
        and "not measurements" in text
    )
    assert "28.6% of the output values differ, by at most 8 steps" in text
    assert "backbone.stem.0.conv: its weights are coarse" in text and "50.0%" in text
    assert "my_config.py" in text and "RTMDet, 2.4 M parameters" in text
    assert "http" not in text.replace("http://www.w3.org/2000/svg", "") and "<script" not in text


def test_the_worst_pictures_come_first(whole: Path) -> None:
    values = json.loads((whole / "int_infer/evaluation.json").read_text())
    mistakes = [
        sum(row["counts"][kind] for kind in ("missed", "false", "double", "confused")) for row in values["worst"]
    ]
    assert mistakes == sorted(mistakes, reverse=True) and mistakes[0] > 0 == mistakes[-1]
    text, _ = page_of(whole)
    assert text.count("data:image/jpeg") == len(values["worst"]) == 12
    assert text.index(values["worst"][0]["file_name"]) < text.index(values["worst"][-1]["file_name"])


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    """A run of which only the float training was done: the page names each part and its command."""
    (tmp_path / "float").mkdir()
    (tmp_path / "float/results.csv").write_text("epoch,train/loss,val/AP\n1,2.0,\n2,1.0,0.3\n")
    text, absent = page_of(tmp_path)
    assert "<td>0.300*</td>" in text and "of the best validation while training" in text
    commands = [
        "hatdet predict CONFIG --stage float",
        "hatdet export CONFIG --evaluate",
        "hatdet quant-analysis CONFIG",
    ]
    for command in commands:
        assert any(f"{command} --work-dir {tmp_path}" in line for line in absent)
        assert f"<pre>{command}" in text
    assert text.count('class="missing"') == 3 == len(absent)


def test_scores_of_former_weights_are_said(tmp_path: Path) -> None:
    """The checkpoint was scored, then trained again."""
    (tmp_path / "qat").mkdir()
    path = tmp_path / "qat-checkpoint-best.pth.tar"
    save_checkpoint(path, {"state_dict": {"w": torch.zeros(3)}})
    content = {"metrics": SCORES, "digests": {path.name: file_digest(path)}}
    (tmp_path / "qat/predict.json").write_text(json.dumps(content))
    assert not read_run(tmp_path).stages["qat"].stale
    save_checkpoint(path, {"state_dict": {"w": torch.ones(3)}})
    text, absent = page_of(tmp_path)
    assert "qat was trained again after it was scored" in text
    assert any("hatdet predict CONFIG --stage qat" in line for line in absent)


def test_a_file_of_another_model_is_said(whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(whole, folder)
    export = json.loads((folder / "export-results.json").read_text())
    export["evaluation"]["int_infer"] = {**SCORES, "AP": 0.49}
    (folder / "export-results.json").write_text(json.dumps(export))
    assert "The .tflite is of another model" in page_of(folder)[0] and "another model" not in page_of(whole)[0]


def test_pictures_that_are_gone_are_said(whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(whole, folder)
    (folder / "int_infer/worst/00.jpg").unlink()
    text, absent = page_of(folder)
    assert any("of the worst ones, 1 are no longer in" in line for line in absent)
    assert "Of the worst pictures, 1 are no longer in" in text


def test_a_classifier(tmp_path: Path) -> None:
    """Its metric has no boxes: no command would bring curves and pictures."""
    for stage, top1 in (("float", 0.75), ("int_infer", 0.7)):
        (tmp_path / stage).mkdir()
        (tmp_path / stage / "predict.json").write_text(json.dumps({"metrics": {"top1": top1}}))
    text, absent = page_of(tmp_path)
    assert "<th>top1</th>" in text and "The integer model is 5.00 points of top1 below float." in text
    assert "The metric of this run is not one of boxes." in text and not any("predict" in line for line in absent)


def test_a_detector_of_points(tmp_path: Path) -> None:
    """Curves by overlaps would be zeros, and no command brings them."""
    for stage, f1 in (("float", 0.75), ("int_infer", 0.7)):
        (tmp_path / stage).mkdir()
        metrics = {"F1": f1, "precision": 0.7, "recall": 0.7, "AP": 0.001}
        (tmp_path / stage / "predict.json").write_text(json.dumps({"metrics": metrics}))
    text, absent = page_of(tmp_path)
    assert "<th>F1</th>" in text and "The integer model is 5.00 points of F1 below float." in text
    assert "This run finds points: precision, recall and the best threshold" in text
    assert not any("predict" in line for line in absent)


def test_without_mistakes_and_without_detections(tmp_path: Path, repo_root: Path) -> None:
    """A sheet without boxes says its threshold all the same."""
    for name in ("all", "none"):
        (tmp_path / name / "float").mkdir(parents=True)
        (tmp_path / name / "float/predict.json").write_text(json.dumps({"metrics": SCORES}))
        evaluated(tmp_path / name / "float", repo_root, name)
    text, _ = page_of(tmp_path / "all")
    assert "no mistake; " in text and "0 pictures have a mistake" in text
    text, _ = page_of(tmp_path / "none")
    assert "At a confidence of 0.00 and above, where F1 is best" in text and "; 0 right" in text


def test_many_classes(whole: Path, tmp_path: Path) -> None:
    """80 classes: their mean and the worst ones as lines, the confusions of 20, those without objects in one line."""
    folder = tmp_path / "run"
    shutil.copytree(whole, folder)
    path = folder / "int_infer/evaluation.json"
    values = json.loads(path.read_text())
    row, curve = values["by_class"][0], values["curves"]
    values["classes"] = [f"c{i}" for i in range(80)]
    values["by_class"] = [row if i < 40 else None for i in range(80)]
    values["objects"] = [1] * 40 + [0] * 40
    for name in ("precision", "recall", "f1", "precision_at_recall"):
        curve[name] = [curve[name][0]] * 80
    counts = np.diag(np.arange(81))
    counts[70, 3] = 5
    values["confusion"] = counts.tolist()
    path.write_text(json.dumps(values))
    text, _ = page_of(folder)
    assert "mean of 40 classes" in text and "c0 (one of the worst)" in text and "60 others" in text
    assert "40 classes have no objects in these pictures: c40, c41" in text and "c49 and 30 more." in text
    assert "c70 taken for c3: 5 of 75" in text


def test_a_damaged_model_is_said(whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(whole, folder)
    (folder / "int_infer-model_int8.tflite").write_bytes(bytes(100))
    text, absent = page_of(folder)
    assert any("is damaged, export it again" in line for line in absent) and "is damaged, export it again" in text


def test_the_command(whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "page.html"
    assert main([str(whole), "-o", str(out), "--no-arena"]) == 0
    assert capsys.readouterr().out == f"written: {out}\nnot in it: arena: not measured (--no-arena)\n"
    assert out.read_text().startswith("<!DOCTYPE html>")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["{run}", "--stage", "qat"], "has no evaluation.json"),
        (["{run}", "-o", "page.pdf"], "the report is HTML"),
        (["{run}/nothing"], "no folder"),
        (["{run}/worst"], "holds no run"),
    ],
)
def test_what_is_refused(whole: Path, tmp_path: Path, words: list[str], said: str) -> None:
    (whole / "worst").mkdir(exist_ok=True)
    with pytest.raises(UserError, match=said):
        main([word.format(run=whole) for word in words])


def test_the_folder_of_a_stage_is_no_run(tmp_path: Path) -> None:
    (tmp_path / "float").mkdir()
    with pytest.raises(UserError, match="float is the folder of a stage: name that of its run, .*, and --stage float"):
        read_run(tmp_path / "float")


def test_a_page_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "float").mkdir()
    (tmp_path / "float/predict.json").write_text(json.dumps({"metrics": SCORES}))
    (tmp_path / "page.html").mkdir()
    with pytest.raises(OSError):
        main([str(tmp_path), "-o", str(tmp_path / "page.html")])
    assert not list(tmp_path.glob("*.part"))


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "float").mkdir()
    (tmp_path / "float/predict.json").write_text('{"metrics": ')
    with pytest.raises(UserError, match=r"predict.json is damaged .*run the command that wrote it again"):
        read_run(tmp_path)


def test_a_file_of_another_version_is_refused(tmp_path: Path) -> None:
    (tmp_path / "qat").mkdir()
    (tmp_path / "qat/predict.json").write_text(json.dumps({"metrics": SCORES}))
    (tmp_path / "qat/evaluation.json").write_text("{}")
    with pytest.raises(UserError, match="of another version of hatdet: run `hatdet predict CONFIG --stage qat` again"):
        read_run(tmp_path)


@needs_browser
@pytest.mark.slow
def test_a_reader_sees_it(whole: Path, tmp_path: Path) -> None:
    text, _ = page_of(whole)
    check_readable(text, tmp_path, {390: 1, 1280: 3}, pictures=12)
    on_paper = look(text.replace("@media print", "@media all"), tmp_path, 720)  # A4 at 96 pixels an inch, with margins
    assert on_paper["overflow"] == 0 and on_paper["cut"] == [] and on_paper["columns"] == 2


def test_an_untrained_model(tmp_path: Path) -> None:
    """Hundreds of false detections in a picture: the best are kept, the rest is a number, and labels are gathered."""
    folder = tmp_path / "run" / "float"
    folder.mkdir(parents=True)
    (folder / "predict.json").write_text(json.dumps({"metrics": SCORES}))
    found = [truth(2, [x, y, 8, 8], 0.01) for y in range(0, 80, 8) for x in range(0, 80, 8)]
    tiles = [SimpleNamespace(source=Pixels())]
    sample = SimpleNamespace(img_id=1, file_name="a.jpg", orig_size=(80, 80), tiles=tiles)
    metric = SimpleNamespace(
        classes=("a", "b"),
        ground_truth_boxes=lambda: from_coco({"annotations": [truth(1, [0, 0, 80, 80])]}, [1, 2]),
        detection_boxes=lambda: from_coco({"annotations": found}, [1, 2]),
    )
    assert save_judgement(folder, metric, Data([sample]), "a test") is not None
    values = json.loads((folder / "evaluation.json").read_text())
    assert len(values["worst"][0]["found"]) == 40 and values["worst"][0]["left_out"] == 60
    text, _ = page_of(tmp_path / "run")
    assert "60 detections of low score are not drawn" in text
    assert re.search(r"without room for a label: .*\d+ false b", text)
    assert "hardly more than nothing" in text


class Pixels:
    def pixels(self) -> np.ndarray:
        return np.zeros((80, 80, 3), np.uint8)


class Data:
    """A data set of some samples."""

    def __init__(self, samples: list[Any]) -> None:
        self.raw, self.size = samples.__getitem__, len(samples)

    def __len__(self) -> int:
        return self.size


def truth(category: int, box: list[float], score: float = 1.0) -> dict[str, Any]:
    return {"image_id": 1, "category_id": category, "bbox": box, "score": score}


@pytest.mark.parametrize(
    "name, content, lacking",
    [
        ("int_infer/predict.json", "{}", "metrics"),
        ("int_infer/predict.json", "[" * 99999, "recursion"),
        ("int_infer/evaluation.json", '{"version": 1}', "classes, by_class, curves, ... "),
        ("quant_analysis/quant_analysis.json", '{"layers": []}', "tested, reference, images"),
        ("compile_perf/x_perf.json", '{"target": "u55"}', "totals, vela"),
    ],
)
def test_a_file_that_lacks_what_is_read_is_refused(tmp_path: Path, name: str, content: str, lacking: str) -> None:
    (tmp_path / "float").mkdir()
    (tmp_path / "float" / "predict.json").write_text('{"metrics": {"AP": 0.5}}')
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=f"{Path(name).name} is damaged .*{lacking}.*run the command that wrote it"):
        read_run(tmp_path)
