"""Images a second: of a model, of a data loader, of a data set.

python tools/analysis_tools/benchmark.py CONFIG --task dataloader
python tools/analysis_tools/benchmark.py CONFIG --checkpoint work_dirs/x/float-checkpoint-best.pth.tar --task inference
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from typing import Any

from hatdet.commands.shared.arguments import add_config_arguments, add_launcher_arguments, load_from_args
from hatdet.commands.shared.process import command
from hatdet.utils.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config_arguments(parser)
    parser.add_argument("--checkpoint", metavar="MODEL", help="what inference runs (default: weights as they are made)")
    parser.add_argument("--task", choices=("inference", "dataloader", "dataset"), default="dataloader")
    parser.add_argument("--dataset-type", "--dataset_type", choices=("train", "val", "test"), default="test",
                        help="whose images; test is val (default: test)")  # fmt: skip
    parser.add_argument("--max-iter", "--max_iter", type=int, default=2000, help="steps at most (default: 2000)")
    parser.add_argument("--num-warmup", "--num_warmup", type=int, default=5, help="steps not counted (default: 5)")
    parser.add_argument("--log-interval", "--log_interval", type=int, default=50, help="steps between lines")
    parser.add_argument("--repeat-num", "--repeat_num", type=int, default=1, help="measurements (default: 1)")
    parser.add_argument("--fuse-conv-bn", "--fuse_conv_bn", action="store_true", help="fold batch normalization first")
    parser.add_argument("--device", metavar="DEVICE", help="of inference: cpu, cuda (default: the config's)")
    add_launcher_arguments(parser)


def run(args: argparse.Namespace) -> None:
    if args.max_iter <= args.num_warmup or args.repeat_num < 1 or args.log_interval < 1 or args.num_warmup < 0:
        raise UserError(
            "--max-iter must be above --num-warmup, and --repeat-num and --log-interval at least 1; raise them"
        )
    config = load_from_args(args)
    rates = []
    for number in range(args.repeat_num):
        rate = measure(steps(config, args), args.num_warmup, args.max_iter, args.log_interval)
        rates.append(rate)
        print(f"{args.task}, measurement {number + 1}: {rate:.2f} images/s, {1000 / rate:.2f} ms/image")
    if len(rates) > 1:
        print(f"mean of {len(rates)}: {sum(rates) / len(rates):.2f} images/s")


def measure(
    work: Iterator[int], warmup: int, most: int, interval: int, clock: Callable[[], float] = time.perf_counter
) -> float:
    """Images a second of ``work``, which does a step when it is asked for one and says how many images it had.

    Raises:
        UserError: there are not more steps than the warm-up has.
    """
    images, begin, step = 0, clock(), 0
    for step, count in enumerate(work, 1):
        if step <= warmup:
            begin = clock()
            continue
        images += count
        if (step - warmup) % interval == 0:
            print(f"  {step - warmup} steps: {images / (clock() - begin):.2f} images/s", flush=True)
        if step >= most:
            break
    if not images:
        raise UserError(f"{step} steps are all warm-up; lower --num-warmup, or give more images")
    return images / max(clock() - begin, 1e-9)


def steps(config: Any, args: argparse.Namespace) -> Iterator[int]:
    """The steps of a task."""
    from hatdet.building import Builder
    from hatdet.commands.analysis.data import load_loader, loader_config

    which = "train" if args.dataset_type == "train" else "val"
    if args.task == "dataset":
        loader = load_loader(config, which)
        for references in loader.batch_sampler:
            for reference in references:
                loader.dataset[reference]
                yield 1
    elif args.task == "dataloader":
        for batch in Builder(config).build(loader_config(config, which)):
            yield len(batch["img"])
    else:
        yield from _inference(config, args)


def _inference(config: Any, args: argparse.Namespace) -> Iterator[int]:
    import torch

    from hatdet.building import Builder
    from hatdet.commands.analysis.data import load_loader

    model = Builder(config).build(config["model"], "model")
    if args.checkpoint:
        from hatdet.quantization.converters import LoadCheckpoint

        model = LoadCheckpoint(checkpoint_path=args.checkpoint, ignore_extra=True)(model)
    if args.fuse_conv_bn:
        from hatdet.quantization.converters import FuseBN

        model = FuseBN()(model)
    device = torch.device(args.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    model = model.to(device).eval()
    with torch.inference_mode():
        for batch in load_loader(config, "val"):
            on_device = {k: v.to(device) if isinstance(v, torch.Tensor) else v for k, v in batch.items()}
            model(on_device)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            yield len(batch["img"])


main = command(__doc__, add_arguments, run)
