"""Rows about what surrounds the network: reading pictures, and starting up."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

from benchmarks.parts import BATCH_SIZE, IMAGE_SIZE, Parts
from benchmarks.timing import Row, child_cpu_seconds, interleave

DECODED_PER_CALL = 8


def input_pipeline(parts: Parts, repeat: int) -> list[Row]:
    """A training image, read, augmented and collated, against decoding a file; per image."""
    import cv2

    cv2.setNumThreads(0)
    files = parts.data.encoded_images(200)
    position = 0

    def decode() -> None:
        nonlocal position
        for _ in range(DECODED_PER_CALL):
            cv2.imdecode(files[position % len(files)], cv2.IMREAD_COLOR)
            position += 1

    rows = []
    for name, transforms, target in (("mosaic+mixup", "train_transforms", 3.0), ("plain", "late_transforms", 2.0)):
        cached = endless(parts.loader(transforms))
        uncached = endless(parts.loader(transforms, cache_mb=0))
        calls: dict[str, Callable[[], object]] = {
            "cached": functools.partial(next, cached),
            "uncached": functools.partial(next, uncached),
            "decode": decode,
        }
        # One pass over the data first: the steady state of training.
        times = interleave(calls, max(repeat, 30), warmup=-(-len(files) // BATCH_SIZE))
        decoding = [t / DECODED_PER_CALL for t in times["decode"]]
        for kind, label, wanted in (("cached", name, target), ("uncached", f"{name}, no cache", None)):
            per_image = [t / BATCH_SIZE for t in times[kind]]
            rows.append(Row(f"input_pipeline {label}", per_image, decoding, "cv2.imdecode", wanted))
    return rows


def endless(loader: Any) -> Iterator[Any]:
    """Batches of one epoch after the other."""
    epoch = 0
    while True:
        loader.sampler.set_epoch(epoch)
        yield from loader
        epoch += 1


def startup(parts: Parts, repeat: int) -> list[Row]:
    """Processes that build the nano, and that train to the end of the first step, against one that imports torch."""
    build = (
        "import hatdet\n"
        "from hatdet.config.load import load_config\n"
        "from hatdet.building import Builder\n"
        f"Builder().build(load_config({str(parts.config_path)!r})['model'])\n"
    )
    first_step = (
        "import os\n"
        "from hatdet.commands.train.command import main\n"
        "from hatdet.engine.callbacks.base import Callback\n"
        "Callback.on_step_end = lambda self, loop: os._exit(0)\n"
        f"main({[str(parts.config_path), '--overwrite', '--cfg-options', *options_of(parts)]!r})\n"
    )
    codes = {"startup": build, "first_step": first_step, "torch": "import torch"}
    times: dict[str, list[float]] = {name: [] for name in codes}
    for i in range(-1, max(3, repeat // 2)):
        for name, code in codes.items():
            seconds = child_cpu_seconds(code)
            if i >= 0:  # the first round writes byte code, packs the pictures, and checks the target
                times[name].append(seconds)
    targets = {"startup": 1.3, "first_step": 2.1}
    return [Row(name, times[name], times["torch"], "import torch", target) for name, target in targets.items()]


def options_of(parts: Parts) -> list[str]:
    """The options of a training command on the parts' data, read in the training's own process."""
    data = parts.data
    options = {
        "num_classes": data.num_classes,
        "imgsz": f"({IMAGE_SIZE[0]},{IMAGE_SIZE[1]})",
        "batch_size": BATCH_SIZE,
        "workers": 0,
        "data_root": data.root,
        "train_ann_file": data.ann_file.relative_to(data.root),
        "val_ann_file": data.ann_file.relative_to(data.root),
        "train_img_prefix": data.image_dir.relative_to(data.root),
        "val_img_prefix": data.image_dir.relative_to(data.root),
        "work_dir": parts.folder / "first_step",
    }
    return [f"{key}={value}" for key, value in options.items()]
