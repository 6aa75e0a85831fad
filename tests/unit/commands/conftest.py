"""One tiny detector as every file that a stage leaves: float, calibrated, trained, integer graph, .tflite."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from hatdet.building import Builder
from hatdet.commands.table import COMMANDS
from hatdet.config.config import Config
from hatdet.config.load import load_config
from hatdet.export.calibrate import calibrate
from hatdet.export.tflite import int8 as tflite
from hatdet.utils.checkpoints.checkpoint import save_checkpoint
from tests.integration.mini_coco import CONFIG, mini_coco

SIZE = (64, 64)


@dataclass(frozen=True)
class Files:
    """Where the files lie, the config's path and its options."""

    root: Path
    config_path: str
    options: dict[str, object]

    def config(self, **changes: object) -> Config:
        return load_config(self.config_path, {**self.options, **changes})

    def words(self, **changes: object) -> list[str]:
        """The options as a command line has them."""
        return ["--cfg-options", *(f"{k}={v}" for k, v in {**self.options, **changes}.items())]


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory, repo_root: Path) -> Files:
    """Random weights with lively normalization, calibrated on five images of 64 x 64; nothing is trained."""
    pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed")
    root = tmp_path_factory.mktemp("commands")
    options = {
        "data_root": mini_coco(root / "data", count=5),
        "num_classes": 2,
        "imgsz": SIZE,
        "workers": 0,
        "work_dir": root / "wd",
    }
    found = Files(
        root, str(repo_root / CONFIG), {key: str(v) if isinstance(v, Path) else v for key, v in options.items()}
    )
    config = found.config()
    torch.manual_seed(0)
    model = Builder().build(config["model"])
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 2.0)
            torch.nn.init.normal_(module.bias)
    for conv in [*model.bbox_head.rtm_cls, *model.bbox_head.rtm_reg]:  # boxes of some size, of differing scores
        torch.nn.init.normal_(conv.weight, std=0.1)
    for conv in model.bbox_head.rtm_reg:
        torch.nn.init.constant_(conv.bias, 1.5)
    text = "epochs = 20\nimgsz = (64, 64)\n"
    save_checkpoint(root / "epoch_150.pth", {"state_dict": model.state_dict(), "config": text})
    quantized, _ = calibrate(model.eval(), Builder().build(config["calibration_data_loader"]), 5)
    save_checkpoint(root / "calibrated.pth", {"state_dict": quantized.state_dict(), "config": text})
    save_checkpoint(root / "trained.pth.tar", {"state_dict": quantized.state_dict(), "optimizer": {}})
    graph = quantized.int_graph(SIZE)
    save_checkpoint(root / "graph.pth.tar", {"int_graph": graph.to_state()})
    tflite.write(graph, root / "model_int8.tflite", metadata={"classes": ["square", "disc"]})
    return found


@pytest.fixture(scope="session")
def tool() -> Callable[[str], Callable[[list[str]], int | None]]:
    """``tool("test")(arguments)`` calls the main function of tools/test.py."""

    def load(name: str) -> Callable[[list[str]], int | None]:
        main: Callable[[list[str]], int | None] = importlib.import_module(COMMANDS[name].module).main
        return main

    return load
