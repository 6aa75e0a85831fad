"""Whole training steps against MMDetection 3.3's own: CPU time, the two taking turns, equal weights and batches.

python benchmarks/mmdet_steps.py mmdetection/configs/fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py --boxes 20 300

A step: normalization, network, assignment, losses, backward, SGD. One thread; both in channels_last memory, or
MMDetection in its own (--contiguous: its deformable convolutions want that). The losses of the first step are printed:
they are equal, but where samples are drawn. Needs mmdet 3.3 and mmcv 2.1 beside hatdet.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import torch
from torch import Tensor, nn

from benchmarks.timing import interleave
from hatdet.building import Builder
from hatdet.commands.shared.arguments import make_parser
from hatdet.commands.shared.process import run
from hatdet.config.load import load_config
from hatdet.engine.batch_processors import collect_losses, sum_losses

Pictures = list[tuple[Tensor, Tensor]]


def main(argv: Sequence[str] | None = None) -> None:
    args = parse(argv)
    torch.set_num_threads(1)
    for path in args.configs:
        theirs = their_model(path)
        ours = our_model(path, theirs)
        for count in args.boxes:
            classes = getattr(theirs.bbox_head, "num_classes", 1)
            truth = [boxes(args.side, count, classes, seed) for seed in range(args.batch)]
            images = torch.randint(0, 256, (args.batch, 3, args.side, args.side), dtype=torch.uint8)
            first: dict[str, float] = {}
            calls = {
                "hatdet": recorded(first, "hatdet", our_step(ours, images, truth)),
                "mmdet": recorded(first, "mmdet", their_step(theirs, images, truth, args.contiguous)),
            }
            times = interleave(calls, args.repeat, warmup=1)
            mine, other = (1e3 * statistics.median(times[name]) for name in calls)
            print(
                f"{Path(path).stem}, {count} boxes: hatdet {mine:.0f} ms, MMDetection {other:.0f} ms, "
                f"ratio {mine / other:.2f}, losses {first['hatdet']:.6g} and {first['mmdet']:.6g}",
                flush=True,
            )


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument("configs", nargs="+", help="official configs of version 3")
    parser.add_argument("--side", type=int, default=320, help="of the pictures, in pixels (default: 320)")
    parser.add_argument("--batch", type=int, default=2, help="pictures a step (default: 2)")
    parser.add_argument("--boxes", type=int, nargs="+", default=[20], help="boxes a picture (default: 20)")
    parser.add_argument("--repeat", type=int, default=3, help="steps of each (default: 3)")
    parser.add_argument("--contiguous", action="store_true", help="MMDetection in contiguous memory")
    return parser.parse_args(argv)


def their_model(path: str) -> Any:
    """MMDetection's model, with its first weights but for published ones."""
    try:
        config = importlib.import_module("mmengine.config").Config.fromfile(path)
        importlib.import_module("mmdet.utils").register_all_modules(init_default_scope=True)
        models = importlib.import_module("mmdet.registry").MODELS
    except ImportError as error:
        raise SystemExit(f"mmdet_steps.py: {error}; install mmdet 3.3 and mmcv 2.1 to compare with them") from error
    settings = _without(config.model.to_dict(), "init_cfg", "pretrained", "batch_augments")
    logging.disable(logging.WARNING)  # a line for each parameter
    model = models.build(type(config.model)(settings))
    model.init_weights()
    return model.train()


def our_model(path: str, theirs: nn.Module) -> nn.Module:
    """hatdet's model of the same config, with the same weights."""
    config = load_config(path)
    model: nn.Module = Builder(config).build(config["model"], "model")
    model.load_state_dict(theirs.state_dict())
    return model.train().to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def boxes(side: int, count: int, classes: int, seed: int) -> tuple[Tensor, Tensor]:
    """Boxes (n, 4) of a picture and their labels (n,)."""
    generator = torch.Generator().manual_seed(seed)
    centre = torch.rand(count, 2, generator=generator) * side
    half = torch.rand(count, 2, generator=generator) * side / 8 + 4
    found = torch.cat((centre - half, centre + half), dim=1).clamp(0, side - 1)
    return found, torch.randint(0, classes, (count,), generator=generator)


def our_step(model: nn.Module, images: Tensor, truth: Pictures) -> Callable[[], float]:
    """hatdet's training step; gives the loss."""
    batch = {"img": images, "gt_boxes": torch.stack([b for b, _ in truth]),
             "gt_labels": torch.stack([n for _, n in truth])}  # fmt: skip
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-7, momentum=0.9)

    def step() -> float:
        optimizer.zero_grad(set_to_none=True)
        loss = sum_losses(collect_losses(model(dict(batch))))
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    return step


def their_step(model: Any, images: Tensor, truth: Pictures, contiguous: bool) -> Callable[[], float]:
    """MMDetection's training step; gives the loss."""
    sample_class = importlib.import_module("mmdet.structures").DetDataSample
    instances = importlib.import_module("mmengine.structures").InstanceData
    layout = torch.contiguous_format if contiguous else torch.channels_last
    model.to(memory_format=layout)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-7, momentum=0.9)
    size = (images.shape[2], images.shape[3])
    meta = {"img_shape": size, "pad_shape": size, "batch_input_shape": size, "ori_shape": size, "img_id": 0,
            "scale_factor": (1.0, 1.0), "border": (0, size[0], 0, size[1])}  # fmt: skip

    def step() -> float:
        samples = []
        for found, labels in truth:
            sample = sample_class(metainfo=dict(meta))
            sample.gt_instances = instances(bboxes=found.clone(), labels=labels.clone())
            sample.ignored_instances = instances(bboxes=found[:0], labels=labels[:0])
            samples.append(sample)
        optimizer.zero_grad(set_to_none=True)
        data = model.data_preprocessor({"inputs": list(images), "data_samples": samples}, True)
        losses = model.loss(data["inputs"].contiguous(memory_format=layout), data["data_samples"])
        loss = model.parse_losses(losses)[0]
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    return step


def recorded(first: dict[str, float], name: str, step: Callable[[], float]) -> Callable[[], float]:
    """``step``, whose first value goes into ``first``."""

    def call() -> float:
        value = step()
        first.setdefault(name, value)
        return value

    return call


def _without(value: Any, *names: str) -> Any:
    if isinstance(value, Mapping):
        return {key: _without(item, *names) for key, item in value.items() if key not in names}
    return type(value)(_without(item, *names) for item in value) if isinstance(value, (list, tuple)) else value


if __name__ == "__main__":
    run(main)
