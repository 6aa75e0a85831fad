"""The commands on configs made of the toy: what is written, what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from hatdet.config.config import Config
from hatdet.config.load import load_config
from hatdet.engine.checkpoints.provenance import file_digest
from hatdet.engine.processes import launcher
from hatdet.engine.run import predict, train
from hatdet.engine.stages import predictor_config, trainer_config
from hatdet.quantization.loading import LoadCheckpoint
from hatdet.utils.checkpoints.checkpoint import load_checkpoint
from hatdet.utils.errors import ConfigError, UserError
from tests.unit.engine import toy


def config(tmp_path: Path, **extra: Any) -> Config:
    ckpt = tmp_path / "ckpt"
    model, loader = {"type": toy.ToyModel}, {"type": toy.loader, "count": 12}
    float_trainer = {
        "type": "Trainer",
        "model": model,
        "data_loader": loader,
        "val_data_loader": loader,
        "val_metrics": {"type": toy.ToyMetric},
        "optimizer": {"type": torch.optim.SGD, "lr": 0.01},
        "num_epochs": 2,
        "device": "cpu",
        "callbacks": [{"type": "Validation"}, {"type": "Checkpoint", "save_dir": str(ckpt), "name_prefix": "float-"}],
    }
    load = {"type": LoadCheckpoint, "checkpoint_path": str(ckpt / "float-checkpoint-best.pth.tar")}
    qat_trainer = {
        **float_trainer,
        "model_convert_pipeline": {"type": "ModelConvertPipeline", "converters": [load]},
        "callbacks": [{"type": "Validation"}, {"type": "Checkpoint", "save_dir": str(ckpt), "name_prefix": "qat"}],
    }
    values = {"float_trainer": float_trainer, "qat_trainer": qat_trainer, "work_dir": str(tmp_path / "w")}
    return Config(values | {"ckpt_dir": str(ckpt)} | extra, tmp_path / "toy.py")


def test_train_and_predict_leave_their_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    values = train(config(tmp_path), "float")
    folder = tmp_path / "w" / "float"
    for name in ("log.txt", "results.csv", "config.py"):
        assert (folder / name).is_file()
    log = (folder / "log.txt").read_text()
    for text in ("device: cpu", "12 images, 3 batches of 4", "2 classes: dark, light", "epoch 2/2  eta 0:00:0"):
        assert text in log
    assert load_config(folder / "config.py").float_trainer["num_epochs"] == 2
    best = load_checkpoint(tmp_path / "ckpt" / "float-checkpoint-best.pth.tar")
    assert "num_epochs" in best["config"]
    capsys.readouterr()
    again = predict(config(tmp_path), "float")
    assert again == best["metrics"] and values.keys() == again.keys()
    assert f"AP {again['AP']:.3f} on 12 images" in capsys.readouterr().out
    written = json.loads((folder / "predict.json").read_text())
    assert written["metrics"] == again and written["checkpoints"][0].endswith("float-checkpoint-best.pth.tar")
    assert written["images"] == 12 and written["seconds"] > 0
    assert written["digests"] == {"float-checkpoint-best.pth.tar": file_digest(written["checkpoints"][0])}


def test_a_stage_before_its_time(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"no float-checkpoint-best in .*ckpt: run `python tools/train.py --stage float --config"
    ):
        train(config(tmp_path), "qat")
    with pytest.raises(UserError, match=r"no qat-checkpoint-best in .*: run `python tools/train.py --stage qat"):
        predict(config(tmp_path), "qat")
    assert not (tmp_path / "w").exists() and not (tmp_path / "ckpt").exists()


def test_qat_reads_float_best_and_predicts_without_it(tmp_path: Path) -> None:
    train(config(tmp_path), "float")
    train(config(tmp_path), "qat")
    (tmp_path / "ckpt" / "float-checkpoint-best.pth.tar").unlink()
    values = predict(config(tmp_path), "qat")
    assert values == load_checkpoint(tmp_path / "ckpt" / "qat-checkpoint-best.pth.tar")["metrics"]


def test_int_infer_is_found_under_its_names(tmp_path: Path) -> None:
    train(config(tmp_path), "float")
    base = config(tmp_path)
    load = base.qat_trainer["model_convert_pipeline"]
    predictor = {
        "type": "Predictor",
        "model": base.float_trainer["model"],
        "data_loader": base.float_trainer["data_loader"],
        "val_metrics": {"type": toy.ToyMetric},
        "model_convert_pipeline": load,
    }
    for name in ("int_infer", "int_infer_predictor", "int_infer_trainer"):
        found = config(tmp_path, **{name: predictor})
        assert predict(found, "int_infer")["images"] == 12
        other = tmp_path / "ckpt" / "float-checkpoint-last.pth.tar"
        _, changed = predictor_config(found, "int_infer", other)
        assert changed["model_convert_pipeline"]["converters"][0]["checkpoint_path"] == str(other)
    assert load["converters"][0]["checkpoint_path"].endswith("best.pth.tar")  # the config is as it was
    with pytest.raises(UserError, match="no int_infer_predictor or int_infer"):
        predict(base, "int_infer")


def test_all_mistakes_at_once_and_nothing_written(tmp_path: Path) -> None:
    broken = config(tmp_path)
    broken.float_trainer["num_epoch"] = 3
    broken.float_trainer["callbacks"][1]["save_dri"] = "x"
    with pytest.raises(ConfigError) as caught:
        train(broken, "float")
    assert "float_trainer.num_epoch" in str(caught.value) and "float_trainer.callbacks.1.save_dri" in str(caught.value)
    wrong = config(tmp_path)
    wrong.float_trainer["model"] = {"type": toy.ToyModel, "num_classes": 3}
    with pytest.raises(UserError, match="predicts 3 classes, but the training data has 2"):
        train(wrong, "float")
    assert not (tmp_path / "w").exists()
    with pytest.raises(ConfigError, match="calibration_trainer"):
        train(config(tmp_path), "calibration")


def test_flags(tmp_path: Path) -> None:
    base = config(tmp_path)
    changed = trainer_config(base, "float", amp=True, seed=5)
    assert changed["batch_processor"]["enable_amp"] and changed["seed"] == 5
    assert "batch_processor" not in base.float_trainer
    with pytest.raises(UserError, match="base_batch_size=N"):
        trainer_config(base, "float", auto_scale_lr=True)
    assert trainer_config(config(tmp_path, base_batch_size=16), "float", auto_scale_lr=True)["base_batch_size"] == 16


def test_several_gpus_start_torchrun(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[list[str]] = []
    monkeypatch.setattr(launcher.os, "execv", lambda program, arguments: started.append(arguments[1:]))
    monkeypatch.setattr(launcher.torch.cuda, "is_available", lambda: True)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with launcher.processes("none", "0,2", ["tools/train.py", "c.py"]):
        assert launcher.os.environ["CUDA_VISIBLE_DEVICES"] == "0,2"
    assert started[0][-4:] == ["--nproc-per-node", "2", "tools/train.py", "c.py"]


def test_launcher_pytorch_needs_torchrun(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(UserError, match="torchrun --nproc-per-node N"), launcher.processes("pytorch"):
        pass


def test_ids_on_a_machine_without_gpus_is_said_once(capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    monkeypatch.setattr(launcher.torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with launcher.processes("none", "0"):
        pass
    assert capsys.readouterr().out.count("running on the CPU") == 1
