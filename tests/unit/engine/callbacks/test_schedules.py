from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from hatdet.engine.callbacks.schedules.cos_lr import CosLrUpdater
from hatdet.engine.callbacks.schedules.one_cycle_lr import OneCycleUpdater
from hatdet.engine.callbacks.schedules.poly_lr import PolyLrUpdater
from hatdet.engine.callbacks.schedules.schedule import LrUpdater
from hatdet.engine.callbacks.schedules.step_decay_lr import StepDecayLrUpdater
from hatdet.utils.errors import UserError
from tests.unit.engine import toy


def factors(updater: LrUpdater, total: int, per_epoch: int = 1) -> list[float]:
    loop: Any = SimpleNamespace(total_steps=total, steps_per_epoch=per_epoch)
    updater.prepare(loop)
    return [updater.factor(step) for step in range(total)]


def test_warmup_flat_cosine_by_hand() -> None:
    """10 steps: warm-up over 3 (full rate in step 2), flat to step 4, cosine over 5 from step 5."""
    found = factors(CosLrUpdater(warmup_len=3, warmup_start_factor=0.1, flat_ratio=0.5, min_lr_ratio=0.2), 10)
    cosine = [0.2 + 0.8 * (1 + math.cos(math.pi * t / 5)) / 2 for t in range(5)]
    assert found == pytest.approx([0.1, 0.55, 1, 1, 1, *cosine], abs=1e-15)


def test_chained_overlap_by_hand() -> None:
    """Warm-up over 3 and cosine from step 0 of 4, no floor: ratios multiply, here the plain product."""
    found = factors(CosLrUpdater(warmup_len=3, warmup_start_factor=0.5), 4)
    wave = [(1 + math.cos(math.pi * i / 4)) / 2 for i in range(4)]
    assert found == pytest.approx([0.5 * wave[0], 0.75 * wave[1], wave[2], wave[3]], abs=1e-15)


@pytest.mark.parametrize("kind", [CosLrUpdater, PolyLrUpdater, StepDecayLrUpdater])
def test_warmups_that_cannot_be(kind: Any) -> None:
    parts = {"lr_decay_id": [3]} if kind is StepDecayLrUpdater else {}
    with pytest.raises(UserError, match="warmup_len is -1; it must be at least 0"):
        kind(warmup_len=-1, **parts)
    with pytest.raises(UserError, match="warmup_start_factor is 2; it must be between 0 and 1"):
        kind(warmup_len=3, warmup_start_factor=2, **parts)
    with pytest.raises(UserError, match="warmup_start_factor is 0; it must be above 0"):
        CosLrUpdater(warmup_len=3, warmup_start_factor=0)


@pytest.mark.parametrize("warmup", [200, 1000])
def test_golden_rtmdet_schedule(shared_dir: Path, warmup: int) -> None:
    golden = json.loads((shared_dir / "golden" / "schedule_ema.json").read_text())[f"lr_rtmdet_20x50_warm{warmup}"]
    updater = CosLrUpdater(warmup_len=warmup, flat_ratio=0.5, min_lr_ratio=0.05)
    updater.configure(total_steps=1000, warmup_steps=warmup)
    found = [0.004 * updater.factor(step) for step in range(1001)]
    assert max(abs(a - b) for a, b in zip(found, golden, strict=True)) < 1e-16
    if warmup == 1000:
        assert max(range(1001), key=found.__getitem__) == 592 and max(found) == pytest.approx(0.002195, abs=1e-6)


def test_a_resumed_chain_is_the_same_table() -> None:
    updater, late = (CosLrUpdater(warmup_len=50, flat_ratio=0.5, min_lr_ratio=0.05) for _ in range(2))
    whole = factors(updater, 60)
    late.configure(total_steps=60, warmup_steps=50)
    assert late.factor(47) == whole[47]


def test_step_decay_by_hand() -> None:
    """4 steps an epoch; half an epoch of warm-up from 0; a tenth from epoch 2, a hundredth from epoch 3 on."""
    found = factors(StepDecayLrUpdater(warmup_len=0.5, lr_decay_id=[2, 3]), 16, 4)
    assert found == pytest.approx([0, 0.5] + [1] * 6 + [0.1] * 4 + [0.01] * 4)


def test_poly_by_hand() -> None:
    found = factors(PolyLrUpdater(power=2, warmup_len=2, warmup_by="step", min_lr_ratio=0.1), 6)
    assert found == pytest.approx([0, 0.5, 1, 0.1 + 0.9 * 0.75**2, 0.1 + 0.9 * 0.5**2, 0.1 + 0.9 * 0.25**2])


def test_one_cycle_is_torchs() -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    reference = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1.0, total_steps=40, cycle_momentum=False)
    expected = []
    for _ in range(40):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        reference.step()
    assert factors(OneCycleUpdater(), 40) == pytest.approx(expected, abs=1e-12)


def test_each_group_keeps_its_own_rate() -> None:
    run = toy.trainer(
        optimizer=toy.factory(params={"bn": {"lr": 0.002}}),
        callbacks=[StepDecayLrUpdater(lr_decay_id=[1], lr_decay_factor=0.5)],
    )
    run.fit()
    assert sorted(group["lr"] for group in run.optimizer.param_groups) == pytest.approx([0.001, 0.005])


def test_mistakes() -> None:
    with pytest.raises(UserError, match="use one of step, epoch, fraction"):
        CosLrUpdater(warmup_by="iter")
    with pytest.raises(UserError, match="there are 2: CosLrUpdater, PolyLrUpdater"):
        toy.trainer(callbacks=[CosLrUpdater(), PolyLrUpdater()]).fit()
