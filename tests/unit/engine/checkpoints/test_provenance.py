"""What a checkpoint says of how it was made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from hatdet.config.load import load_config
from hatdet.engine.checkpoints.provenance import file_digest, input_tree, make_record, network_tree, read_record
from hatdet.engine.run import train
from hatdet.utils import distributed
from hatdet.utils.checkpoints.checkpoint import load_checkpoint, save_checkpoint
from tests.integration.mini_coco import CONFIG
from tests.unit.engine import toy

TOY = """
import torch
from tests.unit.engine import toy

imgsz = (8, 8)
epochs = 1
num_classes = 2
lr = 0.01
ckpt_dir = work_dir
model = dict(type=toy.ToyModel, num_classes=num_classes)
loader = dict(type=toy.loader, count=12)
part = dict(type="Trainer", model=model, data_loader=loader, val_data_loader=loader, num_epochs=epochs, device="cpu",
            val_metrics=dict(type=toy.ToyMetric), optimizer=dict(type=torch.optim.SGD, lr=lr))


def saved(stage):
    return dict(type="Checkpoint", save_dir=ckpt_dir, name_prefix=stage)


float_trainer = dict(part, callbacks=[dict(type="Validation"), saved("float")])
load = dict(type="LoadCheckpoint", checkpoint_path=ckpt_dir + "/float-checkpoint-best.pth.tar")
qat_trainer = dict(part, callbacks=[dict(type="Validation"), saved("qat")],
                   model_convert_pipeline=dict(type="ModelConvertPipeline", converters=[load]))
"""


def test_a_checkpoint_says_how_it_was_made(tmp_path: Path) -> None:
    path = tmp_path / "toy.py"
    path.write_text(TOY)
    options = {"work_dir": str(tmp_path / "w"), "lr": 0.02, "float_trainer.seed": 3}
    train(load_config(path, options), "float")
    record = read_record(tmp_path / "w" / "float-checkpoint-best.pth.tar")
    assert record is not None
    assert record["stage"] == "float" and record["config"] == str(path) and record["parents"] == {}
    assert record["options"] == options
    assert record["file_values"] == {"work_dir": "work_dirs/toy", "lr": 0.01}
    constants = {"imgsz": (8, 8), "epochs": 1, "num_classes": 2, "lr": 0.02}
    assert {name: record["constants"][name] for name in constants} == constants
    assert record["model"] == {"type": "ToyModel", "num_classes": 2}
    assert record["data"]["training"] == {"classes": ["dark", "light"], "images": 12, "fingerprint": None}
    again = load_checkpoint(tmp_path / "w" / "float-checkpoint-last.pth.tar")["run"]
    assert again == record, "every file of a run has the same record"


def test_later_stages_keep_the_run_and_name_their_source(tmp_path: Path) -> None:
    path = tmp_path / "toy.py"
    path.write_text(TOY)
    config = load_config(path, {"work_dir": str(tmp_path / "w")})
    train(config, "float")
    train(config, "qat")
    best = tmp_path / "w" / "float-checkpoint-best.pth.tar"
    first, second = read_record(best), read_record(tmp_path / "w" / "qat-checkpoint-best.pth.tar")
    assert first is not None and second is not None and len(first["id"]) == 12
    assert second["id"] == first["id"] and second["stage"] == "qat"
    assert second["parents"] == {"float": {"id": first["id"], "digest": file_digest(best), "file": str(best)}}


@pytest.mark.parametrize(
    "change",
    [{"version": 2}, {"options": 3}, {"constants": None}, {"parents": {"float": 3}}, {"parents": {"float": {}}},
     {"stage": None}, {"model": "x"}, {"inputs": {}}, {"data": {"training": 1}}],
)  # fmt: skip
def test_what_is_no_record_is_passed_over(tmp_path: Path, repo_root: Path, change: dict[str, Any]) -> None:
    config = load_config(repo_root / CONFIG)
    record = make_record(config, "float", config.float_trainer)
    save_checkpoint(tmp_path / "a", {"state_dict": {}, "run": record})
    assert read_record(tmp_path / "a") == record
    for run in ({**record, **change}, {key: v for key, v in record.items() if key not in change}, "text", [1]):
        save_checkpoint(tmp_path / "a", {"state_dict": {}, "run": run})
        assert read_record(tmp_path / "a") is None


def test_the_digest_is_of_the_weights_alone(tmp_path: Path) -> None:
    weights = {"w": torch.arange(6.0)}
    save_checkpoint(tmp_path / "a", {"state_dict": weights, "run": {"id": "1"}})
    save_checkpoint(tmp_path / "b", {"state_dict": weights, "run": {"id": "2", "stage": "float"}})
    save_checkpoint(tmp_path / "c", {"state_dict": {"w": torch.arange(6.0) + 1}})
    assert file_digest(tmp_path / "a") == file_digest(tmp_path / "b") != file_digest(tmp_path / "c")
    assert read_record(tmp_path / "c") is None and read_record(tmp_path / "absent") is None


def test_trees_hold_the_network_and_what_reaches_it(repo_root: Path) -> None:
    model = {
        "type": toy.ToyModel, "backbone": {"type": "CSPNeXt", "widen_factor": 0.25, "frozen_stages": 1},
        "loss_cls": {"type": "QualityFocalLoss"}, "post_process": {"type": "RTMDetPostProcess", "score_thr": 0.1},
    }  # fmt: skip
    tree = {"type": "ToyModel", "backbone": {"type": "CSPNeXt", "widen_factor": 0.25}}
    assert network_tree(model) == tree
    transforms = [
        {"type": "Resize", "img_scale": (64, 96), "keep_ratio": True},
        {"type": "Pad", "size": (64, 96), "fill": 114},
        {"type": "Normalize", "mean": 128.0, "std": [1.0, 2.0, 3.0]},
    ]
    assert input_tree({"val_data_loader": {"dataset": {"transforms": transforms}}}) == [
        {"type": "Resize", "img_scale": [64, 96]},
        {"type": "Pad", "size": [64, 96]},
        {"type": "Normalize", "mean": 128.0, "std": [1.0, 2.0, 3.0]},
    ]
    record = make_record(load_config(repo_root / CONFIG), "int_infer", {})
    assert record["constants"]["imgsz"] == (640, 640) and record["options"] == {}


def test_one_process_alone_can_make_a_record(repo_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prediction writes in rank 0 only: a record that asked the others would wait for ever."""
    for name in ("broadcast", "all_gather", "barrier"):
        monkeypatch.delattr(distributed, name)
    config = load_config(repo_root / CONFIG)
    assert len(make_record(config, "int_infer", config.int_infer)["id"]) == 12
