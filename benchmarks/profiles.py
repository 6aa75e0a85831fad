"""The integer model of each arithmetic: the executor against LiteRT's default kernels, the training step against the
float one of the same precision."""

from __future__ import annotations

import copy
from typing import Any

import torch

from benchmarks.parts import IMAGE_SIZE, Parts
from benchmarks.stepper import Stepper
from benchmarks.steps import network_input, settle
from benchmarks.timing import Row, interleave
from hatdet.export.engines import LiteRTEngine
from hatdet.export.runtimes.integer import LiteRTRuntime, to_nhwc
from hatdet.export.tflite.int8 import write
from hatdet.integer.executor import IntExecutor
from hatdet.integer.graph import IntGraph
from hatdet.integer.profiles.table import PROFILES
from hatdet.quantization.converters import Float2QAT, ModelConvertPipeline
from hatdet.quantization.detector import QuantizedDetector
from hatdet.quantization.integer_detector import IntegerDetector

LITERT = "LiteRT default"
EXECUTOR_TARGETS = {1: 2.0, 8: 1.5}
QAT_TARGET = 1.1
CALLS = 8
"""Of LiteRT for one of the executor with a batch: a file holds one picture."""


def executors_and_litert(parts: Parts, repeat: int) -> list[Row]:
    """The executor with 1 and 8 pictures, in each arithmetic, against LiteRT's default kernels on one thread; times are
    those of 8 pictures in all rows."""
    codes = (parts.batch["img"][:CALLS].to(torch.int16) - 128).to(torch.int8)
    graphs = {name: _graph(parts, name) for name in PROFILES}
    pictures = [to_nhwc(codes[i : i + 1]) for i in range(CALLS)]
    calls: dict[str, Any] = {}
    runtime = LiteRTRuntime(write(graphs["xnnpack"]), "default")
    calls["LiteRT"] = lambda: [runtime.run(picture) for picture in pictures]
    for name, graph in graphs.items():
        executor = IntExecutor(graph)
        backend = executor.backend
        calls[f"{name} 1"] = lambda run=executor: [run(codes[i : i + 1]) for i in range(CALLS)]
        calls[f"{name} 8"] = lambda run=executor: run(codes)
    times = interleave(calls, repeat)
    rows = [
        Row(f"executor {name} ({backend}), batch {batch}", times[f"{name} {batch}"], times["LiteRT"], LITERT, target)
        for name in graphs
        for batch, target in EXECUTOR_TARGETS.items()
    ]
    return rows


def engine_litert(parts: Parts, repeat: int) -> list[Row]:
    """Boxes of 8 pictures by ``--engine litert`` (one interpreter, after its proof) against those by the executor."""
    graph = _graph(parts, "xnnpack")
    task = parts.model().eval()
    model = IntegerDetector(detector=task, graph=graph)
    engine = LiteRTEngine(proved=CALLS, workers=1)(model)
    batch = {**parts.batch, "img": parts.batch["img"][:CALLS]}

    def run(network: Any) -> object:
        with torch.no_grad():
            return network.run_network(network.preprocess(batch["img"]))

    def litert() -> object:
        return engine.results(engine.input_codes(batch))  # type: ignore[operator]

    times = interleave({"litert": litert, "torch": lambda: run(model)}, repeat)
    return [Row("--engine litert, raw maps", times["litert"], times["torch"], "the torch executor", None)]


def qat_profiles(parts: Parts, repeat: int) -> list[Row]:
    """A step in the integers of each arithmetic against a float step, both in float32 and both in bfloat16."""
    settled = parts.model()
    settle(settled, parts)
    rows = []
    for name, mixed in (("float32", False), ("bfloat16", True)):
        processor = {**parts.config["batch_processor"], "enable_amp": mixed}
        steppers: dict[str, Stepper] = {"float": parts.trainer(batch_processor=processor)}
        for arithmetic in PROFILES:
            pipeline = ModelConvertPipeline(converters=[Float2QAT()], qconfig_params={"arithmetic": arithmetic})
            steppers[arithmetic] = parts.trainer(
                model=copy.deepcopy(settled), batch_processor=processor, model_convert_pipeline=pipeline
            )
        times = interleave({key: stepper.step for key, stepper in steppers.items()}, repeat)
        for stepper in steppers.values():
            stepper.close()
        rows += [
            Row(f"qat_step {a}, {name}", times[a], times["float"], f"float step in {name}", QAT_TARGET)
            for a in PROFILES
        ]
    return rows


@torch.no_grad()
def _graph(parts: Parts, arithmetic: str) -> IntGraph:
    model: Any = parts.model()
    settle(model, parts)
    pipeline = ModelConvertPipeline(converters=[Float2QAT()], qconfig_params={"arithmetic": arithmetic})
    quantized = pipeline(model.eval())
    assert isinstance(quantized, QuantizedDetector)
    quantized.run_network(network_input(parts))
    quantized.set_observing(False)
    return quantized.int_graph(IMAGE_SIZE)
