from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from torch import nn

from hatdet.engine.callbacks.checkpoint import Checkpoint
from hatdet.engine.callbacks.ema import ExponentialMovingAverage
from hatdet.utils.checkpoints.checkpoint import load_checkpoint
from hatdet.utils.errors import UserError
from tests.unit.engine import toy


class Scalars(nn.Module):
    """One parameter, one buffer of twice its value, one integer buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros((), dtype=torch.float64))
        self.register_buffer("running", torch.zeros((), dtype=torch.float64))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def put(self, value: float, count: int) -> None:
        self.weight.fill_(value)
        self.running.fill_(2 * value)
        self.count.fill_(count)


def test_rate_by_hand() -> None:
    ema = ExponentialMovingAverage(momentum=0.1, gamma=2.0)
    assert ema.rate(1) == pytest.approx(0.9 * math.exp(-1) + 0.1)
    assert ExponentialMovingAverage(momentum=0.1, gamma=None).rate(5) == 0.1


def test_first_update_copies_and_second_averages() -> None:
    ema, model = ExponentialMovingAverage(momentum=0.25, gamma=None), Scalars()
    model.put(8.0, 1)
    ema.update(model)
    assert float(ema.averages()["weight"]) == 8.0
    model.put(0.0, 2)
    ema.update(model)
    assert (float(ema.averages()["weight"]), float(ema.averages()["running"])) == (6.0, 12.0)


@pytest.mark.parametrize(
    "key, settings",
    [
        ("ema_exp", {}),
        ("ema_exp_gamma20", {"gamma": 20.0}),
        ("ema_exp_no_buffers", {"update_buffers": False}),
        ("ema_const", {"gamma": None}),
    ],
)
def test_golden_sequences(shared_dir: Path, key: str, settings: dict[str, float]) -> None:
    golden = json.loads((shared_dir / "golden" / "schedule_ema.json").read_text())[key]
    ema, model = ExponentialMovingAverage(momentum=0.0002, **settings), Scalars()  # type: ignore[arg-type]
    for step, source in enumerate(golden["source"]):
        model.put(source, step)
        ema.update(model)
        with ema._swapped():
            assert float(model.weight.detach()) == pytest.approx(golden["averaged"][step], rel=2e-6, abs=1e-7)
            if "running" in ema.averages():
                assert float(model.running) == pytest.approx(golden["averaged_buffer"][step], rel=2e-6, abs=1e-7)
            else:
                assert float(model.running) == 2 * source  # copied
            assert int(model.count) == step  # integers are always the present ones
        assert float(model.weight.detach()) == source


def test_marked_modules_are_copied() -> None:
    inner = Scalars()
    inner.ema_copy_buffers = True
    ema, model = ExponentialMovingAverage(momentum=0.5, gamma=None), nn.Sequential(inner)
    inner.put(4.0, 0)
    ema.update(model)
    inner.put(2.0, 0)
    ema.update(model)
    with ema._swapped():
        assert (float(inner.weight.detach()), float(inner.running)) == (3.0, 4.0)


def test_saved_weights_are_the_averaged_ones(tmp_path: Path) -> None:
    ema = ExponentialMovingAverage(momentum=0.05, gamma=10)
    run = toy.trainer(callbacks=[ema, Checkpoint(save_dir=tmp_path)])
    run.fit()
    state = load_checkpoint(tmp_path / "float-checkpoint-last.pth.tar")
    assert torch.equal(state["state_dict"]["fc.weight"], ema.averages()["fc.weight"])
    assert torch.equal(state["raw_state_dict"]["fc.weight"], run.model.fc.weight.detach())
    assert not torch.equal(state["state_dict"]["fc.weight"], state["raw_state_dict"]["fc.weight"])
    assert torch.equal(state["state_dict"]["bn.running_mean"], ema.averages()["bn.running_mean"])


def test_shared_parameters_are_averaged_once() -> None:
    model = toy.model()
    model.again = model.fc
    ema = ExponentialMovingAverage()
    ema.update(model)
    assert "fc.weight" in ema.averages() and "again.weight" not in ema.averages()


def test_mistakes() -> None:
    with pytest.raises(UserError, match="between 0 and 1"):
        ExponentialMovingAverage(momentum=1.0)
