"""RunPictures: what a run's folder gets, what is left out, and that it changes nothing of the training."""

from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from hatdet.building import Builder
from hatdet.commands.shared.pictures import best_threshold
from hatdet.commands.train.run_pictures import RunPictures
from hatdet.config.config import Config
from hatdet.config.load import load_config
from hatdet.engine.callbacks.validation import Validation
from hatdet.utils.errors import UserError
from hatdet.visualization.draw import found_text
from hatdet.visualization.pictures import save_train_batch
from tests.integration.mini_coco import CONFIG, mini_coco

CURVES = ["F1_curve.svg", "PR_curve.svg", "P_curve.svg", "R_curve.svg", "confusion_matrix.svg"]


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory, repo_root: Path) -> Config:
    root = mini_coco(tmp_path_factory.mktemp("pictures") / "data", count=18)
    options = {"data_root": str(root), "num_classes": 2, "imgsz": (64, 64), "workers": 0, "batch_size": 4}
    return load_config(str(repo_root / CONFIG), options)


def loop(config: Config, folder: Path, **changes: Any) -> Any:
    """What the callback reads of a trainer; the detections are the ground truth."""
    builder = Builder()
    validation, metric = builder.build(config["val_data_loader"]), builder.build(config["metric"])
    metric.bind(validation.dataset)
    for index in range(len(validation.dataset)):
        sample = validation.dataset.raw(index)
        found = {"boxes": sample.boxes, "scores": np.full(len(sample.boxes), 0.9), "labels": sample.labels}
        metric.update([found], {"img_id": [sample.img_id]})
    parts: dict[str, Any] = dict(
        work_dir=folder, progress=SimpleNamespace(step=0), data_loader=builder.build(config["data_loader"]),
        validation_loader=validation, val_metrics=metric, callbacks=[], validated_at=5,
    )  # fmt: skip
    return SimpleNamespace(**(parts | changes))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_a_run_leaves(config: Config, tmp_path: Path) -> None:
    callback, run = RunPictures(), loop(config, tmp_path)
    (tmp_path / "results.csv").write_text("epoch,train/loss,val/AP\n1,2.0,0.1\n2,1.0,0.2\n")
    callback.on_loop_begin(run)
    assert names(tmp_path) == ["labels.jpg", "results.csv", *(f"train_batch{i}.jpg" for i in range(3))]
    callback.on_loop_end(run)
    pictures = [f"val_batch{i}_{kind}.jpg" for i in range(2) for kind in ("labels", "pred")]
    assert [n for n in names(tmp_path) if n.startswith("val_batch")] == pictures, "18 images are 16 and 2"
    assert [n for n in names(tmp_path) if n.endswith("_curve.svg") or n == "confusion_matrix.svg"] == CURVES
    assert {"results_loss.svg", "results_AP.svg"} <= set(names(tmp_path))
    for path in tmp_path.glob("*.jpg"):
        assert cv2.imread(str(path)) is not None
    labels, found = (cv2.imread(str(tmp_path / f"val_batch0_{kind}.jpg")) for kind in ("labels", "pred"))
    assert labels is not None and found is not None
    assert labels.shape == found.shape and not np.array_equal(labels, found), "detections carry their score"


def test_detections_are_drawn_at_the_threshold_with_the_best_f1(config: Config, tmp_path: Path) -> None:
    """All are right at 0.9; with 20 false ones at 0.4 the lowest threshold that leaves these out is the best."""
    run = loop(config, tmp_path)
    metric = run.val_metrics
    sample = run.validation_loader.dataset.raw(0)
    boxes = np.array([[x, 0.0, x + 3, 3] for x in range(0, 60, 3)])
    found = {"boxes": np.concatenate([sample.boxes, boxes]), "scores": np.array([0.9] * len(sample.boxes) + [0.4] * 20),
             "labels": np.concatenate([sample.labels, np.zeros(20, np.int64)])}  # fmt: skip
    state = metric.state()
    metric.reset()
    metric.update([found], {"img_id": [sample.img_id]})
    first = metric.state()
    metric.merge([first, state])
    assert 0.4 < best_threshold(metric) <= 0.41
    seen: list[float] = []
    callback = RunPictures(val_batches=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hatdet.commands.train.run_pictures.draw_found", lambda *args: seen.append(args[-1]))
        callback.on_loop_end(run)
        RunPictures(val_batches=1, min_score=0.2).on_loop_end(run)
    assert seen == [best_threshold(metric), 0.2]


def test_an_empty_sheet_says_its_threshold() -> None:
    assert found_text(np.array([0.3, 0.2]), 0.5) == "no detections >= 0.50"
    assert found_text(np.array([0.7, 0.2]), 0.5) == "1 detection >= 0.50"


def test_the_batches_are_those_of_the_training(config: Config, tmp_path: Path) -> None:
    run = loop(config, tmp_path)
    RunPictures(train_batches=1).on_loop_begin(run)
    batch = next(iter(run.data_loader))
    expected = save_train_batch(tmp_path / "expected.jpg", batch, run.data_loader.dataset.classes)
    assert (tmp_path / "train_batch0.jpg").read_bytes() == expected.read_bytes()


def test_drawing_draws_no_random_numbers_and_keeps_the_threads(config: Config, tmp_path: Path) -> None:
    run = loop(config, tmp_path)
    torch.manual_seed(3)
    threads, expected = cv2.getNumThreads(), torch.get_rng_state()
    RunPictures().on_loop_begin(run)
    assert torch.equal(torch.get_rng_state(), expected) and cv2.getNumThreads() == threads


@pytest.mark.parametrize("changes", [{"work_dir": None}, {"progress": SimpleNamespace(step=7)}])
def test_nothing_is_drawn_at_the_beginning(config: Config, tmp_path: Path, changes: dict[str, Any]) -> None:
    """A run without folder; a run that was resumed has its pictures."""
    RunPictures().on_loop_begin(loop(config, tmp_path, **changes))
    assert not names(tmp_path)


def test_nothing_is_drawn_at_the_end_without_a_validation_or_boxes(config: Config, tmp_path: Path) -> None:
    RunPictures().on_loop_end(loop(config, tmp_path, validated_at=-1))
    RunPictures().on_loop_end(loop(config, tmp_path, val_metrics=object()))
    assert not names(tmp_path)


def test_the_validations_own_metric_is_used(config: Config, tmp_path: Path) -> None:
    run = loop(config, tmp_path)
    run.callbacks, run.val_metrics = [Validation(val_metrics=run.val_metrics)], None
    RunPictures(val_batches=0).on_loop_end(run)
    assert names(tmp_path) == sorted([*CURVES, "evaluation.json", "worst"])


def test_a_fault_is_a_warning(config: Config, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    class Broken:
        classes = ("a",)
        category_ids = (1,)

        def coco_annotations(self) -> dict[str, Any]:
            raise RuntimeError("disk on fire")

    caplog.set_level(logging.WARNING)
    logging.getLogger("hatdet").propagate = True
    run = loop(config, tmp_path, data_loader=SimpleNamespace(dataset=Broken(), batch_sampler=None))
    RunPictures().on_loop_begin(run)
    assert "labels.jpg could not be drawn: RuntimeError: disk on fire" in caplog.text


def test_settings(config: Config) -> None:
    with pytest.raises(UserError, match="train_batches is -1; 0 draws none"):
        RunPictures(train_batches=-1)
    for stage in ("float", "calibration", "qat"):
        assert {"type": "RunPictures"} in config[f"{stage}_trainer"]["callbacks"]
    plain = load_config(str(config.path), {"run_pictures": False})
    assert {"type": "RunPictures"} not in plain["float_trainer"]["callbacks"]
