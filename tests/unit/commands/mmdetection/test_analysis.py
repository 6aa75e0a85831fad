"""Curves, errors, confusions and anchors, of numbers that can be checked by hand."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hatdet.commands.analysis import (
    analyze_logs,
    benchmark,
    browse_dataset,
    coco_error_analysis,
    confusion_matrix,
    get_flops,
    optimize_anchors,
)
from hatdet.commands.analysis.data import read_results
from hatdet.utils.errors import UserError
from tests.unit.commands.conftest import Files


def test_logs_of_both_kinds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "results.csv").write_text("epoch,train/loss,AP,time/epoch\n1,4,0.1,9\n2,2,0.3,2\n3,1,,4\n")
    lines = [
        {"loss": 3.0, "epoch": 1},
        {"loss": 1.0, "epoch": 1},
        {"coco/bbox_mAP": 0.5, "step": 1},
        {"loss": 1.5, "epoch": 2},
    ]
    (tmp_path / "scalars.json").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert analyze_logs.read_log(str(tmp_path))["AP"] == [(1.0, 0.1), (2.0, 0.3)]
    found = analyze_logs.read_log(str(tmp_path / "scalars.json"))
    assert found["loss"] == [(1.0, 2.0), (2.0, 1.5)] and found["AP"] == [(1.0, 0.5)]
    words = ["plot_curve", str(tmp_path), str(tmp_path / "scalars.json"), "--keys", "loss", "bbox_mAP"]
    assert analyze_logs.main([*words, "--out", str(tmp_path / "x" / "c.svg")]) == 0
    assert "scalars loss" in (tmp_path / "x" / "c.svg").read_text()
    analyze_logs.main(["cal_train_time", str(tmp_path)])
    assert "mean 3.0000 s" in capsys.readouterr().out, "the first epoch warms up"
    analyze_logs.main(["cal_train_time", str(tmp_path), "--include-outliers"])
    assert "mean 5.0000 s" in capsys.readouterr().out
    with pytest.raises(UserError, match="has no los; did you mean 'loss'"):
        analyze_logs.main(["plot_curve", str(tmp_path), "--keys", "los"])
    with pytest.raises(UserError, match="--legend names 1 curves, there are 2"):
        analyze_logs.main([*words[:2], "--keys", "loss", "AP", "--legend", "a"])


def box(image: int, category: int, x: float, **more: Any) -> dict[str, Any]:
    return {"image_id": image, "category_id": category, "bbox": [x, 0, 10, 10], "area": 100, "iscrowd": 0, **more}


def truth() -> dict[str, Any]:
    """Two cats, a dog and a car in one picture."""
    objects = [box(1, 1, 0), box(1, 1, 20), box(1, 2, 40), box(1, 3, 60)]
    kinds = [(1, "cat", "animal"), (2, "dog", "animal"), (3, "car", "vehicle")]
    return {
        "images": [{"id": 1, "width": 100, "height": 20}],
        "annotations": [{**one, "id": number} for number, one in enumerate(objects, 1)],
        "categories": [{"id": i, "name": name, "supercategory": group} for i, name, group in kinds],
    }


def test_errors_are_forgiven_one_after_another() -> None:
    """The surest detection of a cat lies on the dog, the next on the car, then on nothing, then a cat moved aside, and
    one right."""
    places = [(40, 0.9), (60, 0.8), (85, 0.7), (4, 0.6), (20, 0.5)]
    results = [{"image_id": 1, "category_id": 1, "bbox": [x, 0, 10, 10], "score": s} for x, s in places]
    of = {step: coco_error_analysis.area(v) for step, v in coco_error_analysis.analyse(truth(), results)["cat"].items()}
    half = 51 / 101  # recalls up to 0.5
    assert of["C75"] == of["C50"] == pytest.approx(half * 1 / 5)
    assert of["Loc"] == pytest.approx(2 / 5), "both found: the fifth detection completes them, and precision only rises"
    assert of["Sim"] == pytest.approx(2 / 4) and of["Oth"] == pytest.approx(2 / 3)
    assert of["BG"] == of["FN"] == 1.0


def test_error_analysis_writes_a_chart_a_class(tmp_path: Path) -> None:
    (tmp_path / "ann.json").write_text(json.dumps(truth()))
    (tmp_path / "r.json").write_text(
        json.dumps([{"image_id": 1, "category_id": 3, "bbox": [60, 0, 10, 10], "score": 1.0}])
    )
    words = [str(tmp_path / "r.json"), str(tmp_path / "out"), "--ann", str(tmp_path / "ann.json")]
    assert coco_error_analysis.main(words) == 0
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "all.svg",
        "car.svg",
        "cat.svg",
        "dog.svg",
        "errors.json",
    ]
    found = json.loads((tmp_path / "out" / "errors.json").read_text())
    assert found["car"]["C75"] == pytest.approx(1.0) and found["cat"]["BG"] == 0.0
    assert found["all"]["C50"] == pytest.approx(1 / 3)
    with pytest.raises(UserError, match="has no detections to analyse"):
        coco_error_analysis.main([*words, "--score-thr", "1.5"])


def test_results_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="a pickle can run code"):
        read_results("x.pkl")
    with pytest.raises(UserError, match=r"no results at .*; write them with tools/test.py --results"):
        read_results(str(tmp_path / "x.json"))
    (tmp_path / "x.json").write_text('[{"bbox": []}]')
    with pytest.raises(UserError, match="is no list of detections with bbox, category_id, image_id, score"):
        read_results(str(tmp_path / "x.json"))


def test_detections_of_a_model_as_a_matrix(files: Files, tmp_path: Path, tool: Any) -> None:
    results = tmp_path / "results.json"
    words = [files.config_path, *files.words()]
    tool("test")([*words[:1], str(files.root / "model_int8.tflite"), *words[1:], "--results", str(results)])
    found = read_results(str(results))
    assert found
    assert confusion_matrix.main([words[0], str(results), str(tmp_path / "m"), *words[1:], "--score-thr", "0"]) == 0
    matrix = np.array(json.loads((tmp_path / "m" / "confusion_matrix.json").read_text())["matrix"])
    assert matrix.shape == (3, 3) and matrix[:, :2].sum() == len(found)
    strict = [words[0], str(results), str(tmp_path / "n"), *words[1:], "--score-thr", "0", "--nms-iou-thr", "0"]
    confusion_matrix.main(strict)
    fewer = np.array(json.loads((tmp_path / "n" / "confusion_matrix.json").read_text())["matrix"])
    assert 0 < fewer[:, :2].sum() < len(found)


def test_training_images_one_a_file(files: Files, tmp_path: Path) -> None:
    words = [files.config_path, *files.words(), "--output-dir", str(tmp_path / "b"), "--number", "3"]
    assert browse_dataset.main(words) == 0
    assert len(list((tmp_path / "b").glob("*.jpg"))) == 3


def test_operations_are_counted_at_the_size_of_the_config(files: Files, capsys: pytest.CaptureFixture[str]) -> None:
    get_flops.main([files.config_path, *files.words()])
    own = capsys.readouterr().out
    get_flops.main([files.config_path, *files.words(), "--shape", "64"])
    assert capsys.readouterr().out == own and "input 1x3x64x64" in own


def test_rates_are_those_of_the_steps_after_the_warm_up() -> None:
    ticks = iter([0.0, 1.0, 2.0, 10.0])  # begin, two warm-up steps, the end
    assert benchmark.measure(iter([8, 8, 4, 4]), 2, 4, 50, lambda: next(ticks)) == 8 / 8.0
    with pytest.raises(UserError, match="2 steps are all warm-up"):
        benchmark.measure(iter([8, 8]), 2, 4, 50)


@pytest.mark.parametrize("task", ["dataset", "dataloader", "inference"])
def test_every_task_counts_its_images(task: str, files: Files) -> None:
    args = argparse.Namespace(task=task, dataset_type="val", checkpoint=None, fuse_conv_bn=True, device="cpu")
    assert sum(benchmark.steps(files.config(), args)) == 5


def test_anchors_are_where_the_boxes_are() -> None:
    sizes = np.array([[10.0, 10.0]] * 5 + [[50.0, 20.0]] * 5)
    assert optimize_anchors.mean_iou(sizes, np.array([[10.0, 10.0]])) == pytest.approx((1 + 0.1) / 2)
    for algorithm in ("k-means", "differential_evolution", "v5-k-means"):
        found = optimize_anchors.optimize(sizes, 2, algorithm, 200, 1)
        assert optimize_anchors.mean_iou(sizes, found) > 0.9, algorithm
    assert optimize_anchors._by_level([[1, 1], [2, 2], [3, 3]], [2, 1]) == [[[2, 2], [3, 3]], [[1, 1]]]


def test_anchors_of_a_config(files: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [files.config_path, *files.words(), "--num-anchors", "2", "--iters", "5", "--output-dir", str(tmp_path)]
    assert optimize_anchors.main(words) == 0
    assert len(json.loads((tmp_path / "anchor_optimize_result.json").read_text())) == 2
    assert "base_sizes = [[[" in capsys.readouterr().out
