"""The parts of docs/own/ are built and trained, and networks become the integer file that was evaluated."""

from __future__ import annotations

import importlib
import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from hatdet.building import Builder
from hatdet.commands.export.run import Request, export_model
from hatdet.config.load import load_config
from hatdet.config.options import parse_options
from hatdet.data.transforms.render import render
from hatdet.data.transforms.sample import Context, Sample, image_sample
from hatdet.engine.run import train
from hatdet.export.formats.table import ExportOptions
from tests.integration.mini_coco import mini_coco

EXAMPLES = Path(__file__).resolve().parents[2] / "docs" / "examples"
SMALL = [
    "num_classes=2", "imgsz=(64,96)", "workers=0", "epochs=2", "batch_size=4", "warmup_steps=2", "val_interval=2",
    "calibration_steps=2", "run_pictures=False", "deepen_factor=0.1", "amp=None", "ema_gamma=2",
]  # fmt: skip


@pytest.fixture(autouse=True)
def _inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HATDET_CACHE", str(tmp_path / "cache"))
    yield
    logging.getLogger("hatdet").handlers.clear()


def module(name: str) -> ModuleType:
    """An example's module; monkeypatch has put its folder on the path."""
    return importlib.import_module(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["own_backbone", "own_head"])
def test_a_network_goes_the_whole_road(name: str, tmp_path: Path) -> None:
    pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed")
    path = EXAMPLES / f"{name}_config.py"
    options = parse_options([f"data_root={mini_coco(tmp_path / 'data', count=9)}", *SMALL])
    config = load_config(path, options)
    for stage in ("float", "calibration"):
        train(config, stage)
    assert export_model(str(path), options, Request(stage="int_infer", options=ExportOptions(verify=4)))
    results = json.loads((Path(config.work_dir) / "export-results.json").read_text())
    assert results["parity"]["ok"] and results["parity"]["differing"] == 0 and results["parity"]["compared"] > 1000


def test_the_backbone_says_its_maps() -> None:
    network = module("own_backbone").ThinNet(channels=(8, 8, 16, 24, 32)).eval()
    maps = network(torch.zeros(1, 3, 64, 96))
    assert [tuple(each.shape) for each in maps] == [(1, 16, 8, 12), (1, 24, 4, 6), (1, 32, 2, 3)]
    assert network.feature_info.channels == (16, 24, 32) and network.feature_info.strides == (8, 16, 32)
    with pytest.raises(ValueError, match=r"five stages, got channels=\[8\]"):
        module("own_backbone").ThinNet(channels=(8,))


def test_the_heads_outputs_are_kind_after_kind() -> None:
    config = load_config(EXAMPLES / "own_head_config.py", {"num_classes": 3})
    head = Builder().build(config.model).bbox_head
    maps = head([torch.zeros(1, head.in_channels, side, side) for side in (8, 4, 2)])
    assert [tuple(each.shape[1:]) for each in maps] == [
        (3, 8, 8), (3, 4, 4), (3, 2, 2), (4, 8, 8), (4, 4, 4), (4, 2, 2),
    ]  # fmt: skip


class Alone:
    """No other pictures."""

    indices = ()

    def load(self, index: int) -> Sample:
        raise AssertionError(index)


def white(height: int, width: int) -> Sample:
    boxes = np.array([[1, 1, 2, 2]], np.float32)
    size = (height, width)
    sample = Sample(0, 1, "white.png", size, [], size, boxes, np.zeros(1, np.int64), size)
    return image_sample(sample, np.full((height, width, 3), 200, np.uint8))


def test_the_transform_darkens_corners_only() -> None:
    """Half of the light is missing in a corner, a quarter in the middle of an edge, nothing in the centre."""
    transform = module("own_transform").DarkCorners(strength=(0.5, 0.5), prob=1.0)
    sample = transform(white(3, 3), Context(np.random.default_rng(0), Alone()))
    assert render(sample)[..., 0].tolist() == [[100, 150, 100], [150, 200, 150], [100, 150, 100]]
    assert sample.boxes.tolist() == [[1, 1, 2, 2]]
    never = module("own_transform").DarkCorners(prob=0.0)
    assert (render(never(white(5, 7), Context(np.random.default_rng(0), Alone()))) == 200).all()
    with pytest.raises(ValueError, match=r"least, most\) in 0\.\.1, got \(0\.5, 2\)"):
        module("own_transform").DarkCorners(strength=(0.5, 2))


@pytest.mark.slow
def test_a_training_with_the_transform(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, ...]] = []
    corners = module("own_transform").DarkCorners
    call = corners.__call__

    def watched(self: object, sample: Sample, ctx: Context) -> Sample:
        made: Sample = call(self, sample, ctx)
        seen.append(made.canvas)
        return made

    monkeypatch.setattr(corners, "__call__", watched)
    options = parse_options([f"data_root={mini_coco(tmp_path / 'data', count=9)}", *SMALL])
    train(load_config(EXAMPLES / "own_transform_config.py", options), "float")
    assert len(seen) == 8 and set(seen) == {(64, 96)}  # the pictures of the first epoch, at the network's size


@pytest.mark.slow
def test_a_training_with_the_callback(tmp_path: Path) -> None:
    options = parse_options([f"data_root={mini_coco(tmp_path / 'data', count=9)}", *SMALL])
    config = load_config(EXAMPLES / "own_callback_config.py", options)
    config.float_trainer["callbacks"][-1]["every"] = 2
    train(config, "float")
    beat = json.loads((Path(config.work_dir) / "heartbeat.json").read_text())
    assert beat["step"] == 4 and beat["epoch"] == 1 and beat["largest"] >= beat["loss"] > 0
    saved = torch.load(Path(config.work_dir) / "float-checkpoint-last.pth.tar", weights_only=True)["callbacks"]
    assert saved["Heartbeat"]["largest"] == beat["largest"]


def test_every_example_is_on_a_page() -> None:
    pages = "\n".join(path.read_text(encoding="utf-8") for path in (EXAMPLES.parent / "own").glob("*.md"))
    shown = set(re.findall(r'^--8<-- "(\w+\.py)"$', pages, re.MULTILINE))
    assert shown == {path.name for path in EXAMPLES.glob("*.py")} and len(shown) >= 8
