"""The one module that talks to ``torch.ao.quantization``'s FX mode: tracing, fusing and inserting the quantizers.

``prepare`` gives a GraphModule whose values pass through :class:`ActivationFakeQuantize` modules (one object where
operators must share their quantization) and whose convolutions are :class:`QuantizedConv2d`. ``plan`` reads it into
a plain list of steps; everything else in hatdet works on that list, so another front end needs to replace this file
alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

from torch import Tensor, fx, nn

from hatdet.integer.agreement.together import Arithmetic
from hatdet.integer.operators.table import OP_TYPES
from hatdet.integer.tensors import QuantParams
from hatdet.quantization.operators.base import Form, Step
from hatdet.quantization.operators.pointwise.requantize import Requantize
from hatdet.quantization.operators.table import FORMS, FUNCTIONS, form_of
from hatdet.quantization.qat.backend import insert_quantizers
from hatdet.quantization.qat.fake_quant import ActivationFakeQuantize, WeightFakeQuantize
from hatdet.quantization.qat.quantized_conv import QuantizedConv2d, QuantizedSharedConv2d
from hatdet.quantization.tracing.comparison import compare_runs, refuse, run
from hatdet.quantization.tracing.refusals import Problem
from hatdet.quantization.tracing.requantizing import requantize_gated
from hatdet.quantization.tracing.trace import add_module, trace, unsupported_operators
from hatdet.quantization.tracing.two_sizes import noise_for
from hatdet.utils.errors import UserError

__all__ = [
    "Plan",
    "Problem",
    "QuantizedConv2d",
    "QuantizedSharedConv2d",
    "Step",
    "plan",
    "prepare",
    "unsupported_operators",
]


GATED = "activation_post_process_gated_"
"""What the quantizers of gated ``Requantize`` are called, with a number."""


@dataclass(frozen=True)
class Plan:
    """The network as steps in execution order; ``quantizers`` maps each value to the module that holds its scale."""

    input: str
    outputs: tuple[str, ...]
    steps: tuple[Step, ...]
    quantizers: dict[str, ActivationFakeQuantize]


def prepare(
    network: nn.Module,
    observer: str,
    averaging_constant: float,
    example: Tensor,
    int16_output: bool = False,
    fold_constants: bool = True,
    arithmetic: Arithmetic | None = None,
) -> fx.GraphModule:
    """Trace ``network`` (``forward(x)`` -> tuple of maps), fuse conv + activation, insert the quantizers.

    Args:
        int16_output: the network's outputs have 16 bits.
        fold_constants: products and sums with constants go into the weights around them, and train with them.
        arithmetic: that of the integers; some need more changes of quantization than the reference.

    Raises:
        UserError: operators without integer form (the message names every one), outputs that cannot have 16 bits, or
            tracing fails.
    """
    traced, problems = trace(network, constants=fold_constants)
    if problems:
        raise UserError("the network has no integer form:\n" + "\n".join(f"  {p}" for p in problems))
    if arithmetic is not None and not arithmetic.takes_equal_gates:
        requantize_gated(traced, partial(add_module, traced))
        traced.graph.lint()
        traced.recompile()
    images = noise_for(network, traced.meta["input_shape"])
    reference = run(network, images, noting=False)
    refuse(compare_runs(reference, traced, images, network), "tracing")
    form = traced.meta["form"]
    prepared = _prepared(traced.train(), observer, averaging_constant, example)
    with resting(prepared):
        refuse(compare_runs(reference, prepared, images, network), "preparing it for quantization")
    prepared.meta.update(form=form, input_shape=traced.meta["input_shape"])
    if int16_output:
        _widen_outputs(plan(prepared))
    return prepared


def _prepared(traced: fx.GraphModule, observer: str, averaging_constant: float, example: Tensor) -> fx.GraphModule:
    """Fuse and insert the quantizers."""
    from torch.ao.quantization import QConfig

    owners = _owners(traced)
    qconfig = QConfig(
        activation=ActivationFakeQuantize.with_args(observer=observer, averaging_constant=averaging_constant),
        weight=WeightFakeQuantize,
    )
    prepared = insert_quantizers(traced, qconfig, example)
    prepared.meta["owners"] = owners
    _name_gated(prepared)
    _share_weight_quantizers(prepared)
    _share_quantizers(prepared)
    network_plan = plan(prepared)
    for step in network_plan.steps:
        if (demanded := fixed_output(step)) is not None:
            network_plan.quantizers[step.output].fix(demanded.scale, demanded.zero_point)
    return prepared


def _name_gated(prepared: fx.GraphModule) -> None:
    """Give the quantizers of gated :class:`Requantize` names apart, and all others the numbers that they have in a
    network without: what a state has of one arithmetic, another finds there."""
    modules = dict(prepared.named_modules(remove_duplicate=False))
    found: dict[str, Any] = {}  # path of a quantizer -> what it reads, in execution order
    for node in prepared.graph.nodes:
        if node.op == "call_module" and isinstance(modules[str(node.target)], ActivationFakeQuantize):
            found.setdefault(str(node.target), modules.get(str(cast(fx.Node, node.args[0]).target)))
    gated = [path for path, source in found.items() if isinstance(source, Requantize) and source.gated]
    if not gated:
        return
    numbered = iter(found)
    new = {path: f"{GATED}{gated.index(path)}" if path in gated else next(numbered) for path in found}
    for path in found:
        delattr(prepared, path)
    for path, name in new.items():
        setattr(prepared, name, modules[path])
    for node in prepared.graph.nodes:
        if node.op == "call_module":
            node.target = new.get(str(node.target), node.target)
    prepared.recompile()


@contextmanager
def resting(prepared: fx.GraphModule) -> Iterator[None]:
    """Without quantizing and observing; afterwards as before."""
    modules = [m for m in prepared.modules() if isinstance(m, (ActivationFakeQuantize, WeightFakeQuantize))]
    before = [(bool(m.observer_enabled[0]), bool(m.fake_quant_enabled[0])) for m in modules]
    for module in modules:
        module.enable_observer(False)
        module.enable_fake_quant(False)
    try:
        yield
    finally:
        for module, (observing, quantizing) in zip(modules, before, strict=True):
            module.enable_observer(observing)
            module.enable_fake_quant(quantizing)


def _widen_outputs(network_plan: Plan) -> None:
    """Give the outputs 16 bits; each must be a convolution's, and nothing else may read it."""
    steps = {step.output: step for step in network_plan.steps}
    readers = {name: step for step in network_plan.steps for name in step.inputs}
    for output in dict.fromkeys(network_plan.outputs):
        step = steps.get(output)
        if step is None or not OP_TYPES[step.kind].wide_output or fixed_output(step) is not None:
            what = "the image itself" if step is None else f"{step.name}, a {step.arguments.get('function', step.kind)}"
            if step is not None and step.kind == "conv":
                what = f"{step.name}, a convolution with a hardsigmoid"
            raise UserError(
                f"int16_output: an output is made by {what}; only convolutions (with ReLU or ReLU6 or without) can "
                "have outputs of 16 bits; leave int16_output out, or end the network with a convolution"
            )
        if output in readers:
            raise UserError(
                f"int16_output: the output of {step.name} is also read by {readers[output].name}, and only outputs "
                "can have 16 bits; leave int16_output out, or give the output a convolution of its own"
            )
        network_plan.quantizers[output].widen()


def fixed_output(step: Step) -> QuantParams | None:
    """The quantization that the kernels demand of the output: of a sigmoid, hard or not."""
    return FORMS[step.kind].fixed_output(step.module)


def _share_weight_quantizers(prepared: fx.GraphModule) -> None:
    """One quantizer for the calls of one module: one weight has one scale, whatever its inputs' scales are."""
    first: dict[tuple[int, int], WeightFakeQuantize] = {}
    for module in prepared.modules():
        if isinstance(module, QuantizedConv2d):
            key = id(module.weight), id(getattr(module, "bn", None))
            module.weight_fake_quant = first.setdefault(key, module.weight_fake_quant)


def _share_quantizers(prepared: fx.GraphModule) -> None:
    """Give every group of values that one operator ties together a single quantizer.

    torch.ao shares within one operator; a chain (a concatenation of a concatenation) needs the union of all.
    """
    network_plan = plan(prepared)
    parent: dict[str, str] = {name: name for name in network_plan.quantizers}

    def root(name: str) -> str:
        while parent[name] != name:
            name = parent[name]
        return name

    first_of: dict[int, str] = {}
    for name, quantizer in network_plan.quantizers.items():
        parent[root(name)] = root(first_of.setdefault(id(quantizer), name))
    for step in network_plan.steps:
        if OP_TYPES[step.kind].shares_scale:
            for name in step.inputs:
                parent[root(name)] = root(step.output)
    chosen = {name: network_plan.quantizers[root(name)] for name in parent}
    modules = dict(prepared.named_modules(remove_duplicate=False))
    for node in prepared.graph.nodes:
        if node.op == "call_module" and isinstance(modules[str(node.target)], ActivationFakeQuantize):
            source = cast(fx.Node, node.args[0])
            while source.name not in chosen:
                source = cast(fx.Node, source.args[0])
            setattr(prepared, str(node.target), chosen[source.name])


def _owners(traced: fx.GraphModule) -> dict[str, str]:
    """Functions by the name of their node -> path of the module whose forward calls them."""
    paths = {n.name: list(n.meta.get("nn_module_stack") or {}) for n in traced.graph.nodes if n.op == "call_function"}
    return {name: str(path[-1]) for name, path in paths.items() if path and path[-1]}


def plan(graph_module: fx.GraphModule) -> Plan:
    """Read a prepared GraphModule into steps."""
    owners: dict[str, str] = graph_module.meta.get("owners", {})
    modules = dict(graph_module.named_modules(remove_duplicate=False))
    alias: dict[str, str] = {}
    quantizers: dict[str, ActivationFakeQuantize] = {}
    steps: list[Step] = []
    source = ""
    outputs: tuple[str, ...] = ()

    def value(node: Any) -> str:
        return alias.get(node.name, node.name)

    for node in graph_module.graph.nodes:
        module = modules.get(node.target) if node.op == "call_module" else None
        if node.op == "placeholder":
            source = node.name
        elif isinstance(module, ActivationFakeQuantize):
            alias[node.name] = value(node.args[0])
            quantizers.setdefault(alias[node.name], module)
        elif node.op == "output":
            outputs = tuple(value(n) for n in _flatten(node.args[0]))
        else:
            form = _form(node, module)
            inputs, arguments = form.inputs(node), form.settings(module)
            path = f"{owners[node.name]}.{node.name}" if node.name in owners else node.name
            name = str(node.target) if node.op == "call_module" else path
            steps.append(Step(form.kind, name, tuple(value(n) for n in inputs), node.name, module, arguments))
    missing = [s.name for s in steps if s.output not in quantizers]
    assert not missing, f"no quantizer behind {missing}"
    return Plan(source, outputs, tuple(steps), quantizers)


def _form(node: fx.Node, module: nn.Module | None) -> Form:
    """The operator of a canonical node (:mod:`hatdet.quantization.tracing` saw to that)."""
    form = FUNCTIONS.get(node.target) if module is None else form_of(module)
    assert form is not None, (node.target, type(module))
    return form


def _flatten(value: Any) -> list[fx.Node]:
    return [n for v in value for n in _flatten(v)] if isinstance(value, (tuple, list)) else [value]
