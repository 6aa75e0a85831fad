"""Rows about steps of the network: training in float, in integers, and running the integer model."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.floor import convolutions_alone
from benchmarks.parts import IMAGE_SIZE, Parts
from benchmarks.timing import Row, interleave
from hatdet.engine.processes.bfloat16 import depthwise_in_float32, faster_in_bfloat16
from hatdet.integer.executor import IntExecutor
from hatdet.integer.graph import IntGraph
from hatdet.quantization.converters import Float2QAT
from hatdet.quantization.detector import QuantizedDetector

FLOOR_TARGET, MIXED_FLOOR_TARGET = 1.1, 1.15


def train_step(parts: Parts, repeat: int) -> list[Row]:
    """The loop's whole step against the bare network's forward and backward, and against its convolutions alone."""
    stepper = parts.trainer()
    network = copy.deepcopy(parts.model()).network()  # type: ignore[operator]
    images = network_input(parts)

    def bare() -> None:
        for parameter in network.parameters():
            parameter.grad = None
        raw_map_loss(network(images)).backward()

    network.train()
    floor = convolutions_alone(copy.deepcopy(network), images, lambda conv: torch.float32)
    times = interleave({"hatdet": stepper.step, "bare": bare, "floor": floor}, repeat)
    stepper.close()
    return [
        Row("train_step", times["hatdet"], times["bare"], "bare forward + backward", 1.25),
        Row("train_step, to its floor", times["hatdet"], times["floor"], "its convolutions alone", FLOOR_TARGET),
    ]


def qat_step(parts: Parts, repeat: int) -> list[Row]:
    """A training step in the integer forward against one in float, with ranges that move and ranges that are frozen."""
    settled = parts.model()
    settle(settled, parts)
    moving = parts.trainer(model=settled, model_convert_pipeline=Float2QAT(qat_forward="integer"))
    frozen = parts.trainer(model=copy.deepcopy(settled), model_convert_pipeline=Float2QAT(qat_forward="integer"))
    float_step = parts.trainer()
    moving.step()
    frozen.step()
    frozen.trainer.model.set_observing(False)
    times = interleave({"moving": moving.step, "frozen": frozen.step, "float": float_step.step}, repeat)
    for stepper in (moving, frozen, float_step):
        stepper.close()
    return [
        Row(f"qat_step, ranges {name}", times[name], times["float"], "float training step", 1.6)
        for name in ("moving", "frozen")
    ]


def mixed_precision(parts: Parts, repeat: int) -> list[Row]:
    """The training step in bfloat16 against the one in float32, and against its convolutions alone; no targets on a
    processor where it is not faster."""
    mixed = parts.trainer(batch_processor={**parts.config["batch_processor"], "enable_amp": True})
    full = parts.trainer()
    network = copy.deepcopy(parts.model()).network().train()  # type: ignore[operator]
    apart = depthwise_in_float32()
    floor = convolutions_alone(
        network, network_input(parts), lambda c: torch.float32 if apart and c.weight.shape[1] == 1 else torch.bfloat16
    )
    times = interleave({"mixed": mixed.step, "full": full.step, "floor": floor}, repeat)
    for stepper in (mixed, full):
        stepper.close()
    targets = (0.8, MIXED_FLOOR_TARGET) if faster_in_bfloat16() else (None, None)
    return [
        Row("mixed_precision", times["mixed"], times["full"], "float32 training step", targets[0]),
        Row("mixed_precision, to its floor", times["mixed"], times["floor"], "its convolutions alone", targets[1]),
    ]


def integer_executor(parts: Parts, repeat: int) -> list[Row]:
    """The integer graph against the float network it came from (batch normalization as it is trained)."""
    model = parts.model()
    settle(model, parts)
    images = network_input(parts)
    network = copy.deepcopy(model).network().eval()  # type: ignore[operator]
    executor = IntExecutor(integer_graph_of(copy.deepcopy(model), parts))
    codes = (parts.batch["img"].to(torch.int16) - 128).to(torch.int8)

    def float_forward() -> None:
        with torch.no_grad():
            network(images)

    calls: dict[str, Callable[[], object]] = {"integer": lambda: executor(codes), "float": float_forward}
    times = interleave(calls, repeat)
    return [Row("integer_executor", times["integer"], times["float"], "float forward, eval mode", 1.5)]


def network_input(parts: Parts) -> Tensor:
    """The batch's images as the network's float input, channels_last."""
    images = parts.model().preprocess(parts.batch["img"])  # type: ignore[operator]
    return images.contiguous(memory_format=torch.channels_last)


def raw_map_loss(maps: tuple[Tensor, ...]) -> Tensor:
    """The baseline's loss: sum of the means of the raw maps."""
    return torch.stack([m.mean() for m in maps]).sum()


@torch.no_grad()
def settle(model: torch.nn.Module, parts: Parts, steps: int = 4) -> None:
    """Let batch normalization see data: with its initial statistics a random network's maps fade to nothing."""
    images = network_input(parts)
    model.train()
    for _ in range(steps):
        model.run_network(images)  # type: ignore[operator]


@torch.no_grad()
def integer_graph_of(model: torch.nn.Module, parts: Parts) -> IntGraph:
    """Quantize with ranges from the batch, and lower to the integer graph."""
    quantized = Float2QAT()(model.eval())
    assert isinstance(quantized, QuantizedDetector)
    quantized.run_network(network_input(parts))
    quantized.set_observing(False)
    return quantized.int_graph(IMAGE_SIZE)
