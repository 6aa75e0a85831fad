from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch

from hatdet.engine.batch_processors import BasicBatchProcessor
from hatdet.engine.calibrator import Calibrator
from hatdet.engine.callbacks.base import Callback
from hatdet.engine.callbacks.checkpoint import Checkpoint
from hatdet.engine.callbacks.stats_monitor import StatsMonitor
from hatdet.engine.callbacks.validation import Validation
from hatdet.engine.predictor import Predictor
from hatdet.engine.processes import bfloat16
from hatdet.engine.processes.device import batch_size_of, parse_ids, to_device
from hatdet.utils.checkpoints.checkpoint import load_checkpoint, save_checkpoint
from hatdet.utils.errors import UserError
from tests.unit.engine import toy


class Observed(toy.ToyModel):
    def __init__(self) -> None:
        super().__init__()
        self.log: list[str] = []

    def set_observing(self, on: bool) -> None:
        self.log.append(f"observing {on}")

    def set_quantizing(self, on: bool) -> None:
        self.log.append(f"quantizing {on}")

    def forward(self, batch: Any) -> Any:
        self.log.append("train" if self.training else "eval")
        return super().forward(batch)


def test_calibrator_switches_before_its_callbacks_run(tmp_path: Path) -> None:
    model = Observed()

    class End(Callback):
        def on_epoch_end(self, loop: Any) -> None:
            loop.model.log.append("epoch end")

    run = Calibrator(
        model=model,
        data_loader=toy.loader(8, 4),
        num_steps=3,  # more than the loader has: it starts again
        callbacks=[StatsMonitor(), End(), Validation(), Checkpoint(save_dir=tmp_path, name_prefix="calibration")],
        val_data_loader=toy.loader(4, 4),
        val_metrics=toy.ToyMetric(),
        device="cpu",
    )
    weights = model.conv.weight.clone()
    values = run.fit()
    assert model.log == [
        *("observing True", "quantizing False", "eval", "eval", "eval"),
        *("observing False", "quantizing True", "epoch end", "eval"),
    ]
    assert torch.equal(model.conv.weight, weights) and values["images"] == 4
    state = load_checkpoint(tmp_path / "calibration-checkpoint-best.pth.tar")
    assert state["metrics"] == values and "optimizer" not in state


def test_a_model_adjusts_its_weights_to_the_same_batches_before_it_is_scored() -> None:
    class Refined(Observed):
        def forward(self, batch: Any) -> Any:
            self.log.append(f"{batch['img_id'].tolist()}")
            return super().forward(batch)

        def refine(self, batches: Any) -> None:
            self.log += ["refine", *(f"{batch['img_id'].tolist()}" for batch in batches())]

    model = Refined()
    Calibrator(
        model=model, data_loader=toy.loader(8, 4), num_steps=3, callbacks=[Validation()],
        val_data_loader=toy.loader(4, 4), val_metrics=toy.ToyMetric(), device="cpu",
    ).fit()  # fmt: skip
    at = model.log.index("refine")
    seen = [line for line in model.log[:at] if line.startswith("[")]
    assert model.log[at - 1] == "quantizing True" and len(seen) == 3
    assert model.log[at + 1 : at + 4] == seen and len(model.log) == at + 6  # then one batch is validated


def test_a_model_that_has_to_choose_does_so_by_calibrated_ranges() -> None:
    class Undecided(Observed):
        undecided = True

        def decide(self, batches: Iterable[torch.Tensor]) -> None:
            self.log.append(f"decide by {[len(batch) for batch in batches]}")
            self.undecided = False

    model = Undecided()
    Calibrator(model=model, data_loader=toy.loader(8, 4), num_steps=1, device="cpu").fit()
    assert model.log == [
        *("observing True", "quantizing False", "eval", "observing False", "quantizing True", "decide by [4]"),
    ]


def test_calibrator_needs_a_model_with_observers() -> None:
    with pytest.raises(UserError, match="a ToyModel cannot be calibrated: put Float2Calibration"):
        Calibrator(model=toy.model(), data_loader=toy.loader()).fit()


def test_predictor_loads_after_the_conversion(tmp_path: Path) -> None:
    trained = toy.model(seed=5)
    save_checkpoint(tmp_path / "best", {"state_dict": {f"0.{k}": v for k, v in trained.state_dict().items()}})
    predictor = Predictor(
        model=toy.model(),
        data_loader=toy.loader(7, 4),
        val_metrics=toy.ToyMetric(),
        model_convert_pipeline=lambda model: torch.nn.Sequential(model),
        checkpoint_path=tmp_path / "best",
        device="cpu",
    )
    values = predictor.predict()
    assert values["images"] == 7
    assert torch.equal(predictor.model[0].fc.weight, trained.fc.weight)


def test_moving_batches() -> None:
    batch = {"img": torch.zeros(3, 1), "names": ["a"], "pair": (torch.zeros(1), 2)}
    moved = to_device(batch, torch.device("meta"))
    assert moved["img"].device.type == "meta" and moved["pair"][0].device.type == "meta" and moved["names"] == ["a"]
    assert to_device(batch, torch.device("cpu"))["img"] is batch["img"]
    assert batch_size_of(batch) == 3 and batch_size_of({"x": "text"}) == 0


def test_ids() -> None:
    assert parse_ids("0, 1") == [0, 1] and parse_ids(None) == []
    with pytest.raises(UserError, match="got 'gpu'"):
        parse_ids("gpu")


def test_batch_processor_arguments() -> None:
    with pytest.raises(UserError, match="use one of float16, bfloat16"):
        BasicBatchProcessor(enable_amp_dtype="half")
    with pytest.raises(UserError, match="'yes'; use True, False or 'auto'"):
        BasicBatchProcessor(enable_amp="yes")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="at least 1"):
        BasicBatchProcessor(grad_accumulation_step=0)


def test_batch_transforms_run_in_order() -> None:
    processor = BasicBatchProcessor(batch_transforms=[lambda b: {**b, "x": 1}, lambda b: {**b, "x": b["x"] + 1}])
    assert processor.prepare_batch({}, torch.device("cpu")) == {"x": 2}


@pytest.mark.parametrize("ratio", [0.6, 0.95, None])
def test_automatic_precision_is_what_was_measured(
    ratio: float | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Measured once: the next process reads what this one found. None: no instructions for it, nothing is measured."""
    found: list[float] = []

    def measured() -> float:
        found.append(ratio or 0.0)
        return found[-1]

    monkeypatch.setenv("HATDET_CACHE", str(tmp_path))
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": ratio is not None}, raising=False)
    monkeypatch.setattr(bfloat16, "measured_ratio", measured)
    processor, cpu = BasicBatchProcessor(enable_amp="auto"), torch.device("cpu")
    for _ in range(2):
        bfloat16.faster_in_bfloat16.cache_clear()
        assert processor.mixed(cpu) == (ratio == 0.6)
    bfloat16.faster_in_bfloat16.cache_clear()
    assert len(found) == (0 if ratio is None else 1)
    assert processor.mixed(torch.device("cuda"))


def test_a_damaged_record_is_measured_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HATDET_CACHE", str(tmp_path))
    monkeypatch.setattr(bfloat16, "has_instructions", lambda: True)
    monkeypatch.setattr(bfloat16, "measured_ratio", lambda: 0.5)
    for text in ("", "[]", '{"bfloat16 to float32": "fast"}', '{"bfloat16 to float32": 0}'):
        record = bfloat16._record()
        record.parent.mkdir(exist_ok=True)
        record.write_text(text)
        bfloat16.faster_in_bfloat16.cache_clear()
        assert bfloat16.faster_in_bfloat16()
        assert '"bfloat16 to float32": 0.5' in record.read_text()
    bfloat16.faster_in_bfloat16.cache_clear()


def test_a_cache_that_cannot_be_written_is_no_fault(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("HATDET_CACHE", str(tmp_path / "file"))
    monkeypatch.setattr(bfloat16, "has_instructions", lambda: True)
    monkeypatch.setattr(bfloat16, "measured_ratio", lambda: 2.0)
    bfloat16.faster_in_bfloat16.cache_clear()
    assert not bfloat16.faster_in_bfloat16()
    bfloat16.faster_in_bfloat16.cache_clear()


def test_both_precisions_are_timed() -> None:
    assert 0.0 < bfloat16.measured_ratio() < 1000.0
    assert 0.0 < bfloat16.measured_depthwise() < 1000.0


@pytest.mark.parametrize("ratio", [0.5, 0.97, None])
def test_depthwise_convolutions_are_in_what_was_measured(
    ratio: float | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As the precision itself: measured once, kept, and nothing where there are no instructions for bfloat16."""
    found: list[float] = []

    def measured() -> float:
        found.append(ratio or 0.0)
        return found[-1]

    monkeypatch.setenv("HATDET_CACHE", str(tmp_path))
    monkeypatch.setattr(bfloat16, "has_instructions", lambda: ratio is not None)
    monkeypatch.setattr(bfloat16, "measured_depthwise", measured)
    processor = BasicBatchProcessor(enable_amp=True)
    for _ in range(2):
        bfloat16.depthwise_in_float32.cache_clear()
        with processor.autocast(torch.device("cpu")):
            dense, depthwise = torch.nn.Conv2d(4, 4, 3), torch.nn.Conv2d(4, 4, 3, groups=4)
            dtypes = [conv(torch.zeros(1, 4, 5, 5)).dtype for conv in (dense, depthwise)]
        assert dtypes == [torch.bfloat16, torch.float32 if ratio == 0.5 else torch.bfloat16]
    bfloat16.depthwise_in_float32.cache_clear()
    assert len(found) == (0 if ratio is None else 1)


def test_automatic_precision_with_a_torch_that_does_not_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    bfloat16.faster_in_bfloat16.cache_clear()
    assert not BasicBatchProcessor(enable_amp="auto").mixed(torch.device("cpu"))
    bfloat16.faster_in_bfloat16.cache_clear()


def test_evaluation_is_in_float32_and_at_the_loaders_size() -> None:
    """Whatever a training step runs in; a transform that changes with the step is for training alone."""

    class Enlarge:
        def begin_step(self, loop: object) -> None: ...

        def __call__(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
            return {"img": batch["img"].repeat(1, 1, 2, 2)}

    processor = BasicBatchProcessor(enable_amp=True, batch_transforms=[Enlarge(), lambda b: {"img": b["img"] + 1}])
    conv, device = torch.nn.Conv2d(3, 4, 1), torch.device("cpu")
    batch = {"img": torch.randn(1, 3, 5, 7, generator=torch.Generator().manual_seed(0))}
    out = processor.predict(lambda b: conv(b["img"]), batch, device)
    assert out.dtype == torch.float32 and torch.equal(out, conv(batch["img"] + 1))
    with processor.autocast(device):
        assert conv(processor.prepare_batch(batch, device)["img"]).shape == (1, 4, 10, 14)
        assert processor.predict(lambda b: conv(b["img"]), batch, device).dtype == torch.float32
