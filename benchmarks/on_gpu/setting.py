"""What the rows of the GPU benchmark are measured with."""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.dataset import DataFolder
from benchmarks.on_gpu.isolated import Skipped
from benchmarks.parts import LEFT_OUT, type_name
from hatdet.building import Builder
from hatdet.config.load import load_config

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = {
    "nano": "rtmdet_nano_8xb32_300e_coco_ncadc_relu6.py",
    "tiny": "rtmdet_tiny_8xb32_300e_coco.py",
    "s": "rtmdet_s_8xb32_300e_coco.py",
}


@dataclass
class Setting:
    """Where and how much; a detector's parts by its name and input size.

    Args:
        device: "cuda", or "cpu" for a dry run.
        data, folder: data set to read, and where temporary files go.
        repeat, batch_size: steps that are timed, and pictures a step.
    """

    device: str
    data: DataFolder
    folder: Path
    repeat: int = 15
    batch_size: int = 64
    more: dict[str, Any] = field(default_factory=dict)

    def needs_gpu(self, what: str) -> None:
        """Skip the row where there is no GPU."""
        if self.device != "cuda":
            raise Skipped(f"{what} needs a GPU")

    def config(self, name: str, size: int, **options: Any) -> Any:
        """The shipped config on this data."""
        options = {
            "num_classes": self.data.num_classes,
            "imgsz": (size, size),
            "batch_size": self.batch_size,
            "workers": 0,
            "data_root": str(self.data.root),
            "train_ann_file": str(self.data.ann_file.relative_to(self.data.root)),
            "train_img_prefix": str(self.data.image_dir.relative_to(self.data.root)),
            "work_dir": str(self.folder / "work_dir"),
            "device": self.device,
            **self.more,
            **options,
        }
        return load_config(ROOT / "configs" / "rtmdet" / CONFIGS[name], options)

    def model(self, name: str, size: int) -> nn.Module:
        """A new detector, channels_last, with the same weights each time, on the CPU."""
        torch.manual_seed(0)
        model: nn.Module = Builder().build(copy.deepcopy(self.config(name, size)["model"]))
        return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]

    def trainer(self, name: str, size: int, options: Mapping[str, Any] | None = None, **changes: Any) -> Any:
        """The config's float trainer, its loader too, without what writes files."""
        config = self.config(name, size, **(options or {}))
        settings = dict(config["float_trainer"])
        settings["callbacks"] = [c for c in settings["callbacks"] if type_name(c) not in (LEFT_OUT | {"RunPictures"})]
        settings["model_convert_pipeline"] = None
        for key in ("train_metrics", "val_metrics", "val_data_loader"):
            settings.pop(key, None)
        torch.manual_seed(0)
        return Builder(config).build(settings | changes, "float_trainer")

    def pictures(self, size: int, count: int | None = None) -> Tensor:
        """Noise, uint8 (B, 3, size, size) on the CPU."""
        generator = torch.Generator().manual_seed(0)
        shape = (count or self.batch_size, 3, size, size)
        return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)

    def batch(self, name: str, size: int) -> dict[str, Any]:
        """One training batch, augmented by its loader, of ``batch_size`` pictures (repeated where there are fewer)."""
        loader = Builder().build(
            copy.deepcopy(self.config(name, size, batch_size=min(self.batch_size, 16))["data_loader"])
        )
        batch: dict[str, Any] = next(iter(loader))
        repeats = -(-self.batch_size // len(batch["img"]))
        return {
            key: torch.cat([value] * repeats)[: self.batch_size]
            if isinstance(value, Tensor)
            else (list(value) * repeats)[: self.batch_size]
            for key, value in batch.items()
        }

    def wait(self) -> None:
        """Until the device has done what it was told."""
        if self.device == "cuda":
            torch.cuda.synchronize()

    def in_turns(self, calls: Mapping[str, Callable[[], object]], warmup: int = 3) -> dict[str, float]:
        """Median wall seconds of each call, the device idle before and after, in rounds."""
        times: dict[str, list[float]] = {name: [] for name in calls}
        for i in range(warmup + self.repeat):
            for name, call in calls.items():
                self.wait()
                begin = time.perf_counter()
                call()
                self.wait()
                if i >= warmup:
                    times[name].append(time.perf_counter() - begin)
        return {name: statistics.median(values) for name, values in times.items()}

    def waits(self, call: Callable[[], object], wall: float, steps: int = 3) -> float | None:
        """The share of a call's ``wall`` seconds in which no kernel runs on the GPU; None without one."""
        if self.device != "cuda":
            return None
        activity = torch.profiler.ProfilerActivity.CUDA
        with torch.profiler.profile(activities=[activity]) as profile:
            for _ in range(steps):
                call()
            self.wait()
        busy = sum(event.self_device_time_total for event in profile.key_averages()) * 1e-6 / steps
        return max(0.0, 1 - busy / wall)


def graphed(call: Callable[[], Any]) -> tuple[Callable[[], None], Any]:
    """``call`` captured as a CUDA graph: what replays it, and what it gave (overwritten by each replay).

    Its inputs, shapes and memory are those of the capture. What the call reads back to the host cannot be captured.
    """
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            call()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        made = call()
    return graph.replay, made
