"""A calibrated network step after step, in float and in the integers that ship, on the same images."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hatdet.integer.islands import quantize_real
from hatdet.integer.operators.table import OP_TYPES
from hatdet.integer.tensors import QuantParams
from hatdet.quantization.operators.base import Run, Step
from hatdet.quantization.operators.table import FORMS
from hatdet.quantization.qat.fx_adapter import Plan
from hatdet.quantization.qat.islands import run_float
from hatdet.quantization.qat.network import QuantizedNetwork, quant_params, quantize
from hatdet.quantization.qat.quantized_conv import QuantizedConv2d

Maps = list[Tensor]
"""One value of the network on all images, in chunks (b, C, H, W)."""


@dataclass(frozen=True)
class Visit:
    """A convolution just before its integers run: its input in float and as the integers before it gave it, in real
    values, and its weights as they were before anything was changed."""

    step: Step
    conv: QuantizedConv2d
    exact: Maps
    rounded: Maps
    weight: Tensor  # (O, I / g, kh, kw)
    bias: Tensor  # (O,)
    own_weight: bool  # no other call has it, of the same module or of another level
    own_bias: bool

    def sums(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The convolution of real values, before its activation."""
        made: Tensor = OP_TYPES[self.step.kind].real({**self.step.arguments, "activation": "none"})([x], weight, bias)
        return made


@torch.no_grad()
def walk(network: QuantizedNetwork, images: Sequence[Tensor]) -> Iterator[Visit]:
    """Visit the convolutions of a calibrated network in the order in which they run.

    What the visitor changes of weight and bias, the convolutions after it see in their rounded inputs; the exact ones
    are those of the network as it was. Layers that are kept in float are not visited; parameters that several calls
    share should stay: one change would have to suit inputs that are not known yet.

    Args:
        network: calibrated, observers off.
        images: normalized, in chunks (b, C, H, W).
    """
    before = copy.deepcopy(network)
    plan, islands = network.plan, network.islands
    params = {name: quant_params(quantizer) for name, quantizer in plan.quantizers.items()}
    last = _last_readers(network)
    users = parameter_users(plan)
    exact: dict[str, Maps] = {plan.input: list(images)}
    rounded: dict[str, Maps] = {plan.input: [quantize(x, params[plan.input]) for x in images]}
    for number, (step, original) in enumerate(zip(plan.steps, before.plan.steps, strict=True)):
        conv = step.module
        if isinstance(conv, QuantizedConv2d) and step.output not in islands:
            assert isinstance(original.module, QuantizedConv2d)
            own = [users[id(parameter)] == 1 for parameter in (conv.weight, conv.bias)]
            source, scale = step.inputs[0], params[step.inputs[0]].scale
            weight, bias = original.module.effective_weight(), original.module.effective_bias()
            yield Visit(step, conv, exact[source], [x * scale for x in rounded[source]], weight, bias, *own)
        made = [_chunk(maps, step.inputs, i) for maps in (exact, rounded) for i in range(len(images))]
        exact[step.output] = [run_float(original, inputs) for inputs in made[: len(images)]]
        rounded[step.output] = [_integers(network, step, inputs, params) for inputs in made[len(images) :]]
        for name in [name for name in exact if last.get(name, -1) <= number]:
            del exact[name], rounded[name]


def parameter_users(plan: Plan) -> Counter[int]:
    """How many convolutions of a plan have a weight or bias, by its ``id``. A module that is called twice stands in it
    as two with the same parameters."""
    convs = {id(step.module): step.module for step in plan.steps if isinstance(step.module, QuantizedConv2d)}
    calls = Counter(id(step.module) for step in plan.steps)
    users: Counter[int] = Counter()
    for key, conv in convs.items():
        for parameter in (conv.weight, conv.bias):
            users[id(parameter)] += calls[key]
    return users


def _chunk(maps: dict[str, Maps], names: Sequence[str], index: int) -> list[Tensor]:
    return [maps[name][index] for name in names]


def _last_readers(network: QuantizedNetwork) -> dict[str, int]:
    """By value: the number of the last step that reads it."""
    return {name: number for number, step in enumerate(network.plan.steps) for name in step.inputs}


def _integers(network: QuantizedNetwork, step: Step, inputs: list[Tensor], params: dict[str, QuantParams]) -> Tensor:
    """Centred codes of a step's output; a layer that is kept in float is rounded for those that read it."""
    y = params[step.output]
    if step.output in network.islands:
        real = run_float(step, [x * params[name].scale for x, name in zip(inputs, step.inputs, strict=True)])
        return quantize_real(real, y)
    quantizer = network.plan.quantizers[step.output]
    run = Run(step, inputs, tuple(params[n] for n in step.inputs), y, quantizer, False, {}, network.profile)
    return FORMS[step.kind].run(run)


def images_that_fit(network: QuantizedNetwork, image: Tensor, most: int, values: int) -> int:
    """How many images a walk can hold, of at most ``most``, where one map of all of them has up to so many values.

    Args:
        image: one (1, C, H, W).
    """
    largest = image.numel()

    def look(_module: object, _inputs: object, output: object) -> None:
        nonlocal largest
        if isinstance(output, Tensor):
            largest = max(largest, output.numel())

    handles = [m.register_forward_hook(look) for m in network.trunk.children()]
    try:
        with torch.no_grad():
            network.trunk(image)
    finally:
        for handle in handles:
            handle.remove()
    return max(1, min(most, values // largest))
