"""A detector-like model, data and metric that need nothing but torch; `python toy.py DIR ...` trains them."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Sampler

from hatdet.building import Builder, Factory
from hatdet.utils.distributed import get_rank, get_world_size


class ToyData(Dataset[dict[str, Tensor]]):
    """Noise images (3, 8, 8) whose label is the sign of their mean; item = function of the sampler's reference."""

    classes = ("dark", "light")
    category_ids = (3, 7)

    def __init__(self, count: int = 20) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, ref: int | tuple[int, int, int]) -> dict[str, Tensor]:
        index, seed, pipeline = ref if isinstance(ref, tuple) else (ref, 0, 0)
        image = torch.randn(3, 8, 8, generator=torch.Generator().manual_seed(index))
        label = (image.mean() > 0).float()
        noise = torch.randn(3, 8, 8, generator=torch.Generator().manual_seed(seed))  # "augmentation"
        return {"img": image + 0.3 * noise * (1 - pipeline), "gt": label, "img_id": torch.tensor(index)}


class ToySampler(Sampler[Any]):
    """Shuffles by (seed, epoch); starts anywhere; deals the order out to the processes in turn."""

    def __init__(self, dataset: ToyData, seed: int = 0) -> None:
        self.dataset, self.seed, self.epoch, self.start, self.pipeline = dataset, seed, 0, 0, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return len(range(get_rank(), len(self.dataset), get_world_size()))

    def __iter__(self) -> Iterator[tuple[int, int, int]]:
        generator = torch.Generator().manual_seed(1000 * self.seed + self.epoch)
        order = torch.randperm(len(self.dataset), generator=generator).tolist()
        for position in range(self.start * get_world_size() + get_rank(), len(order), get_world_size()):
            yield order[position], 100 * self.epoch + position, self.pipeline


class ToyModel(nn.Module):
    """Convolution, batch normalization, dropout (it draws random numbers in the main process), linear."""

    def __init__(self, num_classes: int = 2, dropout: float = 0.2) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.conv = nn.Conv2d(3, 4, 3, bias=False)
        self.bn = nn.BatchNorm2d(4)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(4 * 36, 1)

    def forward(self, batch: dict[str, Tensor]) -> Any:
        x = self.dropout(self.bn(self.conv(batch["img"])).relu())
        score = self.fc(x.flatten(1))[:, 0]
        if not self.training:
            return [{"score": s} for s in score]
        loss = nn.functional.binary_cross_entropy_with_logits(score, batch["gt"])
        return {
            "loss_cls": loss,
            "loss_reg": 0.1 * score.square().mean(),
            "accuracy": ((score > 0) == batch["gt"]).float().mean(),
        }


class ToyTeacher:
    """Wants the student's convolution, through an adapter of its own, to give its numbers."""

    def __init__(self, checkpoint: str) -> None:
        self.checkpoint = str(checkpoint)
        self.detector: nn.Module = nn.Conv2d(3, 6, 3)
        self.adapters = nn.ModuleList()
        self.student: Any = None
        self.calls: list[str] = []

    @property
    def trained(self) -> nn.Module:
        return self.adapters

    def pair(self, student: nn.Module) -> None:
        self.calls.append("pair")
        self.adapters = nn.ModuleList([nn.Conv2d(4, 6, 1, bias=False)])

    def listen(self, student: nn.Module) -> None:
        self.calls.append("listen")
        self.student = student

    def losses(self, img: Tensor) -> dict[str, Tensor]:
        with torch.no_grad():
            aim = self.detector(img)
        self.calls.append(str(aim.dtype).removeprefix("torch."))
        return {"loss_kd_feat": (self.adapters[0](self.student.conv(img)) - aim).square().mean()}

    def close(self) -> None:
        self.calls.append("close")


class ToyMetric:
    """Share of right answers, counted once an image."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.right: dict[int, float] = {}

    def update(self, predictions: list[dict[str, Tensor]], batch: dict[str, Tensor]) -> None:
        for prediction, truth, image in zip(predictions, batch["gt"], batch["img_id"], strict=True):
            self.right[int(image)] = float((prediction["score"] > 0) == (truth > 0))

    def compute(self) -> dict[str, float]:
        return {"AP": sum(self.right.values()) / max(1, len(self.right)), "images": float(len(self.right))}

    def format(self, values: dict[str, float]) -> str:
        return f"AP {values['AP']:.3f} on {values['images']:.0f} images"

    def state(self) -> dict[int, float]:
        return dict(self.right)

    def merge(self, states: list[dict[int, float]]) -> None:
        self.right = {image: value for state in states for image, value in state.items()}


def loader(count: int = 20, batch_size: int = 4, workers: int = 0, seed: int = 0) -> DataLoader[Any]:
    data = ToyData(count)
    return DataLoader(
        data, batch_size, sampler=ToySampler(data, seed), num_workers=workers, persistent_workers=workers > 0
    )


def factory(**settings: Any) -> Factory:
    cfg = {"type": torch.optim.AdamW, "lr": 0.01, "weight_decay": 0.05} | settings
    return Factory(Builder(), cfg, "optimizer")


def model(seed: int = 0, **settings: Any) -> ToyModel:
    torch.manual_seed(seed)
    return ToyModel(**settings)


def trainer(kind: Any = None, **settings: Any) -> Any:
    from hatdet.engine.trainer import Trainer

    parts: dict[str, Any] = {"model": model(), "data_loader": loader(), "optimizer": factory(), "device": "cpu"}
    if "num_steps" not in settings:
        parts["num_epochs"] = 2
    return (kind or Trainer)(**parts | settings)


def main() -> None:
    """Train with everything that has state, so that a test can kill and resume it."""
    from hatdet.engine.batch_processors import BasicBatchProcessor
    from hatdet.engine.callbacks.checkpoint import Checkpoint
    from hatdet.engine.callbacks.ema import ExponentialMovingAverage
    from hatdet.engine.callbacks.nan_guard import NanGuard
    from hatdet.engine.callbacks.pipeline_switch import PipelineSwitch
    from hatdet.engine.callbacks.schedules.cos_lr import CosLrUpdater
    from hatdet.engine.callbacks.validation import Validation

    parser = argparse.ArgumentParser()
    parser.add_argument("directory")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--accumulate", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(1)
    run = trainer(
        data_loader=loader(30, 4, args.workers),
        val_data_loader=loader(10, 4),
        val_metrics=ToyMetric(),
        num_epochs=args.epochs,
        batch_processor=BasicBatchProcessor(grad_accumulation_step=args.accumulate),
        callbacks=[
            Checkpoint(save_dir=args.directory, save_last_every_steps=1),
            CosLrUpdater(warmup_len=5, flat_ratio=0.5, min_lr_ratio=0.05),
            ExponentialMovingAverage(momentum=0.01, gamma=20),
            PipelineSwitch(num_last_epochs=1),
            NanGuard(),
            Validation(val_interval=2),
        ],
    )
    run.fit(resume=True)
    print("finished", flush=True)


if __name__ == "__main__":
    main()
