"""Rows about what surrounds the network: reading pictures, and starting up."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

from benchmarks.parts import BATCH_SIZE, Parts
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
    """A process that builds the nano against one that imports torch."""
    hatdet = (
        "import hatdet\n"
        "from hatdet.config.load import load_config\n"
        "from hatdet.building import Builder\n"
        f"Builder().build(load_config({str(parts.config_path)!r})['model'])\n"
    )
    times: dict[str, list[float]] = {"hatdet": [], "torch": []}
    for i in range(-1, max(3, repeat // 2)):
        for name, code in (("hatdet", hatdet), ("torch", "import torch")):
            seconds = child_cpu_seconds(code)
            if i >= 0:  # the first pair only warms the disk's cache and writes byte code
                times[name].append(seconds)
    return [Row("startup", times["hatdet"], times["torch"], "import torch", 1.3)]
