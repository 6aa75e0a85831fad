"""Whatever order the data lists its categories in: labels are matched by name with those of the model's file."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from hatdet.commands.export.source import open_source
from hatdet.commands.shared.evaluation import evaluate_model
from hatdet.engine.run import train
from hatdet.export.tflite import int8 as tflite
from hatdet.integer.graph import IntGraph
from hatdet.utils.checkpoints.checkpoint import load_checkpoint, save_checkpoint
from hatdet.utils.errors import UserError
from tests.unit.commands.conftest import Files

VAL = "annotations/instances_val2017.json"
TRAIN = "annotations/instances_train2017.json"


def changed(files: Files, tmp_path: Path, edit: Callable[[dict[str, Any]], None], *names: str) -> str:
    """A copy of the data set with edited annotation files (val's, unless others are named)."""
    root = tmp_path / "data"
    if not root.exists():
        shutil.copytree(files.root / "data", root, ignore=shutil.ignore_patterns(".hatdet_cache"))
    for name in names or (VAL,):
        content = json.loads((root / name).read_text())
        edit(content)
        (root / name).write_text(json.dumps(content))
    return str(root)


def exchange(content: dict[str, Any]) -> None:
    """disc gets the lower id, so that the labels are 0 for disc and 1 for square."""
    for category in content["categories"]:
        category["id"] = 10 - category["id"]
    for annotation in content["annotations"]:
        annotation["category_id"] = 10 - annotation["category_id"]


def leave_out_discs(content: dict[str, Any]) -> None:
    content["categories"] = [c for c in content["categories"] if c["name"] == "square"]
    content["annotations"] = [a for a in content["annotations"] if a["category_id"] == 3]


def add_a_star(content: dict[str, Any]) -> None:
    content["categories"].append({"id": 1, "name": "star"})


@pytest.fixture(scope="module")
def named(files: Files) -> Path:
    """The files of the detector with the classes that it was trained on, as every stage writes them."""
    folder = files.root / "named"
    folder.mkdir()
    for name in ("epoch_150.pth", "calibrated.pth"):
        state = torch.load(files.root / name, weights_only=True)
        save_checkpoint(folder / name, {**state, "metadata": {"classes": ["square", "disc"]}})
    state = torch.load(files.root / "graph.pth.tar", weights_only=True)["int_graph"]
    state["metadata"]["classes"] = ["square", "disc"]
    save_checkpoint(folder / "graph.pth.tar", {"int_graph": state})
    tflite.write(IntGraph.from_state(state), folder / "m_int8.tflite", metadata={"classes": ["square", "disc"]})
    return folder


NAMES = ("epoch_150.pth", "calibrated.pth", "graph.pth.tar", "m_int8.tflite")


@pytest.mark.parametrize("name", NAMES)
def test_the_same_numbers_in_another_order(files: Files, named: Path, name: str, tmp_path: Path) -> None:
    right = evaluate_model(files.config(), named / name)
    root = changed(files, tmp_path, exchange)
    found = evaluate_model(files.config(data_root=root), named / name)
    assert found.predictor.data_loader.dataset.classes == ("square", "disc")
    assert found.values == right.values and right.values["AR100"] > 0
    assert found.values["AP/square"] == right.values["AP/square"]


def test_a_class_that_val_does_not_list(files: Files, named: Path, tmp_path: Path) -> None:
    root = changed(files, tmp_path, leave_out_discs)
    found = evaluate_model(files.config(data_root=root), named / "calibrated.pth")
    assert found.predictor.data_loader.dataset.classes == ("square", "disc")
    assert found.values["AP/disc"] == -1 and found.values["AP"] == found.values["AP/square"]


@pytest.mark.parametrize("name", NAMES)
def test_a_class_that_the_model_does_not_know(files: Files, named: Path, name: str, tmp_path: Path) -> None:
    root = changed(files, tmp_path, add_a_star)
    with pytest.raises(UserError) as error:
        evaluate_model(files.config(data_root=root), named / name)
    text = str(error.value)
    assert text.startswith(
        f"{named / name} knows the classes square, disc; the validation data has star, square, disc ("
    )
    assert VAL in text and "'star' is not known there" in text and "\n" not in text


def test_exports_have_the_names_of_the_checkpoint(files: Files, named: Path, tmp_path: Path) -> None:
    """Also where the data's order is another one by now."""
    root = changed(files, tmp_path, exchange, TRAIN, VAL)
    for name in ("epoch_150.pth", "calibrated.pth", "graph.pth.tar"):
        source = open_source(files.config(data_root=root), named / name, None, None)
        assert source.graph((64, 64)).metadata["classes"] == ["square", "disc"]
        assert source.task.metadata()["classes"] == ["square", "disc"]


def test_calibration_training_and_resuming(files: Files, named: Path, tmp_path: Path) -> None:
    """A later stage and a resumed one number the labels as the float weights do, and so do their checkpoints."""
    root = changed(files, tmp_path, exchange, TRAIN, VAL)
    work = tmp_path / "wd"
    work.mkdir()
    shutil.copy(named / "epoch_150.pth", work / "float-checkpoint-best.pth.tar")
    settings: dict[str, object] = {"data_root": root, "work_dir": str(work), "calibration_steps": 1, "batch_size": 4}
    train(files.config(**settings), "calibration")
    state = load_checkpoint(work / "calibration-checkpoint-best.pth.tar")
    assert state["metadata"]["classes"] == ["square", "disc"] and state["metadata"]["category_ids"] == [7, 3]


def test_splits_that_list_only_what_they_contain(files: Files, tmp_path: Path) -> None:
    """train has squares, val has squares and discs: refused with the list that helps, which then works."""
    changed(files, tmp_path, leave_out_discs, TRAIN)
    root = changed(files, tmp_path, lambda content: None)
    settings: dict[str, object] = {"data_root": root, "work_dir": str(tmp_path / "wd"), "epochs": 1, "batch_size": 4}
    for count in (1, 2):
        with pytest.raises(UserError) as error:
            train(files.config(**settings, num_classes=count), "float")
        text = str(error.value)
        assert TRAIN in text and VAL in text and "'disc' is not in the training data" in text
        assert text.endswith("name all classes in the config or by --cfg-options 'classes=('square', 'disc')'")
    options = {key: value for key, value in files.options.items() if key != "num_classes"}
    one_way = Files(files.root, files.config_path, options)
    train(one_way.config(**settings, classes=("square", "disc"), run_pictures=False), "float")
    state = load_checkpoint(tmp_path / "wd" / "float-checkpoint-last.pth.tar")
    assert state["metadata"]["classes"] == ["square", "disc"]
    assert state["state_dict"]["bbox_head.rtm_cls.0.weight"].shape[0] == 2
