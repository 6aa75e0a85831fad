"""What the float formats share: metadata, the comparison with torch on real images, and its verdict."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hatdet.export.float_graph import INPUT_NAME
from hatdet.export.float_runtimes import FloatRuntime, compare
from hatdet.export.formats import ExportJob, FileRecord
from hatdet.export.metadata import file_metadata, float_tensor
from hatdet.utils.input_format import input_channels

FLOAT32_TOLERANCE = 1e-3
"""Of an output's largest magnitude: summing in another order costs some 1e-6, a wrong operator far more."""
FLOAT16_TOLERANCE = 5e-2
"""The same with weights of 11 significant bits."""


def expected_outputs(job: ExportJob) -> tuple[Tensor, ...]:
    """What the float model computes for the job's images: raw maps, or boxes and scores with ``decode``."""
    with torch.no_grad():
        maps = job.detector.run_network(job.images())
        return tuple(job.detector.decoding(job.image_size)(*maps) if job.options.decode else maps)


def metadata(job: ExportJob, file_format: str, outputs: Any, layout: str) -> dict[str, Any]:
    """The metadata of a float file.

    Args:
        outputs: (name, shape) of each.
        layout: of the images and maps: ``NHWC`` or ``NCHW``.
    """
    h, w = job.image_size
    channels = input_channels(job.detector)
    shape = (1, h, w, channels) if layout == "NHWC" else (1, channels, h, w)
    described = [float_tensor(name, size, layout if len(size) == 4 else "NPC") for name, size in outputs]
    facts = {**job.facts, "decoded": job.options.decode}
    if job.options.decode:
        facts["boxes"] = "xyxy in pixels of the input, not clipped; scores in [0, 1]; before non-maximum suppression"
    inputs = float_tensor(INPUT_NAME, shape, layout)
    return file_metadata(file_format=file_format, profile="float32", facts=facts, inputs=inputs, outputs=described)


def checked(
    job: ExportJob, path: Path, file_format: str, load: Callable[[], FloatRuntime], tolerance: float
) -> FileRecord:
    """The record of a written file, compared with torch on the job's images."""
    if not job.options.verify:
        return FileRecord(path, file_format)
    runtime = load()
    names = runtime.metadata["output_names"]
    found = compare(expected_outputs(job), runtime.run(job.images()), names)
    share = max(v["max_abs_difference"] / max(v["max_abs"], 1e-9) for v in found.values())
    largest = max(found, key=lambda name: found[name]["max_abs_difference"])
    ok = share <= tolerance
    images = len(job.pixels)
    text = (
        f"against torch on {images} {'image' if images == 1 else 'images'} ({runtime.name}): largest difference "
        f"{found[largest]['max_abs_difference']:.3g} in {largest}, whose largest value is "
        f"{found[largest]['max_abs']:.3g}" + ("" if ok else f"; MORE THAN ROUNDING (allowed: {tolerance:g} of it)")
    )
    checks = {"images": images, "runtime": runtime.name, "tolerance": tolerance, "outputs": found}
    return FileRecord(path, file_format, ok, text, {"difference": checks})
