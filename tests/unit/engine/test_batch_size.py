from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch

from hatdet.engine.processes import batch_size
from hatdet.engine.processes.batch_size import choose, settled
from hatdet.utils.errors import UserError
from tests.unit.engine import toy

GIB = 2**30


@pytest.mark.parametrize(
    "each, free, images, device, size, why",
    [
        (50e6, 80 * GIB, 5000, "cuda", 32, "more would take the learning rate out of the range"),
        (1e9, 16 * GIB, 5000, "cuda", 8, "what fits (about 954 MiB a picture, 16.0 GiB free)"),
        (2e9, 16 * GIB, 5000, "cuda", 6, "what fits"),
        (50e6, 80 * GIB, 500, "cuda", 24, "500 pictures make 20 steps an epoch"),
        (50e6, 80 * GIB, 60, "cuda", 3, "60 pictures make 20 steps an epoch"),
        (50e6, 80 * GIB, 5, "cuda", 1, "5 pictures make 5 steps an epoch"),
        (50e6, 8 * GIB, 5000, "cpu", 8, "a CPU is not faster with more"),
        (900e6, 8 * GIB, 5000, "cpu", 4, "what fits"),
    ],
)
def test_the_rule(each: float, free: float, images: int, device: str, size: int, why: str) -> None:
    found, reason = choose(each, 1e8, free, images, device)
    assert found == size and reason.startswith(why)


def test_no_room_for_one_picture() -> None:
    with pytest.raises(UserError, match=r"not one picture fits \(about 9537 MiB a picture, 4.0 GiB free\)"):
        choose(1e10, 0, 4 * GIB, 100, "cuda")


def toy_loader(batch_size: int, num_workers: int = 0) -> Any:
    return toy.loader(200, batch_size, num_workers)


def trainer_cfg(**more: Any) -> dict[str, Any]:
    return {
        "type": "Trainer",
        "model": {"type": toy.ToyModel},
        "data_loader": {"type": toy_loader, "batch_size": "auto"},
        "optimizer": {"type": torch.optim.AdamW, "lr": 0.01},
        "num_epochs": 1,
        "device": "cpu",
        **more,
    }


def test_auto_becomes_a_number_and_nothing_random_moves(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="hatdet")
    cfg = trainer_cfg(base_batch_size=4)
    before = torch.get_rng_state()
    found = settled({}, cfg, "float", None)
    assert torch.equal(before, torch.get_rng_state())
    assert found["data_loader"]["batch_size"] == 8 and cfg["data_loader"]["batch_size"] == "auto"
    assert "batch_size='auto': 8 pictures a step; the learning rate follows: a CPU is not faster" in caplog.text
    given = trainer_cfg(data_loader={"type": toy_loader, "batch_size": 3})
    assert settled({}, given, "float", None) is given


def test_a_resumed_training_keeps_its_number(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="hatdet")
    torch.save({"pace": {"batch_size": 5}}, tmp_path / "last.pth.tar")
    found = settled({}, trainer_cfg(), "float", tmp_path / "last.pth.tar")
    assert found["data_loader"]["batch_size"] == 5
    assert "5 pictures a step; the learning rate stays as it is set: as " in caplog.text


def test_a_calibration_is_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_size, "measured", lambda *args: pytest.fail("tried"))
    cfg = trainer_cfg()
    del cfg["optimizer"]
    assert settled({}, cfg, "calibration", None)["data_loader"]["batch_size"] == 8


def test_memory_grows_with_the_pictures() -> None:
    from hatdet.building import Builder

    def kept(count: int) -> int:
        cfg = trainer_cfg(data_loader={"type": toy_loader, "batch_size": count})
        return batch_size.step_bytes(Builder({}).build(cfg, "float_trainer"))

    two, four = kept(2), kept(4)
    # of each picture at least its 3x8x8 input and the 4x6x6 maps of convolution, norm and activation, in float32
    assert four - two >= 2 * 4 * (3 * 64 + 3 * 144)
