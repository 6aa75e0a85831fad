"""A warm-up that does not end in its training is said, whichever callback has it."""

from __future__ import annotations

from typing import Any

import pytest

from hatdet.engine.callbacks.base import Callback
from hatdet.engine.callbacks.schedules.cos_lr import CosLrUpdater
from hatdet.engine.callbacks.schedules.lr_policies.callback import LrPolicy
from hatdet.engine.callbacks.schedules.param_schedulers.callback import ParamSchedulers
from tests.unit.engine import toy


def schedulers(*each: dict[str, Any]) -> ParamSchedulers:
    return ParamSchedulers(schedulers=list(each))


def said(caplog: pytest.LogCaptureFixture, callback: Callback) -> list[str]:
    caplog.clear()
    toy.trainer(callbacks=[callback], num_steps=10).fit()
    return [line for line in caplog.messages if "warm-up" in line]


def test_each_kind_of_schedule(caplog: pytest.LogCaptureFixture) -> None:
    linear = {"warmup": "linear", "warmup_ratio": 0.1}
    long = "the warm-up of 20 steps is longer than the training of 10: the learning rate never gets "
    (text,) = said(caplog, CosLrUpdater(warmup_len=20))
    assert text.startswith(long + "above ")
    (text,) = said(caplog, LrPolicy(lr_config=dict(policy="fixed", warmup_iters=20, **linear)))
    assert text.startswith(long + "above 0.505 of what is set; shorten the warm-up")  # 0.1 + 0.9 * 9 / 20
    for kind in ("LinearLR", "ConstantLR", "QuadraticWarmupLR"):
        (text,) = said(caplog, schedulers({"type": kind, "by_epoch": False, "begin": 0, "end": 20}))
        assert text.startswith(long + "to what is set; shorten the warm-up")
    (text,) = said(caplog, schedulers({"type": "LinearLR", "begin": 0, "end": 4}))  # epochs of 5 steps
    assert text.startswith(long)


def test_what_ends_in_time_or_is_no_warmup(caplog: pytest.LogCaptureFixture) -> None:
    assert not said(caplog, CosLrUpdater(warmup_len=10))
    assert not said(caplog, LrPolicy(lr_config={"policy": "fixed", "warmup": "linear", "warmup_iters": 10}))
    assert not said(caplog, schedulers({"type": "LinearLR", "by_epoch": False, "begin": 0, "end": 10}))
    assert not said(
        caplog, schedulers({"type": "LinearLR", "by_epoch": False, "end": 20, "start_factor": 1.0, "end_factor": 0.1})
    )
    assert not said(caplog, schedulers({"type": "MultiStepLR", "by_epoch": False, "end": 20, "milestones": [5]}))
    assert not said(caplog, schedulers({"type": "LinearMomentum", "by_epoch": False, "begin": 0, "end": 20,
                                        "start_factor": 0.5}))  # fmt: skip
