"""What the float formats share: metadata, the comparison with torch on real images, and its verdict."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hatdet.export.float_graph import INPUT_NAME
from hatdet.export.formats.table import ExportJob, FileRecord
from hatdet.export.metadata import file_metadata, float_tensor
from hatdet.export.runtimes.floating import FloatRuntime, compare
from hatdet.export.tflite.floating import stored_half
from hatdet.quantization.fuse import fuse_bn
from hatdet.quantization.tracing.refusals import NORMED
from hatdet.utils.input_format import input_channels

FLOAT32_TOLERANCE = 1e-3
"""Of an output's largest magnitude: summing in another order costs some 1e-6, a wrong operator far more."""
FLOAT16_TOLERANCE = 5e-2
"""Of an output's largest magnitude: what rounding the weights to 11 significant bits seldom changes. It is no fault of
the file where it changes more: a network whose activations hardly vary for their size (one that has just begun to
learn, in particular) amplifies the rounding of its folded weights, of whatever precision."""


def expected_outputs(job: ExportJob, detector: Any = None) -> tuple[Tensor, ...]:
    """What the float model (or ``detector``) computes for the job's images: raw maps, or boxes and scores with
    ``decode``."""
    detector = detector if detector is not None else job.detector
    with torch.no_grad():
        maps = detector.run_network(job.images())
        return tuple(detector.decoding(job.image_size)(*maps) if job.options.decode else maps)


@torch.no_grad()
def half_detector(detector: Any) -> Any:
    """A copy of a detector with the weights of its float16 file: folded, and rounded as that stores them."""
    folded = copy.deepcopy(detector).eval()
    fuse_bn(folded)
    for module in folded.network().modules():
        for outputs in (dimension for kind, dimension in NORMED.items() if isinstance(module, kind)):
            for parameter in (module.get_parameter("weight").transpose(0, outputs), module.bias):
                if isinstance(parameter, Tensor):
                    parameter.copy_(torch.from_numpy(stored_half(parameter.detach().cpu().numpy())))
    return folded


def metadata(job: ExportJob, file_format: str, outputs: Any, layout: str) -> dict[str, Any]:
    """The metadata of a float file.

    Args:
        outputs: (name, shape) of each.
        layout: of the images and maps: ``NHWC`` or ``NCHW``.
    """
    h, w = job.image_size
    channels = input_channels(job.detector)
    shape = (1, h, w, channels) if layout == "NHWC" else (1, channels, h, w)
    tensors = [float_tensor(name, size, layout if len(size) == 4 else "NPC") for name, size in outputs]
    facts = {**job.facts, "decoded": job.options.decode}
    if job.options.decode:
        facts["boxes"] = "xyxy in pixels of the input, not clipped; scores in [0, 1]; before non-maximum suppression"
    inputs = float_tensor(INPUT_NAME, shape, layout)
    return file_metadata(file_format=file_format, profile="float32", facts=facts, inputs=inputs, outputs=tensors)


def largest_share(found: Mapping[str, Mapping[str, float]]) -> float:
    """The largest difference of all outputs, as a share of the largest value of each."""
    return max(v["max_abs_difference"] / max(v["max_abs"], 1e-9) for v in found.values())


def described(found: Mapping[str, Mapping[str, float]]) -> str:
    """The largest difference, where it is and beside what."""
    name = max(found, key=lambda output: found[output]["max_abs_difference"])
    difference, value = found[name]["max_abs_difference"], found[name]["max_abs"]
    return f"{difference:.3g} in {name}, whose largest value is {value:.3g}"


def checked(
    job: ExportJob,
    path: Path,
    file_format: str,
    load: Callable[[], FloatRuntime],
    tolerance: float = FLOAT32_TOLERANCE,
    half: bool = False,
) -> FileRecord:
    """The record of a written file, compared with torch on the job's images.

    Args:
        half: the weights are float16. The verdict is then about torch with those weights; how much they change the
            model's outputs is said beside it.
    """
    if not job.options.verify:
        return FileRecord(path, file_format)
    runtime = load()
    names = runtime.metadata["output_names"]
    outputs = runtime.run(job.images())
    found = compare(expected_outputs(job, half_detector(job.detector) if half else None), outputs, names)
    ok = largest_share(found) <= tolerance
    images = len(job.pixels)
    text = (
        f"against torch {'with the same weights ' if half else ''}on {images} {'image' if images == 1 else 'images'} "
        f"({runtime.name}): largest difference {described(found)}"
        + ("" if ok else f"; MORE THAN ROUNDING (allowed: {tolerance:g} of it)")
    )
    checks = {"images": images, "runtime": runtime.name, "tolerance": tolerance, "outputs": found}
    if half:
        cost = compare(expected_outputs(job), outputs, names)
        text += f"\nweights of 16 bits change the model's outputs by at most {described(cost)}"
        if largest_share(cost) > FLOAT16_TOLERANCE:
            text += "; that is much: score the file with tools/test.py before you use it, or take float32 or int8"
        checks["half_precision"] = cost
    return FileRecord(path, file_format, ok, text, {"difference": checks})
