"""The body of ``tools/align_bpu_validation.py``: the deployed path beside the toolbox's, image by image.

The toolbox's path: data pipeline, torch executor, the detector's post-processing. The deployed one: the encoded image
file, the exported decoder's own letterbox, a runtime, the exported decoder's boxes. Both must be equal at every step.
"""

from __future__ import annotations

import importlib.util
import logging
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch

from hatdet.data.collate import Collate2D
from hatdet.data.image_file import decode
from hatdet.export.arithmetic import other_kernels, refuse_other
from hatdet.export.evaluate import quantize_images
from hatdet.export.metadata import file_names, output_names
from hatdet.export.onnx.compare import run_codes
from hatdet.export.onnx.exact import write_exact
from hatdet.export.onnx.file import open_session
from hatdet.export.runtimes.integer import Codes, LiteRTRuntime, ModelRefused, TFLiteMicroRuntime, to_nchw, to_nhwc
from hatdet.integer.arithmetic import PROFILE
from hatdet.integer.graph import IntGraph
from hatdet.utils.environment import usable_processors
from hatdet.utils.errors import UserError, did_you_mean
from hatdet.utils.pace import SILENCE_S, roughly

logger = logging.getLogger("hatdet")

REFERENCE = ("litert", "tflm", "onnx")
OTHERS = {"reference": "litert-reference", "default": "litert-default"}
"""LiteRT's kernels of both kinds, by their own names: one of them is ``litert``, the other may be measured beside."""
RUNTIMES = ("torch", *REFERENCE, *OTHERS.values())
INPUT = "the input codes"

Detections = dict[str, np.ndarray]


class OnnxExact:
    """The graph's explicit-integer ONNX form under onnxruntime, with the interface of the other runtimes.

    Raises:
        UserError: onnx or onnxruntime is not installed, or the graph has no such form.
    """

    name = "onnxruntime, exact form"

    def __init__(self, graph: IntGraph, keep_tensors: bool = False) -> None:
        self._session = open_session(write_exact(graph, keep_tensors=keep_tensors))
        self.output_names = output_names(graph)

    def run(self, codes: Codes) -> list[Codes]:
        return list(self.run_all(codes).values())[: len(self.output_names)]

    def run_all(self, codes: Codes) -> dict[str, Codes]:
        names = [value.name for value in self._session.get_outputs()]
        values = run_codes(self._session, to_nchw(codes))
        return {name: to_nhwc(value) for name, value in zip(names, values, strict=True)}


def make_reference(name: str, file: bytes, graph: IntGraph, keep_tensors: bool = False) -> Any:
    """A reference runtime: of the file, or (``onnx``) of the graph.

    Raises:
        UserError: it is not installed.
    """
    if name == "onnx":
        return OnnxExact(graph, keep_tensors)
    if name == "litert":
        if graph.profile.litert is None:
            raise UserError(f"LiteRT has no kernels of the arithmetic {graph.profile.name!r}; leave {name!r} out")
        return LiteRTRuntime(file, graph.profile.litert, keep_tensors)
    return TFLiteMicroRuntime(file, keep_tensors=keep_tensors)


@dataclass
class Runtimes:
    """What runs the model: runtimes of its arithmetic by name (they must agree), and the one whose drift is measured.

    Attributes:
        missing: name -> why it is not there. arithmetic: name of the model's.
    """

    file: bytes
    reference: dict[str, Any] = field(default_factory=dict)
    drift: LiteRTRuntime | None = None
    missing: dict[str, str] = field(default_factory=dict)
    arithmetic: str = PROFILE

    @property
    def drift_name(self) -> str:
        """Of LiteRT's kernels that do not have the arithmetic."""
        return OTHERS[other_kernels(self.arithmetic)]

    @property
    def names(self) -> list[str]:
        """``torch`` and all others, in order."""
        return ["torch", *self.reference, *([self.drift_name] if self.drift is not None else [])]


def open_runtimes(file: bytes, graph: IntGraph, asked: Sequence[str] | None) -> Runtimes:
    """The runtimes with these names; None: all that are installed.

    Raises:
        UserError: an unknown name, one that was asked for and is not installed, or none at all.
    """
    for name in asked or ():
        if name not in RUNTIMES:
            raise UserError(f"unknown runtime {name!r}{did_you_mean(name, RUNTIMES)}; there are {', '.join(RUNTIMES)}")
    found = Runtimes(file, arithmetic=graph.profile.name)
    if asked is not None and (own := graph.profile.litert) is not None:  # those kernels, by their own name
        asked = ["litert" if name == OTHERS[own] else name for name in asked]
    for name in REFERENCE:
        if asked is not None and name not in asked:
            continue
        if name == "tflm" and graph.profile.litert != "reference":  # it computes as LiteRT's reference does
            if asked is not None:
                refuse_other(graph.profile.name, name)
            continue
        try:
            found.reference[name] = make_reference(name, file, graph)
        except ModelRefused:
            raise  # it is there, and the file is at fault
        except UserError as error:
            if asked is not None:
                raise
            found.missing[name] = str(error)
    if (asked is None and "litert" in found.reference) or found.drift_name in (asked or ()):
        try:
            found.drift = LiteRTRuntime(file, kernels=other_kernels(found.arithmetic))
        except ModelRefused as error:
            logger.warning("%s; it is not compared", error)
    if not found.reference and "torch" not in (asked or ()):
        raise UserError("no reference runtime to compare with; " + "; ".join(found.missing.values() or RUNTIMES))
    return found


class Alignment:
    """Compares both paths for one image at a time.

    Args:
        model: the integer detector, with its executor and graph.
        dataset: validation's; gives the sample and the encoded image.
        decoder: the exported numpy decoder, as a module.
        runtimes: of the exported file.
    """

    def __init__(self, model: Any, dataset: Any, decoder: ModuleType, runtimes: Runtimes) -> None:
        self.model, self.dataset, self.decoder, self.runtimes = model, dataset, decoder, runtimes
        self.graph = model.graph
        self.collate = Collate2D()
        self.timed = False  # the first image says how long each runtime takes

    def image(self, index: int) -> dict[str, Any]:
        """The comparison of one image: counts of differing values, and the detections of both paths."""
        begin = time.perf_counter()
        batch = self.collate([self.dataset[index]])
        expected_input = quantize_images(self.model.preprocess(batch["img"]), self.graph.qparams(self.graph.inputs[0]))
        expected = [to_nhwc(v) for v in self.model.executor(expected_input)]
        picture = raw_picture(self.dataset, index)
        codes = self.decoder.preprocess(picture)
        record: dict[str, Any] = {
            "index": index,
            "img_id": int(batch["img_id"][0]),
            "file": str(self.dataset.raw(index).file_name),
            "input": count_different(to_nhwc(expected_input), codes),
            "values": sum(v.size for v in expected),
            "outputs": {},
        }
        if record["input"]:
            outputs = {"torch": [to_nhwc(v) for v in self.model.executor(to_nchw(codes).contiguous())]}
        else:  # the same function of the same codes
            outputs = {"torch": expected}
        outputs |= self._run(codes)
        drifted = outputs.pop(self.runtimes.drift_name, None)
        record["outputs"] = {name: _total(expected, values) for name, values in outputs.items()}
        record["first"] = self._first(record, expected_input, codes)
        found = {k: v.cpu().numpy() for k, v in self.model(batch)[0].items()}
        shipped = next((outputs[name] for name in self.runtimes.reference), outputs["torch"])
        deployed = self.decoder.decode(shipped, picture.shape[:2])
        record["boxes_differ"] = not same_detections(found, deployed)
        record["detections"] = {"int_infer": found, "deployed": deployed}
        if (values := drifted) is not None:
            lsb = [np.abs(a.astype(np.int64) - b) for a, b in zip(values, expected, strict=True)]
            record["drift"] = {"values": _total(expected, values), "max_lsb": int(max(d.max() for d in lsb))}
            record["detections"][self.runtimes.drift_name] = self.decoder.decode(values, picture.shape[:2])
        record["seconds"] = round(time.perf_counter() - begin, 3)
        return record

    def _run(self, codes: Codes) -> dict[str, list[Codes]]:
        """The outputs of every runtime but torch by name, that whose drift is measured too: of the first image one
        after the other, with a line on those that take long; then side by side."""
        every: dict[str, Any] = dict(self.runtimes.reference)
        if self.runtimes.drift is not None:
            every[self.runtimes.drift_name] = self.runtimes.drift
        if self.timed and every:
            with ThreadPoolExecutor(min(len(every), usable_processors())) as pool:
                return dict(zip(every, pool.map(lambda runtime: runtime.run(codes), every.values()), strict=True))
        found = {}
        for name, runtime in every.items():
            begin = time.perf_counter()
            found[name] = runtime.run(codes)
            if (seconds := time.perf_counter() - begin) > SILENCE_S:
                logger.info("%s takes %s an image", name, roughly(seconds))
        self.timed = True
        return found

    def _first(self, record: Mapping[str, Any], expected_input: torch.Tensor, codes: Codes) -> dict[str, str]:
        """For each runtime that differs, the first tensor (in execution order) with a difference."""
        if record["input"]:
            return dict.fromkeys((name for name, count in record["outputs"].items() if count), INPUT)
        return {name: self._first_tensor(name, expected_input, codes) for name, n in record["outputs"].items() if n}

    def _first_tensor(self, name: str, expected_input: torch.Tensor, codes: Codes) -> str:
        names = file_names(self.graph)
        expected = {names[n]: to_nhwc(v) for n, v in self.model.executor(expected_input, keep=True).items()}
        if name not in REFERENCE:
            return output_names(self.graph)[0]
        got = make_reference(name, self.runtimes.file, self.graph, keep_tensors=True).run_all(codes)
        order = [names[op.output] for op in self.graph.ops]
        return next(
            (tensor for tensor in order if count_different(expected[tensor], got[tensor])), "(none in isolation)"
        )


def raw_picture(dataset: Any, index: int) -> np.ndarray:
    """uint8 (h, w, 3) BGR of the encoded image as it was packed, decoded anew."""
    store = getattr(dataset, "store", None)
    if store is None:
        return np.ascontiguousarray(dataset.raw(index).tiles[0].source.pixels())
    position = int(dataset.positions[index])
    picture = store.picture(position)
    if picture.size != picture.full:
        raise UserError(
            f"{store.path}: {picture.file_name} was shrunk when it was packed (--max-side): a device sees whole "
            "pictures: pack the validation data without it"
        )
    return decode(store.image_bytes(position), store.boxes(position).as_stored, int(getattr(dataset, "bits", 16)))


def load_decoder(path: Path) -> ModuleType:
    """An exported numpy decoder as a module."""
    spec = importlib.util.spec_from_file_location("exported_decoder", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def same_detections(a: Detections, b: Detections) -> bool:
    """Whether boxes, scores, labels and their order are equal to the last bit."""
    return all(np.array_equal(a[key], b[key]) for key in ("boxes", "scores", "labels"))


def count_different(a: Codes, b: Codes) -> int:
    """How many values differ; all of them where the shapes do."""
    return int(np.count_nonzero(a != b)) if a.shape == b.shape else int(a.size)


def _total(expected: Sequence[Codes], got: Sequence[Codes]) -> int:
    return sum(count_different(a, b) for a, b in zip(expected, got, strict=True))
