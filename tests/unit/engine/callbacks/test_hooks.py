"""Callbacks with the names and options of MMEngine's hooks."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from hatdet.engine.callbacks.checkpoint import Checkpoint
from hatdet.engine.callbacks.grad import GradClipValue
from hatdet.engine.callbacks.hooks import sync_norm
from hatdet.engine.callbacks.hooks.early_stopping import EarlyStoppingHook
from hatdet.engine.callbacks.hooks.ema import EMAHook, ExpMomentumEMAHook, LinearMomentumEMAHook
from hatdet.engine.callbacks.hooks.epochs import SetEpochInfo, YOLOXModeSwitch
from hatdet.engine.callbacks.validation import Validation
from hatdet.utils.checkpoints.checkpoint import load_checkpoint
from hatdet.utils.errors import UserError
from tests.helpers import components
from tests.unit.engine import toy


class Numbers(nn.Module):
    """A parameter, a buffer of twice its value, an integer buffer."""

    b: torch.Tensor
    n: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.zeros((), dtype=torch.float64))
        self.register_buffer("b", torch.zeros((), dtype=torch.float64))
        self.register_buffer("n", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def put(self, value: float, count: int) -> None:
        self.w.fill_(value)
        self.b.fill_(2 * value)
        self.n.fill_(count)


@pytest.mark.parametrize("name", components.names("ema"))
def test_averages_are_the_references(name: str) -> None:
    case, model = components.case("ema", name), Numbers()
    ema = EMAHook(ema_type=case["type"], **case["args"])
    found: dict[str, list[float]] = {"w": [], "b": [], "n": []}
    for t in range(40):
        model.put(math.sin(t) + 0.1 * t, t)
        ema.update(model)
        with ema._swapped():
            for key, values in found.items():
                values.append(model.state_dict()[key].item())
        assert model.n.item() == t
    for key, values in found.items():
        assert values == pytest.approx(case["outputs"][key].tolist(), rel=1e-9, abs=1e-15), key


def test_the_mean_of_all_weights() -> None:
    ema, model = EMAHook(ema_type="StochasticWeightAverage", interval=2), Numbers()
    for t in range(5):
        model.put(float(t), t)
        ema.update(model)
    assert float(ema.averages()["w"]) == pytest.approx((0 + 2 + 4) / 3)


def test_an_average_that_begins_late() -> None:
    ema, model = EMAHook(momentum=0.5, begin_epoch=2), Numbers()
    for step in range(4):  # two steps an epoch
        model.put(float(step), step)
        ema.on_batch_end(_at(step, model))
        assert ema.updates == max(step - 1, 0)
    assert float(ema.averages()["w"]) == 2.5
    late = EMAHook(momentum=0.5, begin_iter=3)
    for step in range(3):
        late.on_batch_end(_at(step, model))
    assert late.updates == 1
    with pytest.raises(UserError, match="the average begins with epoch 3 or iteration 0, after the end of 2 epochs"):
        EMAHook(begin_epoch=3).on_loop_begin(_at(0, model))


def _at(step: int, model: nn.Module) -> Any:
    progress = SimpleNamespace(step=step, epoch=step // 2)
    return SimpleNamespace(progress=progress, model=model, num_epochs=2, total_steps=4)


@pytest.mark.parametrize(("ema", "rates"), [
    (ExpMomentumEMAHook(momentum=0.25, total_iter=10), [0.25 + 0.75 * math.exp(-i / 10) for i in (1, 2)]),
    (LinearMomentumEMAHook(momentum=0.3, warm_up=4), [0.25, 0.3]),
])  # fmt: skip
def test_averages_of_2x_begin_with_the_first_weights(ema: Any, rates: list[float]) -> None:
    model, average = Numbers(), 8.0
    model.put(8.0, 0)
    ema.on_loop_begin(_at(0, model))
    for step, (value, rate) in enumerate(zip((0.0, 4.0), rates, strict=True)):
        model.put(value, step)
        ema.on_batch_end(_at(step, model))
        average += rate * (value - average)
    assert float(ema.averages()["w"]) == pytest.approx(average)


def test_an_average_goes_on_after_a_resume(tmp_path: Any) -> None:
    def run(**settings: Any) -> Any:
        parts = [Checkpoint(save_dir=str(tmp_path)), EMAHook(ema_type="ExpMomentumEMA", update_buffers=True)]
        trainer = toy.trainer(callbacks=parts, **settings)
        trainer.fit(resume=True)
        return load_checkpoint(tmp_path / "float-checkpoint-last.pth.tar")["state_dict"]

    run(num_epochs=1)
    resumed = run(num_epochs=2)
    (tmp_path / "float-checkpoint-last.pth.tar").unlink()
    whole = run(num_epochs=2)
    assert all(torch.equal(resumed[key], value) for key, value in whole.items())


def test_averages_that_cannot_be() -> None:
    with pytest.raises(UserError, match="ema_type is 'EMA'; use one of ExponentialMovingAverage"):
        EMAHook(ema_type="EMA")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="one of them is 0; got 2 and 3"):
        EMAHook(begin_iter=2, begin_epoch=3)
    with pytest.raises(UserError, match="interval is a number of iterations"):
        EMAHook(interval=0)
    with pytest.raises(UserError, match="leave resume_from out"):
        ExpMomentumEMAHook(resume_from="a.pth")


def stopped_at(values: list[float], **options: Any) -> tuple[int, str]:
    """After how many validations training was stopped, and why."""
    hook = EarlyStoppingHook(**{"monitor": "AP", "min_delta": 0.0, **options})
    reasons: list[str] = []
    loop: Any = SimpleNamespace(validated_at=-1, values={}, stop=reasons.append)
    for number, value in enumerate(values, 1):
        loop.validated_at, loop.values = number, {"AP": value}
        hook.on_epoch_end(loop)
        hook.on_step_end(loop)  # the same validation
        if reasons:
            return number, reasons[0]
    return 0, ""


def test_when_training_stops() -> None:
    assert stopped_at([0.1, 0.3, 0.2, 0.25, 0.1], patience=2) == (
        4,
        "no improvement on AP 0.3000 in the last 2 validations",
    )
    assert stopped_at([0.1, 0.3, 0.35, 0.5], patience=1, min_delta=0.1)[0] == 3
    assert stopped_at([0.3, 0.1, 0.2], rule="less", patience=1)[0] == 3
    assert stopped_at([0.1, 0.6], stopping_threshold=0.5) == (2, "AP 0.6000 is better than 0.5")
    assert stopped_at([0.1, math.nan])[0] == 2
    assert stopped_at([0.1, math.nan, 0.2], check_finite=False, patience=1)[0] == 0
    assert stopped_at([0.1, 0.1], monitor="AR")[0] == 0
    with pytest.raises(UserError, match="monitor='AR' is not among what the validation gives: AP"):
        stopped_at([0.1], monitor="AR", strict=True)


def test_which_metrics_are_better_the_greater() -> None:
    signs = {name: EarlyStoppingHook(monitor=name).sign for name in ("AP", "coco/bbox_mAP", "loss_bbox", "top1_acc")}
    assert signs == {"AP": 1, "coco/bbox_mAP": 1, "loss_bbox": -1, "top1_acc": 1}
    with pytest.raises(UserError, match="whether more 'x' is better; give rule"):
        EarlyStoppingHook(monitor="x")


def test_a_training_that_stops() -> None:
    run = toy.trainer(
        callbacks=[
            Validation(data_loader=toy.loader(8), val_metrics=toy.ToyMetric()),
            EarlyStoppingHook(monitor="AP", min_delta=9.0, patience=1),
        ],
        num_epochs=5,
    )
    run.fit()
    assert run.progress.epoch == 2


class Head(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.epoch, self.use_l1 = 0, False


def test_a_head_knows_the_epoch_and_its_last_ones() -> None:
    model = toy.model()
    model.head = head = Head()
    seen = []

    class Look(SetEpochInfo):
        def on_step_end(self, loop: Any) -> None:
            seen.append((head.epoch, head.use_l1, loop.data_loader.sampler.pipeline))

    toy.trainer(model=model, callbacks=[SetEpochInfo(), YOLOXModeSwitch(num_last_epochs=1), Look()], num_epochs=4).fit()
    assert seen[::5] == [(0, False, 0), (1, False, 0), (2, True, 1), (3, True, 1)]


def test_running_statistics_of_all_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    norm = nn.BatchNorm2d(2)
    nn.init.constant_(norm.running_mean, 4.0)  # type: ignore[arg-type]
    loop: Any = SimpleNamespace(model=nn.Sequential(norm))
    sync_norm.SyncNorm().on_epoch_end(loop)
    assert norm.running_mean is not None and norm.running_mean.tolist() == [4.0, 4.0]
    monkeypatch.setattr(sync_norm.distributed, "get_world_size", lambda: 2)
    monkeypatch.setattr(sync_norm.distributed, "reduce_mean", lambda value: value / 2)  # the other has 0
    sync_norm.SyncNorm().on_epoch_end(loop)
    assert norm.running_mean.tolist() == [2.0, 2.0] and norm.weight.tolist() == [1.0, 1.0]


def test_each_gradient_is_cut() -> None:
    layer = nn.Linear(2, 1, bias=False)
    layer.weight.grad = torch.tensor([[3.0, -0.25]])
    GradClipValue(clip_value=0.5).on_optimizer_step_begin(SimpleNamespace(model=layer))  # type: ignore[arg-type]
    assert layer.weight.grad.tolist() == [[0.5, -0.25]]
    with pytest.raises(UserError, match="clip_value is 0; it must be above 0"):
        GradClipValue(clip_value=0)
