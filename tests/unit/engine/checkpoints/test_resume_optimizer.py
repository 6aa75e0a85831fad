"""``--resume`` with other settings of the optimizer, another optimizer, and files that no training goes on from."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch

from hatdet.utils.checkpoints.checkpoint import save_checkpoint
from hatdet.utils.errors import UserError
from hatdet.utils.finite import NotFinite
from tests.unit.engine import toy
from tests.unit.engine.checkpoints.test_resume import last, run


@pytest.fixture(autouse=True)
def _logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="hatdet")


def test_a_new_learning_rate_and_weight_decay_take_effect(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run(tmp_path, epochs=1).fit()
    moments = last(tmp_path)["optimizer"]["state"][0]["exp_avg"]
    again = run(tmp_path, epochs=2, callbacks=[], optimizer=toy.factory(lr=0.002, weight_decay=0.5))
    again.setup(True)
    group = again.optimizer.param_groups[0]
    assert (group["lr"], group["initial_lr"], group["weight_decay"]) == (0.002, 0.002, 0.5)
    assert torch.equal(again.optimizer.state_dict()["state"][0]["exp_avg"], moments)
    assert "from here on lr 0.01 -> 0.002, weight_decay 0.05 -> 0.5" in caplog.text
    caplog.clear()
    run(tmp_path, epochs=2).setup(True)
    assert "from here on" not in caplog.text


def test_the_rate_follows_the_batch_size_where_it_is_scaled(tmp_path: Path) -> None:
    run(tmp_path, epochs=1, base_batch_size=4).fit()
    again = run(tmp_path, batch=8, epochs=2, base_batch_size=4)
    again.setup(True)
    assert again.optimizer.param_groups[0]["initial_lr"] == 0.02


def test_groups_that_become_one(tmp_path: Path) -> None:
    """Norms without decay are a group; with a weight decay of 0 there is only one: moments find their tensor."""
    paramwise = {"norm_decay": 0.0}
    first = run(tmp_path, epochs=1, optimizer=toy.factory(paramwise=paramwise))
    first.fit()
    expected = {id(p): first.optimizer.state[p]["exp_avg_sq"] for p in first.model.parameters()}
    again = run(tmp_path, epochs=2, optimizer=toy.factory(paramwise=paramwise, weight_decay=0.0))
    again.setup(True)
    assert (len(first.optimizer.param_groups), len(again.optimizer.param_groups)) == (2, 1)
    for before, now in zip(first.model.parameters(), again.model.parameters(), strict=True):
        assert torch.equal(again.optimizer.state[now]["exp_avg_sq"], expected[id(before)])
    again.fit()


@pytest.mark.parametrize("other", [torch.optim.SGD, torch.optim.RMSprop, torch.optim.NAdam])
def test_another_optimizer_is_refused(tmp_path: Path, other: type) -> None:
    """NAdam has all of AdamW's settings, but moments besides."""
    run(tmp_path, epochs=1).fit()
    text = f"its optimizer is AdamW, the config's is {other.__name__}: set the optimizer back, or train anew"
    with pytest.raises(UserError, match=text):
        run(tmp_path, optimizer=toy.factory(type=other)).setup(True)


def test_another_optimizer_with_the_same_moments_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run(tmp_path, epochs=1).fit()
    run(tmp_path, epochs=2, optimizer=toy.factory(type=torch.optim.Adam)).fit(True)
    assert "from here on optimizer AdamW -> Adam" in caplog.text


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("optimizer", "no training's state (no 'optimizer'); name a checkpoint that a training wrote"),
        ("metrics", "no training's state (no 'metrics'); name a checkpoint that a training wrote"),
        ("progress", "weights only (no 'progress'); name a checkpoint that a training wrote"),
    ],
)
def test_what_no_training_wrote_is_not_resumed(tmp_path: Path, key: str, text: str) -> None:
    run(tmp_path, epochs=1).fit()
    state = last(tmp_path)
    del state[key]
    save_checkpoint(tmp_path / "float-checkpoint-last.pth.tar", state)
    with pytest.raises(UserError) as raised:
        run(tmp_path, epochs=2).setup(True)
    assert str(raised.value) == f"{tmp_path / 'float-checkpoint-last.pth.tar'} has {text}"


@pytest.mark.parametrize(
    ("part", "value", "named"),
    [
        ("optimizer", float("nan"), r"the optimizer's moments in .*last.* are not finite: .*weight\.[a-z_]+: "),
        ("optimizer", float("inf"), "values are infinite"),
        ("state_dict", float("nan"), "the weights in .*last.* are not finite"),
    ],
)
def test_what_is_not_finite_is_named_before_it_goes_on(tmp_path: Path, part: str, value: float, named: str) -> None:
    run(tmp_path, epochs=1).fit()
    state = last(tmp_path)
    moments = next(iter(state["optimizer"]["state"].values()))
    tensors = state["state_dict"] if part == "state_dict" else moments
    next(v for v in tensors.values() if v.is_floating_point() and v.ndim).fill_(value)
    save_checkpoint(tmp_path / "float-checkpoint-last.pth.tar", state)
    with pytest.raises(NotFinite, match=named + ".*; put an earlier checkpoint in its place"):
        resumed = run(tmp_path, epochs=2)
        resumed.resume(tmp_path / "float-checkpoint-last.pth.tar")
