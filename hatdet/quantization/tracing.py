"""Tracing a float network into the few forms that have integers behind them, and naming everything that has none.

:func:`trace` gives a GraphModule of modules (functions have become modules, every call has a module object of its own)
plus ``operator.add``, ``operator.mul`` and ``torch.cat``. Parameters are those of the network itself.
"""

from __future__ import annotations

import copy
import operator
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, fx, nn

from hatdet.quantization import functional
from hatdet.quantization.functional import ADDITIONS, CONCATENATIONS, PASSING, PRODUCTS, NoModule
from hatdet.quantization.shared_conv import LeafConv2d, trace_module

LIMITS: dict[type[nn.Module], str] = {nn.ReLU6: "relu6", nn.ReLU: "relu"}
"""Activations that only limit their input; a convolution or an addition takes them in."""

OWN_ACTIVATIONS: dict[type[nn.Module], str] = {
    nn.Hardswish: "hardswish",
    nn.SiLU: "silu",
    nn.Sigmoid: "sigmoid",
    nn.Hardsigmoid: "hardsigmoid",
}
"""Activations that are operators of their own (a hardsigmoid where no convolution takes it in)."""

AVERAGE_POOL_KERNEL = 8
"""Largest average pooling: what accelerators take."""

_ALLOWED = (
    "use convolutions, ReLU, ReLU6, Hardsigmoid, Hardswish, SiLU, Sigmoid, addition, product, concatenation, pooling, "
    "nearest or bilinear upsampling and zero padding"
)
_INSTEAD: dict[str, str] = {
    "LeakyReLU": "use ReLU, ReLU6 or Hardswish",
    "PReLU": "use ReLU, ReLU6 or Hardswish",
    "ELU": "use ReLU, ReLU6 or Hardswish",
    "GELU": "use SiLU or Hardswish",
    "Mish": "use SiLU or Hardswish, or ReLU6 where speed counts",
    "Softplus": "use ReLU",
    "Tanh": "use Hardswish, or a Sigmoid",
    "Softmax": "leave it to the post-processing: give the raw maps as outputs",
    "GroupNorm": "use BatchNorm2d directly after a convolution: it folds into the weights",
    "LayerNorm": "use BatchNorm2d directly after a convolution: it folds into the weights",
    "InstanceNorm2d": "use BatchNorm2d directly after a convolution: it folds into the weights",
    "ConvTranspose2d": "use Upsample(scale_factor=2) and a convolution",
    "PixelShuffle": "use Upsample(scale_factor=2) and a convolution",
    "Linear": "use Conv2d with kernel 1 on a (B, C, 1, 1) map",
    "conv2d": "call an nn.Conv2d module, so that its weight can be quantized",
    "sub": "use an addition; a sign belongs into the convolution before it",
    "chunk": "use one convolution for each part",
    "split": "use one convolution for each part",
    "getitem": "use one convolution for each part",
    "flatten": "give (B, C, H, W) maps as outputs; reshaping belongs to the post-processing",
    "reshape": "give (B, C, H, W) maps as outputs; reshaping belongs to the post-processing",
    "view": "give (B, C, H, W) maps as outputs; reshaping belongs to the post-processing",
    "permute": "give (B, C, H, W) maps as outputs; reshaping belongs to the post-processing",
}


@dataclass(frozen=True)
class Problem:
    """An operator without integer form: the module path, what it is, and what to use instead."""

    path: str
    what: str
    instead: str

    def __str__(self) -> str:
        return f"{self.path}: {self.what}; {self.instead}"


class AddActivation(nn.Module):
    """An addition and the ReLU or ReLU6 after it, as one operator."""

    def __init__(self, act: nn.Module) -> None:
        super().__init__()
        self.act = act

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return cast(Tensor, self.act(a + b))


class Requantize(nn.Identity):
    """A change of quantization in front of a concatenation, where an input's own is fixed."""


def unsupported_operators(network: nn.Module) -> list[Problem]:
    """Everything in a float network (``forward(x)`` -> tuple of maps) that has no integer form; [] where all has.

    Batch normalization directly after a convolution counts as folded. The network is not changed.
    """
    training = network.training
    try:
        return trace(network.eval(), folds=True)[1]
    finally:
        network.train(training)


def trace(network: nn.Module, folds: bool = False) -> tuple[fx.GraphModule, list[Problem]]:
    """The network in canonical form, and what in it has no integer form.

    ``folds``: pass over batch normalization that ``fuse_bn`` would fold; otherwise it is a problem.
    """
    try:
        traced = trace_module(network)
    except Exception as error:  # whatever the user's own forward raises when given a proxy
        text = str(error).strip().splitlines()
        what = f"torch.fx cannot trace {type(network).__name__}.forward: {text[0] if text else type(error).__name__}"
        return fx.GraphModule({}, fx.Graph()), [
            Problem(type(network).__name__, what, "a forward must not branch on tensors or their sizes")
        ]
    return traced, _Canonical(traced, folds).run()


class _Canonical:
    """Rewrites one traced network in place, collecting problems."""

    def __init__(self, traced: fx.GraphModule, folds: bool) -> None:
        self.traced, self.folds = traced, folds
        self.problems: list[Problem] = []
        self.constants: set[fx.Node] = set()

    def run(self) -> list[Problem]:
        self._separate_calls()
        refused: set[Any] = set()
        for node in list(self.traced.graph.nodes):
            if self._is_constant(node):
                self.constants.add(node)
                continue
            try:
                self._rewrite(node)
            except NoModule as error:
                if node.target is not operator.getitem or node.args[0] not in refused:
                    self.problems.append(Problem(self._path(node), *error.args))
                refused.add(node)
        self._join_additions()
        self._requantize_fixed()
        self.traced.graph.lint()
        self.traced.recompile()
        return self.problems

    def module(self, node: Any) -> nn.Module | None:
        if not isinstance(node, fx.Node) or node.op != "call_module":
            return None
        return self.traced.get_submodule(str(node.target))

    def _path(self, node: fx.Node) -> str:
        """Where the user finds a node: its module, or the module whose forward calls the function."""
        if node.op == "call_module":
            return str(node.target)
        owners = [str(name) for name in node.meta.get("nn_module_stack") or {}]
        return f"{owners[-1]} ({node.name})" if owners and owners[-1] else node.name

    def _is_constant(self, node: fx.Node) -> bool:
        """Parameters, sizes, and what is computed from them alone: a problem only where an operator uses them."""
        if node.op == "get_attr" or (node.target is getattr and node.args[1] == "shape"):
            return True
        sources = node.all_input_nodes
        computed = node.op.startswith("call") and bool(sources) and all(n in self.constants for n in sources)
        return computed or (node.op == "call_method" and node.target == "size")

    def _is_tensor(self, value: Any) -> bool:
        return isinstance(value, fx.Node) and value not in self.constants

    def _rewrite(self, node: fx.Node) -> None:
        module = self.module(node)
        if node.op == "placeholder":
            if sum(n.op == "placeholder" for n in self.traced.graph.nodes) > 1:
                raise NoModule("an input of its own", "the network takes one image tensor")
        elif node.op == "output":
            return
        elif module is None:
            self._rewrite_function(node)
        elif isinstance(module, (nn.Identity, nn.Dropout, nn.Dropout2d)) or self._folds(node, module):
            self._bypass(node)
        else:
            self._rewrite_module(node, module)

    def _rewrite_function(self, node: fx.Node) -> None:
        if node.target in PASSING:
            return self._bypass(node)
        if functional.is_in_place(node, None):
            self._overwrite(node)
        for targets, target in ((ADDITIONS, operator.add), (PRODUCTS, operator.mul)):
            if node.target in targets:
                if len(node.args) != 2 or node.kwargs or not all(self._is_tensor(a) for a in node.args):
                    kind = "an addition" if target is operator.add else "a product"
                    raise NoModule(f"{kind} with a constant", "fold it into the convolution before it")
                node.op, node.target = "call_function", target
                return None
        if node.target in CONCATENATIONS:
            return self._concatenation(node)
        module = functional.replacement(node)
        if module is None:
            name = str(getattr(node.target, "__name__", node.target))
            raise NoModule(f"{name} has no integer form", _INSTEAD.get(name.strip("_"), _ALLOWED))
        self._rewrite_module(self._as_module(node, module), module)
        return None

    def _concatenation(self, node: fx.Node) -> None:
        a = {**dict(zip(("tensors", "dim"), node.args, strict=False)), **node.kwargs}
        dim = a.get("dim", a.get("axis", 0))
        if dim not in (1, -3):
            raise NoModule(f"a concatenation along dim={dim}", "only channels (dim=1) can be concatenated")
        if not isinstance(a["tensors"], (tuple, list)) or not all(self._is_tensor(n) for n in a["tensors"]):
            raise NoModule("a concatenation with a constant", "concatenate computed tensors only")
        node.target, node.args, node.kwargs = torch.cat, (list(a["tensors"]),), {"dim": 1}

    def _rewrite_module(self, node: fx.Node, module: nn.Module) -> None:
        check_module(module)
        if not self._is_tensor(node.args[0] if node.args else None):
            raise NoModule(f"{type(module).__name__} of a constant", "apply it to computed tensors only")
        if functional.is_in_place(node, module):
            self._overwrite(node)
            module = copy.copy(module)
            module.inplace = False  # type: ignore[assignment]
            self._put(node, module)
        if type(module) is nn.Hardtanh:
            self._put(node, functional.clamp(module.min_val, module.max_val))
        if isinstance(module, nn.AvgPool2d) and _pair(module.padding) != (0, 0):
            rows, columns = _pair(module.padding)
            pad = nn.ZeroPad2d((columns, columns, rows, rows))
            with self.traced.graph.inserting_before(node):
                first = self.traced.graph.call_module(self._add(f"{node.target}_pad", pad), (node.args[0],))
            first.meta = dict(node.meta)
            node.args = (first,)
            self._put(node, nn.AvgPool2d(module.kernel_size, module.stride))

    def _folds(self, node: fx.Node, module: nn.Module) -> bool:
        """Whether a batch normalization goes into the convolution before it."""
        if not isinstance(module, (nn.BatchNorm2d, nn.SyncBatchNorm)):
            return False
        source = cast(fx.Node, node.args[0])
        if not self.folds:
            raise NoModule("batch normalization that is not folded", "fold it first: FuseBN, or fuse_bn(model)")
        if type(self.module(source)) is not nn.Conv2d or len(source.users) != 1:
            raise NoModule(
                f"{type(module).__name__} does not follow a convolution of its own",
                "put it directly after a convolution whose output nothing else uses: it folds into the weights",
            )
        return True

    def _bypass(self, node: fx.Node) -> None:
        node.replace_all_uses_with(cast(fx.Node, node.args[0]))
        self.traced.graph.erase_node(node)

    def _overwrite(self, node: fx.Node) -> None:
        """After an in-place operator, later readers of its input see its result."""
        source = node.args[0]
        order = {n: i for i, n in enumerate(self.traced.graph.nodes)}
        if isinstance(source, fx.Node):
            for user in list(source.users):
                if order[user] > order[node]:
                    user.replace_input_with(source, node)

    def _add(self, path: str, module: nn.Module) -> str:
        """Add a module under a path that nothing has yet."""
        taken, unique, number = dict(self.traced.named_modules(remove_duplicate=False)), path, 1
        while unique in taken:
            unique, number = f"{path}@{number}", number + 1
        self.traced.add_submodule(unique, module)
        return unique

    def _put(self, node: fx.Node, module: nn.Module) -> None:
        """Let ``node``, the only caller of its module, call another one under the same path."""
        parent, _, name = str(node.target).rpartition(".")
        setattr(self.traced.get_submodule(parent), name, module)

    def _as_module(self, node: fx.Node, module: nn.Module) -> fx.Node:
        owners = [str(name) for name in node.meta.get("nn_module_stack") or {}]
        path = f"{owners[-1]}.{node.name}" if owners and owners[-1] else node.name
        with self.traced.graph.inserting_before(node):
            new = self.traced.graph.call_module(self._add(path, module), (node.args[0],))
        new.meta = dict(node.meta)
        node.replace_all_uses_with(new)
        self.traced.graph.erase_node(node)
        return new

    def _separate_calls(self) -> None:
        """A module that is called again gets another object for it, ``path@1``, with the same parameters."""
        seen: set[int] = set()
        paths: set[str] = set()
        for node in self.traced.graph.nodes:
            module = self.module(node)
            if module is None:
                continue
            if id(module) in seen:
                module = copy.copy(module)
                module._parameters = dict(module._parameters)
                if str(node.target) in paths:
                    node.target = self._add(str(node.target), module)
                else:  # one module under several names
                    self._put(node, module)
            seen.add(id(module))
            paths.add(str(node.target))

    def _join_additions(self) -> None:
        """An addition that only feeds a ReLU or ReLU6 becomes one operator with it."""
        for node in list(self.traced.graph.nodes):
            module = self.module(node)
            source = node.args[0] if node.args else None
            if type(module) in LIMITS and isinstance(source, fx.Node) and source.target is operator.add:
                if len(source.users) == 1:
                    assert module is not None
                    self._put(node, AddActivation(module))
                    node.args = source.args
                    self.traced.graph.erase_node(source)

    def _requantize_fixed(self) -> None:
        """Put a :class:`Requantize` in front of concatenations whose inputs cannot share one quantization.

        Sigmoids' outputs and the network's input have fixed ones; everything else can share that of the concatenation.
        """
        fixed: dict[fx.Node, str | None] = {}
        for node in list(self.traced.graph.nodes):
            module = self.module(node)
            if node.op == "placeholder":
                fixed[node] = "input"
            elif isinstance(module, (nn.Sigmoid, nn.Hardsigmoid)):
                fixed[node] = "sigmoid"
            elif node.target is torch.cat:
                kinds = {fixed.get(n) for n in node.all_input_nodes}
                if len(kinds) > 1:
                    self._requantize_inputs(node, fixed)
                fixed[node] = kinds.pop() if len(kinds) == 1 else None
            elif passes_quantization(module):
                fixed[node] = fixed.get(node.all_input_nodes[0]) if node.all_input_nodes else None

    def _requantize_inputs(self, node: fx.Node, fixed: dict[fx.Node, str | None]) -> None:
        for source in node.all_input_nodes:
            if fixed.get(source) is not None:
                path = self._add(f"{node.name}_requantize", Requantize())
                with self.traced.graph.inserting_before(node):
                    new = self.traced.graph.call_module(path, (source,))
                node.replace_input_with(source, new)


def passes_quantization(module: nn.Module | None) -> bool:
    """Whether an operator's output has the quantization of its input."""
    passing = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.Upsample, nn.ZeroPad2d)
    return isinstance(module, passing) or type(module) in LIMITS


def check_module(module: nn.Module) -> None:
    """Check that a module with these settings has an integer form.

    Raises:
        NoModule: it has none.
    """
    name = type(module).__name__
    if type(module) is nn.Conv2d or isinstance(module, LeafConv2d):
        if module.padding_mode != "zeros" or isinstance(module.padding, str):
            raise NoModule(f"{name} with padding {module.padding!r} ({module.padding_mode})", "set padding=k // 2")
    elif isinstance(module, nn.MaxPool2d):
        if module.ceil_mode or _pair(module.dilation) != (1, 1):
            raise NoModule("max pooling with ceil_mode or dilation", "leave both out")
    elif isinstance(module, nn.AvgPool2d):
        if module.ceil_mode or module.divisor_override is not None:
            raise NoModule("average pooling with ceil_mode or divisor_override", "leave both out")
        if max(_pair(module.kernel_size)) > AVERAGE_POOL_KERNEL:
            raise NoModule(
                f"average pooling with kernel {module.kernel_size}",
                f"at most {AVERAGE_POOL_KERNEL}, or AdaptiveAvgPool2d(1) for a whole map",
            )
        if not module.count_include_pad and _pair(module.padding) != (0, 0):
            raise NoModule("average pooling that leaves padding out", "set count_include_pad=True or padding=0")
    elif isinstance(module, nn.AdaptiveAvgPool2d):
        if module.output_size not in (1, (1, 1), [1, 1]):
            raise NoModule(
                f"AdaptiveAvgPool2d to {module.output_size}: only the average of a whole map has an integer form",
                "set output_size=1, or use AvgPool2d",
            )
    elif isinstance(module, nn.Upsample):
        _check_upsample(module)
    elif isinstance(module, nn.Hardtanh):
        functional.clamp(module.min_val, module.max_val)
    elif isinstance(module, nn.ZeroPad2d):
        if min(module.padding) < 0:
            raise NoModule(f"padding by {tuple(module.padding)}", "crop nothing: pad by numbers of 0 and up")
    elif type(module) not in LIMITS and type(module) not in OWN_ACTIVATIONS:
        raise NoModule(f"{name} has no integer form", _INSTEAD.get(name, _ALLOWED))


def _check_upsample(module: nn.Upsample) -> None:
    factor = module.scale_factor
    if module.size is not None:
        raise NoModule("upsampling to a size", "write scale_factor=2: the factor then holds for images of any size")
    factors = set(factor) if isinstance(factor, (tuple, list)) else {factor}
    if len(factors) != 1 or not float(cast(float, next(iter(factors)))).is_integer():
        raise NoModule(f"upsampling by {factor}", "use one whole factor for both axes")
    whole = int(cast(float, factors.pop()))
    if module.mode == "nearest":
        return
    if module.mode != "bilinear":
        raise NoModule(f"upsampling with mode {module.mode!r}", "use 'nearest' or 'bilinear'")
    if module.align_corners:
        raise NoModule("bilinear upsampling with align_corners=True", "set align_corners=False")
    if whole not in (2, 4, 8):
        raise NoModule(f"bilinear upsampling by {whole}", "use a factor of 2, 4 or 8")


def _pair(value: Any) -> tuple[int, int]:
    return (int(value), int(value)) if isinstance(value, int) else (int(value[0]), int(value[1]))
