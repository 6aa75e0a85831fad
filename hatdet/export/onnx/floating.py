"""The float model as an ONNX file: batch normalization folded, raw maps out, written by torch's own exporter.

The input ``images`` is float32 (1, 3, H, W), (1, 1, H, W) for gray. By default it is what the network takes,
``(pixel - mean) / std`` in the channel order of the metadata (as MMDetection's and SSCMA's exports have it); with
``preprocess`` it is the pixels themselves, 0 to 255, as the data has them (BGR as OpenCV decodes, unless the data set
converts), and the graph does the rest. Outputs are the detector's maps under
its ``output_names``, NCHW; with ``decode`` they are ``boxes`` (1, N, 4), xyxy in pixels of the network's input, and
``scores`` (1, N, C) in [0, 1]: suppression (NMS) and clipping are left to the caller.
"""

from __future__ import annotations

import copy
import io
import logging
import os
import tempfile
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hatdet.export.metadata import INPUT_NAME, file_metadata, float_tensor
from hatdet.export.onnx.file import DEFAULT_OPSET, check_opset, finish, first_line, load_onnx, load_runtime
from hatdet.quantization.fuse import fuse_bn
from hatdet.utils.errors import UserError
from hatdet.utils.input_format import input_channels

FORMAT = "onnx float32"
logger = logging.getLogger("hatdet")
DECODED_NAMES = ("boxes", "scores")


class FloatNetwork(nn.Module):
    """What the file computes: optional normalization, the network, optional decoding; all of it traceable.

    Args:
        detector: a float detector (docs/contracts.md, section 4); its modules are shared, not copied.
        image_size: (h, w), for the decoding.
    """

    def __init__(self, detector: Any, image_size: tuple[int, int], *, decode: bool, preprocess: bool) -> None:
        super().__init__()
        facts = detector.metadata()
        self.channels = input_channels(detector)
        self.trunk = detector.network()
        self.decoding = detector.decoding(image_size) if decode else None
        self.normalization = _Normalization(facts, self.channels) if preprocess else None
        self.train(False)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        maps = self.trunk(images if self.normalization is None else self.normalization(images))
        return tuple(maps) if self.decoding is None else tuple(self.decoding(*maps))


class _Normalization(nn.Module):
    """Pixels 0..255 (B, C, H, W) to ``(pixel - mean) / std`` in the network's channel order."""

    mean: Tensor
    std: Tensor

    def __init__(self, facts: dict[str, Any], channels: int) -> None:
        super().__init__()
        for name in ("mean", "std"):
            values = torch.as_tensor(facts[name], dtype=torch.float32).reshape(-1)
            self.register_buffer(name, values.expand(channels).reshape(1, channels, 1, 1).clone())
        self.register_buffer("order", torch.tensor([2, 1, 0] if facts.get("bgr_to_rgb") else [0, 1, 2]))
        self.swap = bool(facts.get("bgr_to_rgb")) and channels == 3

    def forward(self, pixels: Tensor) -> Tensor:
        if self.swap:
            pixels = pixels.index_select(1, self.get_buffer("order"))
        return (pixels - self.mean) / self.std


def write_float(
    detector: Any,
    image_size: tuple[int, int],
    path: str | os.PathLike[str] | None = None,
    metadata: dict[str, Any] | None = None,
    *,
    opset: int = DEFAULT_OPSET,
    decode: bool = False,
    preprocess: bool = False,
    simplify: bool = False,
) -> bytes:
    """Write a float detector as ONNX; see the module for what goes in and out.

    Args:
        detector: with its weights, on the CPU; it is copied before anything is folded.
        image_size: (h, w) of the input.
        path: where to write the model and its metadata; None: bytes only.
        metadata: facts that are added to the detector's (e.g. the data's classes).
        opset: version of the operator set, 11 to 20.
        decode, preprocess: see the module.
        simplify: let onnxruntime fold constants and remove operators without effect.

    Returns:
        The bytes of the model.

    Raises:
        UserError: an opset out of range, an operator that ONNX (of that opset) has not, no decoding of this detector,
            or onnx (for ``simplify`` onnxruntime) is not installed.
    """
    check_opset(opset)
    onnx = load_onnx()
    network = FloatNetwork(_folded(detector), image_size, decode=decode, preprocess=preprocess)
    names = DECODED_NAMES if decode else tuple(detector.output_names)
    model = onnx.load_from_string(_export(network, image_size, names, opset))
    if simplify:
        before = operators(model)
        model = _simplified(model)
        logger.info("simplified: %d operators, %d before", operators(model), before)
    facts = {
        **detector.metadata(),
        "image_size": list(image_size),
        **(metadata or {}),
        "decoded": decode,
        "normalization": "inside" if preprocess else "outside",
    }
    if preprocess and facts.get("bgr_to_rgb") and network.channels == 3:
        facts["input_order"] = "BGR"
    return finish(model, _metadata(model, facts), path)


def _folded(detector: Any) -> Any:
    """A copy in eval mode with batch normalization folded where it follows a convolution of its own."""
    duplicate = copy.deepcopy(detector).eval()
    try:
        fuse_bn(duplicate)
    except ValueError:  # one that cannot be folded stays an operator: a float file has that
        duplicate = copy.deepcopy(detector).eval()
    return duplicate


def _export(network: FloatNetwork, image_size: tuple[int, int], names: Sequence[str], opset: int) -> bytes:
    """Torch's exporter; the one that traces, since the other one needs further packages."""
    buffer = io.BytesIO()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # on its planned replacement, and on sizes that tracing fixes: both are meant
        try:
            torch.onnx.export(
                network,
                (torch.zeros(1, network.channels, *image_size),),
                buffer,  # type: ignore[arg-type]
                dynamo=False,
                opset_version=opset,
                input_names=[INPUT_NAME],
                output_names=list(names),
            )
        except torch.onnx.OnnxExporterError as error:
            raise UserError(
                f"the float model cannot be said in ONNX of opset {opset}: {first_line(error)}; try a newer --opset"
            ) from error
        except Exception as error:  # whatever a user's forward raises under torch's tracer
            raise UserError(
                f"torch cannot trace the network for ONNX: {first_line(error)}; its forward has to take an image of "
                f"{image_size[0]} x {image_size[1]} without changing its own state"
            ) from error
    return buffer.getvalue()


def _simplified(model: Any) -> Any:
    """Constants folded and operators without effect removed by onnxruntime; ONNX's own operators only."""
    runtime, onnx = load_runtime(), load_onnx()
    with tempfile.TemporaryDirectory() as folder:
        options = runtime.SessionOptions()
        options.log_severity_level = 4
        options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(Path(folder) / "simplified.onnx")
        runtime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        found = onnx.load(options.optimized_model_filepath)
    if any(node.domain not in ("", "ai.onnx") for node in found.graph.node):
        return model
    for entry in [entry for entry in found.opset_import if entry.domain not in ("", "ai.onnx")]:
        found.opset_import.remove(entry)
    return found


def _metadata(model: Any, facts: dict[str, Any]) -> dict[str, Any]:
    def described(value: Any) -> dict[str, Any]:
        shape = tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)
        return float_tensor(value.name, shape, "NCHW" if len(shape) == 4 else "NPC")

    return file_metadata(
        file_format=FORMAT,
        profile="float32",
        facts=facts,
        inputs=described(model.graph.input[0]),
        outputs=[described(value) for value in model.graph.output],
    )


def operators(model: Any) -> int:
    """Number of operators of a ``ModelProto``, constants not counted."""
    return sum(node.op_type != "Constant" for node in model.graph.node)


def reference(
    detector: Any, image_size: tuple[int, int], *, decode: bool, preprocess: bool
) -> Callable[[Tensor], Sequence[Tensor]]:
    """What the file should compute, by the detector itself: nothing folded."""
    network = FloatNetwork(copy.deepcopy(detector).eval(), image_size, decode=decode, preprocess=preprocess)

    def run(image: Tensor) -> Sequence[Tensor]:
        found: tuple[Tensor, ...] = network(image)
        return found

    return run
