"""The one module that talks to ``torch.ao.quantization``'s FX mode: tracing, fusing and inserting the quantizers.

``prepare`` gives a GraphModule whose values pass through :class:`ActivationFakeQuantize` modules (one object where
operators must share their quantization) and whose convolutions are :class:`QuantizedConv2d`. ``plan`` reads it into
a plain list of steps; everything else in hatdet works on that list, so another front end needs to replace this file
alone.
"""

from __future__ import annotations

import operator
import warnings
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from hatdet.integer.activations import UNIT_INTERVAL
from hatdet.quantization.fake_quant import ActivationFakeQuantize, WeightFakeQuantize

ACTIVATIONS: dict[type[nn.Module], str] = {nn.ReLU6: "relu6", nn.ReLU: "relu", nn.Hardsigmoid: "hardsigmoid"}
"""Activations that a convolution takes in."""

OWN_ACTIVATIONS: dict[type[nn.Module], str] = {nn.Hardswish: "hardswish", nn.SiLU: "silu", nn.Sigmoid: "sigmoid"}
"""Activations that are operators of their own."""


SHARING = ("concat", "max_pool", "resize_nearest", "global_average_pool")
"""Operators whose inputs and output must have one quantization."""


class ConvAct(nn.Sequential):
    """A convolution and the activation fused into it, before it becomes a :class:`QuantizedConv2d`."""

    def __init__(self, conv: nn.Conv2d, act: nn.Module) -> None:
        super().__init__(conv, act)


class QuantizedConv2d(nn.Conv2d):
    """A convolution with fused activation whose weights are quantized; its forward is torch.ao's fake quantization.

    Hardsigmoid costs nothing in integers: hardsigmoid(a) = clamp((a + 3) / 6, 0, 1), so 1/6 goes into the weight
    scales, 3 into the bias, and the clamp is that of the output, which is quantized with ``UNIT_INTERVAL``.
    """

    activation: str
    weight_fake_quant: WeightFakeQuantize

    @classmethod
    def from_float(cls, module: nn.Module, use_precomputed_fake_quant: bool = False) -> QuantizedConv2d:
        conv = cast(nn.Conv2d, module[0] if isinstance(module, ConvAct) else module)
        kind = ACTIVATIONS[type(module[1])] if isinstance(module, ConvAct) else "none"
        if conv.padding_mode != "zeros" or isinstance(conv.padding, str):
            raise ValueError("only zero padding given as numbers has an integer form; set padding=k // 2")
        new = cls(
            conv.in_channels, conv.out_channels, _pair(conv.kernel_size), _pair(conv.stride), _pair(conv.padding),
            _pair(conv.dilation), conv.groups,
            bias=True, device="meta",
        )  # fmt: skip
        new.weight = conv.weight
        new.bias = conv.bias if conv.bias is not None else nn.Parameter(torch.zeros_like(conv.weight[:, 0, 0, 0]))
        new.activation = kind
        new.qconfig = module.qconfig  # type: ignore[assignment]
        new.weight_fake_quant = module.qconfig.weight()  # type: ignore[union-attr, operator]
        new.weight_fake_quant.allocate(conv.out_channels, conv.weight.device)
        return new

    @property
    def integer_activation(self) -> str:
        """The activation whose limits clamp the output codes."""
        return "none" if self.activation == "hardsigmoid" else self.activation

    def integer_scale(self) -> Tensor:
        """Weight scales (O,) of the integer convolution."""
        scale = self.weight_fake_quant.scale.detach()
        return scale / 6.0 if self.activation == "hardsigmoid" else scale

    def integer_bias(self) -> Tensor:
        """Bias (O,) to be divided by input scale * weight scale of the simulation, float64."""
        assert self.bias is not None
        bias = self.bias.detach().double()
        return bias + 3.0 if self.activation == "hardsigmoid" else bias

    def observe_weight(self) -> None:
        self.weight_fake_quant.observe(self.weight, self.integer_bias().float())

    def forward(self, x: Tensor) -> Tensor:
        self.observe_weight()
        y = self._conv_forward(x, self.weight_fake_quant(self.weight), self.bias)
        if self.activation == "relu6":
            return F.relu6(y)
        if self.activation == "hardsigmoid":
            return F.hardsigmoid(y)
        return F.relu(y) if self.activation == "relu" else y


@dataclass(frozen=True)
class Step:
    """One operator of the network: ``kind`` is conv, add, mul, activation or one of ``SHARING``."""

    kind: str
    name: str
    inputs: tuple[str, ...]
    output: str
    module: nn.Module | None
    arguments: dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """The network as steps in execution order; ``quantizers`` maps each value to the module that holds its scale."""

    input: str
    outputs: tuple[str, ...]
    steps: tuple[Step, ...]
    quantizers: dict[str, ActivationFakeQuantize]


def prepare(network: nn.Module, observer: str, averaging_constant: float, example: Tensor) -> fx.GraphModule:
    """Trace ``network`` (``forward(x)`` -> tuple of maps), fuse conv + activation, insert the quantizers.

    Raises:
        ValueError: an operator has no integer form (the message names the module), or tracing fails.
    """
    from torch.ao.quantization import QConfig, QConfigMapping, quantize_fx

    qconfig = QConfig(
        activation=ActivationFakeQuantize.with_args(observer=observer, averaging_constant=averaging_constant),
        weight=WeightFakeQuantize,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.ao announces its own move to torchao; nothing a user can act on
        prepared = quantize_fx.prepare_qat_fx(
            _without_identities(network.train()),
            QConfigMapping().set_global(qconfig),
            (example,),
            backend_config=_backend_config(),
        )
    _share_quantizers(prepared)
    _fix_unit_intervals(plan(prepared))
    return prepared


def has_unit_interval(step: Step) -> bool:
    """Whether the kernels demand the quantization ``UNIT_INTERVAL`` of the output: a sigmoid, hard or not."""
    if isinstance(step.module, QuantizedConv2d):
        return step.module.activation == "hardsigmoid"
    return step.kind == "activation" and step.arguments["function"] == "sigmoid"


def _fix_unit_intervals(network_plan: Plan) -> None:
    """Pin the outputs of sigmoids; nothing else may be tied to them."""
    fixed = {id(network_plan.quantizers[s.output]): s.name for s in network_plan.steps if has_unit_interval(s)}
    for step in network_plan.steps:
        quantizer = network_plan.quantizers[step.output]
        if id(quantizer) in fixed and step.kind not in SHARING and not has_unit_interval(step):
            raise ValueError(
                f"{step.name}: its output is concatenated with that of the sigmoid {fixed[id(quantizer)]!r}, whose "
                "quantization is fixed to [0, 1]; keep them apart"
            )
        if has_unit_interval(step):
            quantizer.fix(UNIT_INTERVAL.scale, UNIT_INTERVAL.zero_point)
    if id(network_plan.quantizers[network_plan.input]) in fixed:
        raise ValueError("the network's input is concatenated with the output of a sigmoid; keep them apart")


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
        if step.kind in SHARING:
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


def _without_identities(network: nn.Module) -> fx.GraphModule:
    """Trace, and bypass the Identity modules that folding left between a convolution and its activation."""
    traced = fx.symbolic_trace(network)
    modules = dict(traced.named_modules(remove_duplicate=False))
    for node in list(traced.graph.nodes):
        if node.op == "call_module" and isinstance(modules[str(node.target)], (nn.Identity, nn.Dropout)):
            node.replace_all_uses_with(cast(fx.Node, node.args[0]))
            traced.graph.erase_node(node)
    traced.recompile()
    return traced


def _backend_config() -> Any:
    from torch.ao.quantization.backend_config import BackendConfig, BackendPatternConfig, DTypeConfig, ObservationType

    dtypes = DTypeConfig(torch.qint8, torch.qint8, torch.qint8, torch.float)
    own, shared = (
        ObservationType.OUTPUT_USE_DIFFERENT_OBSERVER_AS_INPUT,
        ObservationType.OUTPUT_SHARE_OBSERVER_WITH_INPUT,
    )

    def pattern(what: Any) -> BackendPatternConfig:
        return BackendPatternConfig(what).set_dtype_configs([dtypes])

    config = BackendConfig("hatdet")
    for act in ACTIVATIONS:
        fused = pattern((nn.Conv2d, act)).set_fuser_method(lambda is_qat, conv, act: ConvAct(conv, act))
        config.set_backend_pattern_config(fused.set_fused_module(ConvAct))
    for conv in (ConvAct, nn.Conv2d):
        made = pattern(conv).set_observation_type(own).set_root_module(nn.Conv2d).set_qat_module(QuantizedConv2d)
        config.set_backend_pattern_config(made.set_reference_quantized_module(nn.Conv2d))
    config.set_backend_pattern_config(pattern(QuantizedConv2d).set_observation_type(own).set_root_module(nn.Conv2d))
    for pairwise in (operator.add, operator.iadd, torch.add, operator.mul, operator.imul, torch.mul):
        config.set_backend_pattern_config(pattern(pairwise).set_observation_type(own))
    for activation in OWN_ACTIVATIONS:
        config.set_backend_pattern_config(pattern(activation).set_observation_type(own))
    for passing in (
        torch.cat,
        nn.MaxPool2d,
        nn.AdaptiveAvgPool2d,
        nn.Upsample,
        nn.Identity,
        F.interpolate,
        F.max_pool2d,
    ):
        config.set_backend_pattern_config(pattern(passing).set_observation_type(shared))
    return config


def plan(graph_module: fx.GraphModule) -> Plan:
    """Read a prepared GraphModule into steps.

    Raises:
        ValueError: an operator without integer form, named with its module path.
    """
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
        elif isinstance(module, (nn.Identity, nn.Dropout)):
            alias[node.name] = value(node.args[0])
        elif node.op == "output":
            outputs = tuple(value(n) for n in _flatten(node.args[0]))
        else:
            kind, inputs, arguments = _describe(node, module)
            name = str(node.target) if node.op == "call_module" else node.name
            steps.append(Step(kind, name, tuple(value(n) for n in inputs), node.name, module, arguments))
    missing = [s.name for s in steps if s.output not in quantizers]
    if missing:
        raise ValueError(f"the output of {missing[0]!r} has no quantizer: it feeds an operator without integer form")
    return Plan(source, outputs, tuple(steps), quantizers)


def _describe(node: fx.Node, module: nn.Module | None) -> tuple[str, tuple[fx.Node, ...], dict[str, Any]]:
    first = cast(fx.Node, node.args[0]) if node.args else None
    if isinstance(module, QuantizedConv2d):
        return "conv", (cast(fx.Node, first),), {}
    if node.target in (operator.add, operator.iadd, torch.add):
        return "add", _nodes(node, node.args[:2]), {}
    if node.target in (operator.mul, operator.imul, torch.mul):
        return "mul", _nodes(node, node.args[:2]), {}
    if type(module) in OWN_ACTIVATIONS:
        return "activation", (cast(fx.Node, first),), {"function": OWN_ACTIVATIONS[cast(Any, type(module))]}
    if isinstance(module, nn.AdaptiveAvgPool2d):
        if module.output_size not in (1, (1, 1), [1, 1]):
            raise ValueError(f"{node.target}: only the average of a whole map (output size 1) has an integer form")
        return "global_average_pool", (cast(fx.Node, first),), {}
    if node.target is torch.cat:
        dim = node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else 0)
        if dim != 1:
            raise ValueError(
                f"{node.name}: only a concatenation along channels (dim=1) has an integer form, got dim={dim}"
            )
        return "concat", _nodes(node, first), {}
    if isinstance(module, nn.MaxPool2d):
        if module.ceil_mode or _pair(module.dilation) != (1, 1):
            raise ValueError(f"{node.target}: max pooling with ceil_mode or dilation has no integer form")
        kernel = _pair(module.kernel_size)
        stride = _pair(module.stride if module.stride is not None else module.kernel_size)
        padding = _pair(module.padding)
        return "max_pool", (cast(fx.Node, first),), {"kernel": kernel, "stride": stride, "padding": padding}
    if isinstance(module, nn.Upsample):
        factor = module.scale_factor
        if module.mode == "nearest" and factor is not None and float(factor).is_integer():  # type: ignore[arg-type]
            return "resize_nearest", (cast(fx.Node, first),), {"factor": int(factor)}  # type: ignore[arg-type]
        raise ValueError(f"{node.target}: only nearest upsampling by a whole factor has an integer form")
    what = type(module).__name__ if module is not None else str(node.target)
    where = node.target if module is not None else node.name
    raise ValueError(
        f"{where}: {what} has no integer form in this version; use convolutions with ReLU, ReLU6 or Hardsigmoid, "
        "Hardswish, SiLU, Sigmoid, addition, product, concatenation, max pooling, global average pooling and nearest "
        "upsampling"
    )


def _nodes(node: fx.Node, values: Any) -> tuple[fx.Node, ...]:
    if not all(isinstance(v, fx.Node) for v in values):
        raise ValueError(f"{node.name}: an operand is a constant; only tensors have an integer form here")
    return tuple(values)


def _flatten(value: Any) -> list[fx.Node]:
    return [n for v in value for n in _flatten(v)] if isinstance(value, (tuple, list)) else [value]


def _pair(value: Any) -> tuple[int, int]:
    return (int(value), int(value)) if isinstance(value, int) else (int(value[0]), int(value[1]))
