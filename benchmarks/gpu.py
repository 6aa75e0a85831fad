"""Steps on a GPU in images per second, each against a baseline of the same run: wall time, synchronized, medians.

python benchmarks/gpu.py --data my_data --batch-size 64

Rows: train_step (against the bare network's forward and backward), mixed_precision, qat_step in integers and in fake
quantization (against the float training step), integer_executor (against the float forward). `--device cpu` tries the
script without a GPU.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import torch
from torch import nn

from benchmarks import dataset
from benchmarks.parts import IMAGE_SIZE, Parts
from benchmarks.run import CONFIG
from benchmarks.steps import integer_graph_of, raw_map_loss, settle
from benchmarks.timing import Row
from hatdet.commands.shared.arguments import make_parser
from hatdet.commands.shared.process import run
from hatdet.integer.executor import IntExecutor
from hatdet.quantization.converters import Float2QAT


def main(argv: Sequence[str] | None = None) -> None:
    args = parse(argv)
    with tempfile.TemporaryDirectory(prefix="hatdet-bench-") as folder:
        data = dataset.find(args.data) if args.data else dataset.generate(Path(folder) / "data")
        parts = Parts(config_path=args.config, data=data, folder=Path(folder))
        repeats = -(-args.batch_size // len(parts.batch["img"]))
        batch = {key: grown(value, repeats, args.batch_size) for key, value in parts.batch.items()}
        rows = measure(parts, batch, args)
    name = torch.cuda.get_device_name() if args.device == "cuda" else args.device
    print(f"{name}, torch {torch.__version__}, {IMAGE_SIZE[0]}x{IMAGE_SIZE[1]}, batch {args.batch_size}")
    print(f"{'row':<28}{'images/s':>10}{'baseline':>10}{'ratio':>7}  baseline")
    for row in rows:
        ours, other = (args.batch_size / statistics.median(v) for v in (row.hatdet, row.baseline))
        print(f"{row.name:<28}{ours:>10.0f}{other:>10.0f}{row.ratio:>7.2f}  {row.baseline_name}")
    if args.json:
        args.json.write_text(json.dumps([row.as_dict() for row in rows], indent=1) + "\n", encoding="utf-8")


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument("--batch-size", type=int, default=64, help="images a step (default: 64)")
    parser.add_argument("--repeat", type=int, default=15, help="repetitions of each measurement (default: 15)")
    parser.add_argument("--data", type=Path, help="COCO-style folder to read (default: a generated data set)")
    parser.add_argument("--config", type=Path, default=CONFIG, help="config of the detector (default: the nano)")
    parser.add_argument("--device", default="cuda", help="default: cuda")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all samples to this file too")
    return parser.parse_args(argv)


def grown(value: Any, repeats: int, size: int) -> Any:
    """A batch's entry, repeated to a batch of ``size``."""
    if isinstance(value, torch.Tensor):
        return torch.cat([value] * repeats)[:size]
    return (list(value) * repeats)[:size] if isinstance(value, (list, tuple)) else value


def measure(parts: Parts, batch: dict[str, Any], args: argparse.Namespace) -> list[Row]:
    """All rows."""
    parts.batch = batch  # what every Stepper gets
    device, repeat = torch.device(args.device), args.repeat
    settled = parts.model()
    settle_on(settled, parts)
    qat = {
        mode: parts.trainer(
            model=copy.deepcopy(settled), model_convert_pipeline=Float2QAT(qat_forward=mode), device=args.device
        )
        for mode in ("integer", "fake_quant")
    }
    mixed = parts.config["batch_processor"] | {"enable_amp": True}
    steppers = {
        "float": parts.trainer(device=args.device),
        "mixed": parts.trainer(device=args.device, batch_processor=mixed),
        **qat,
    }
    network = copy.deepcopy(settled).network().to(device).train()  # type: ignore[operator]
    images = settled.preprocess(batch["img"]).to(device).contiguous(memory_format=torch.channels_last)  # type: ignore[operator]

    def bare() -> None:
        for parameter in network.parameters():
            parameter.grad = None
        raw_map_loss(network(images)).backward()

    times = in_turns({"bare": bare, **{name: stepper.step for name, stepper in steppers.items()}}, repeat, device)
    for stepper in steppers.values():
        stepper.close()
    rows = [
        Row("train_step", times["float"], times["bare"], "bare forward + backward"),
        Row("mixed_precision", times["mixed"], times["float"], "float training step"),
        Row("qat_step, integers", times["integer"], times["float"], "float training step"),
        Row("qat_step, fake quantization", times["fake_quant"], times["float"], "float training step"),
    ]
    return [*rows, integer_executor(settled, parts, images, device, repeat)]


def integer_executor(model: nn.Module, parts: Parts, images: torch.Tensor, device: torch.device, repeat: int) -> Row:
    """The integer graph against the float forward."""
    executor = IntExecutor(integer_graph_of(copy.deepcopy(model), parts), device)
    codes = (parts.batch["img"].to(torch.int16) - 128).to(torch.int8).to(device)
    network = copy.deepcopy(model).network().to(device).eval()  # type: ignore[operator]

    def float_forward() -> None:
        with torch.no_grad():
            network(images)

    times = in_turns({"integer": lambda: executor(codes), "float": float_forward}, repeat, device)
    return Row("integer_executor", times["integer"], times["float"], "float forward, eval mode")


def settle_on(model: nn.Module, parts: Parts) -> None:
    """Give batch normalization statistics, from eight images."""
    whole = parts.batch
    parts.batch = {key: grown(value, 1, 8) for key, value in whole.items()}
    settle(model, parts)
    parts.batch = whole


def in_turns(
    calls: Mapping[str, Callable[[], object]], repeat: int, device: torch.device, warmup: int = 3
) -> dict[str, list[float]]:
    """Wall seconds of each call, the device idle before and after, in rounds."""

    def wait() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize()

    times: dict[str, list[float]] = {name: [] for name in calls}
    for i in range(warmup + repeat):
        for name, call in calls.items():
            wait()
            begin = time.perf_counter()
            call()
            wait()
            if i >= warmup:
                times[name].append(time.perf_counter() - begin)
    return times


if __name__ == "__main__":
    run(main)
