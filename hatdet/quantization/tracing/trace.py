"""Tracing a float network into the few forms that have integers behind them, and naming everything that has none.

:func:`trace` gives a GraphModule of modules (functions have become modules, every call has a module object of its own)
plus functions of several values (``Form.functions``). Parameters are those of the network itself.
"""

from __future__ import annotations

import copy
import itertools
import re
from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import fx, nn

from hatdet.quantization.operators.pointwise.limits import LIMITED
from hatdet.quantization.operators.table import CALLS, FUNCTIONS, form_of
from hatdet.quantization.tracing.applied import Applied
from hatdet.quantization.tracing.functional import replacement
from hatdet.quantization.tracing.recorded import Call, Unrecordable, evaluating, shapes_of
from hatdet.quantization.tracing.refusals import (
    NORMS,
    NoMap,
    NoModule,
    OddArguments,
    Problem,
    SizeDependent,
    check_norm,
    instead_of_convolution,
    no_form,
    refused_at_once,
)
from hatdet.quantization.tracing.requantizing import requantize_fixed
from hatdet.quantization.tracing.rewriting.expansions import read_through
from hatdet.quantization.tracing.rewriting.folding import Graph, join_affines, settle_affines
from hatdet.quantization.tracing.rewriting.gates import split_gates
from hatdet.quantization.tracing.rewriting.handwritten import write_short
from hatdet.quantization.tracing.rewriting.patterns import recognise
from hatdet.quantization.tracing.two_sizes import merge, recordings


def unsupported_operators(network: nn.Module) -> list[Problem]:
    """Everything in a float network (``forward(x)`` -> tuple of maps) that has no integer form; [] where all has.

    Batch normalization directly after a convolution counts as folded. The network is not changed.
    """
    return trace(network, folds=True)[1]


def trace(network: nn.Module, folds: bool = False, constants: bool = True) -> tuple[fx.GraphModule, list[Problem]]:
    """The network in canonical form, as it is in eval mode, and what in it has no integer form.

    The network is not changed. ``meta`` of the GraphModule has ``input_shape`` (of a batch that the network takes) and
    ``form`` (how the network gives its outputs: ``tuple``, ``tensor`` or another type; the GraphModule gives a tuple).

    Args:
        folds: pass over batch normalization that ``fuse_bn`` would fold; otherwise it is a problem.
        constants: fold products and sums with constants into convolutions (:mod:`~.folding`).
    """
    if refused := refused_at_once(network):
        return fx.GraphModule({}, fx.Graph()), refused
    best: tuple[fx.GraphModule, list[Problem]] | None = None
    failed: Unrecordable | None = None
    with evaluating(network):
        try:
            for made in recordings(network):
                recording = merge(network, made)
                traced = fx.GraphModule(network, recording.graph)
                traced.meta.update(input_shape=recording.shape, form=recording.form)
                canonical = _Canonical(traced, folds, constants)
                problems = canonical.run()
                if best is None or len(problems) < len(best[1]):
                    best = traced, problems
                if not canonical.depends_on_size:
                    break
        except Unrecordable as error:
            failed = failed or error
    if best is None:
        assert failed is not None
        return fx.GraphModule({}, fx.Graph()), _problems_of(failed, network)
    return best


def _problems_of(error: Unrecordable, network: nn.Module) -> list[Problem]:
    """Of a forward that fails: operators without integer form on the way to there are said first."""
    if error.graph is not None:
        error.graph.output(())
        found = _Canonical(fx.GraphModule(network, error.graph), folds=True).run()
        if found:
            return found
    return [_problem_of(error)]


def _problem_of(error: Unrecordable) -> Problem:
    if error.failed is not None:
        path, call = error.failed
        try:
            if replacement(Applied(call, ())) is None and call.op not in CALLS:
                raise no_form(call.op)
        except NoModule as refusal:
            if not isinstance(refusal, OddArguments):  # else the function itself has them not
                return Problem(path, *refusal.args)
    return Problem(*error.args)


class _Canonical:
    """Rewrites one recorded network in place, collecting problems."""

    def __init__(self, traced: fx.GraphModule, folds: bool, constants: bool = True) -> None:
        self.traced, self.folds, self.constants = traced, folds, constants
        tensors = itertools.chain(traced.parameters(), traced.buffers())
        self.device = next(tensors, torch.zeros(())).device
        self.problems: list[Problem] = []
        self.depends_on_size = False

    def run(self) -> list[Problem]:
        self._separate_calls()
        for node in self.traced.graph.nodes:
            node.meta["vectors"] = all(len(s) == 2 for n in node.all_input_nodes for s in n.meta.get("shapes", ()))
        read_through(self.traced)
        recognise(self.traced, self._add)
        split_gates(self.traced, self._add)
        refused: dict[fx.Node, Problem | None] = {}
        for node in list(self.traced.graph.nodes):
            try:
                self._rewrite(node)
            except NoModule as error:
                follows = isinstance(error, NoMap) or _call(node).op in ("getitem", "view")
                said = follows and any(n in refused for n in node.all_input_nodes)
                refused[node] = None if said else Problem(self._path(node), *error.args)
                self.depends_on_size |= isinstance(error, SizeDependent)
        serving = self._serving(refused)
        found = [problem for node, problem in refused.items() if problem is not None and node not in serving]
        self.problems = list(dict.fromkeys(found))  # a module that is called again is one problem
        if not self.problems:
            self._separate_outputs()
            self._settle_constants()
            self._join_limits()
            requantize_fixed(self.traced, self._add)
            self.traced.graph.lint()
            self.traced.recompile()
        return self.problems

    def _serving(self, refused: Mapping[fx.Node, Problem | None]) -> set[fx.Node]:
        """What only computes arguments of refused modules besides their map: where one reads, for example."""
        found: set[fx.Node] = set()
        for node in reversed(list(self.traced.graph.nodes)):
            named = [u for u in node.users if u.op == "call_module" and refused.get(u) and u.args[0] is not node]
            if node.users and all(u in found or u in named for u in node.users):
                found.add(node)
        return found

    def module(self, node: Any) -> nn.Module | None:
        if not isinstance(node, fx.Node) or node.op != "call_module":
            return None
        return self.traced.get_submodule(str(node.target))

    def _path(self, node: fx.Node) -> str:
        """Where the user finds a node: its module, or the module whose forward calls the function."""
        if node.op == "call_module":
            return re.sub(r"@\d+$", "", str(node.target))  # of a module that is called again
        owner = _owner(node)
        return f"{owner} ({node.name})" if owner else node.name

    def _rewrite(self, node: fx.Node) -> None:
        module = node.meta["module"] = self.module(node)
        if node.op in ("placeholder", "output"):
            return
        if node.meta.get("drawn"):
            raise NoModule(f"{_call(node).op} with random numbers", "draw them under `if self.training:` only")
        if module is None:
            self._rewrite_function(node)
        elif isinstance(module, NORMS):
            self._check_norm(node, module)
            self._bypass(node)
        else:
            if form_of(module) is not None and any(argument is not None for argument in _call(node).args[1:]):
                name = type(module).__name__
                raise NoModule(f"{name} called with more than a map", f"give the rest to the constructor of {name}")
            self._rewrite_module(node, module)

    def _rewrite_function(self, node: fx.Node) -> None:
        call = _call(node)
        several, applied = CALLS.get(call.op), Applied(call, shapes_of(node.all_input_nodes[0]))
        module = replacement(applied) if several is None else several.alone(applied)
        if several is not None and module is None:
            return several.rewrite(node, call)
        if module is None:
            raise no_form(call.op)
        if isinstance(module, nn.Identity):
            return self._bypass(node)
        if len(node.args) != 1:
            raise NoModule(f"{call.op} with computed arguments", "give them as fixed numbers")
        self._rewrite_module(self._as_module(node, module), module)
        return None

    def _rewrite_module(self, node: fx.Node, module: nn.Module) -> None:
        form = form_of(module)
        if form is None:
            if isinstance(module, nn.Conv2d):
                name = type(module).__name__
                raise NoModule(f"{name} has no integer form", instead_of_convolution(name))
            raise no_form(type(module).__name__)
        form.check(module)
        if type(module) in form.of_vectors and not node.meta["vectors"]:
            raise NoModule(
                f"{type(module).__name__} of something that is no (B, C) vector",
                "flatten a (B, C, 1, 1) map before it, or use Conv2d with kernel 1 on maps",
            )
        if len(node.args) != 1 or any(len(shape) != 4 for shape in shapes_of(cast(fx.Node, node.args[0]))):
            raise NoMap(f"{type(module).__name__} of something that is no map", "apply it to (B, C, H, W) tensors")
        form.check_maps(module, [(shape[2], shape[3]) for shape in shapes_of(cast(fx.Node, node.args[0]))])
        if getattr(module, "inplace", False):  # the recording has seen to who reads the result
            module = copy.copy(module)
            module.inplace = False  # type: ignore[assignment]
        *before, (_, last) = form.canonical(module)
        for suffix, part in before:
            with self.traced.graph.inserting_before(node):
                first = self.traced.graph.call_module(self._add(f"{node.target}{suffix}", part), (node.args[0],))
            first.meta = dict(node.meta)
            node.args = (first,)
        if last is not self.module(node):
            self._put(node, last)

    def _check_norm(self, node: fx.Node, module: nn.Module) -> None:
        """Whether a batch normalization goes into the convolution before it."""
        source = cast(fx.Node, node.args[0])
        if not self.folds:
            raise NoModule("batch normalization that is not folded", "fold it first: FuseBN, or fuse_bn(model)")
        check_norm(module, source.meta["module"], source)  # as it was before it became canonical

    def _bypass(self, node: fx.Node) -> None:
        node.replace_all_uses_with(cast(fx.Node, node.args[0]))
        self.traced.graph.erase_node(node)

    def _add(self, path: str, module: nn.Module) -> str:
        return add_module(self.traced, path, module)

    def _put(self, node: fx.Node, module: nn.Module) -> None:
        """Let ``node``, the only caller of its module, call another one under the same path."""
        parent, _, name = str(node.target).rpartition(".")
        setattr(self.traced.get_submodule(parent), name, module)

    def _as_module(self, node: fx.Node, module: nn.Module) -> fx.Node:
        owner = _owner(node)
        path = f"{owner}.{node.name}" if owner else node.name
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

    def _separate_outputs(self) -> None:
        """An output that is another one too, or the image itself, becomes a copy: a pooling by 1 keeps the codes."""
        output = next(node for node in reversed(self.traced.graph.nodes) if node.op == "output")
        taken: list[fx.Node] = []
        for index, node in enumerate(cast(tuple[fx.Node, ...], output.args[0])):
            if node in taken or node.op == "placeholder":
                with self.traced.graph.inserting_before(output):
                    path = self._add(f"output_{index}", nn.MaxPool2d(1))
                    node = self.traced.graph.call_module(path, (node,))
            taken.append(node)
        output.args = (tuple(taken),)

    def _settle_constants(self) -> None:
        """Products and sums with constants, as activations that are written out and as weights."""
        graph = Graph(self.traced, self._as_module)
        join_affines(graph)
        write_short(graph)
        settle_affines(graph, self.constants, self.device)

    def _join_limits(self) -> None:
        """A function that only feeds limits (a ReLU, ...) becomes one operator with them, where there is such a one."""
        for node in list(self.traced.graph.nodes):
            module = self.module(node)
            source = node.args[0] if node.args else None
            if type(module) in LIMITED and isinstance(source, fx.Node) and source.op == "call_function":
                limited = FUNCTIONS[source.target].limited
                if limited is not None and len(source.users) == 1:
                    assert module is not None
                    self._put(node, limited(module))
                    node.args = source.args
                    self.traced.graph.erase_node(source)


def add_module(traced: fx.GraphModule, path: str, module: nn.Module) -> str:
    """Add a module under a path that nothing has yet; returns that."""
    taken, unique, number = dict(traced.named_modules(remove_duplicate=False)), path, 1
    while unique in taken:
        unique, number = f"{path}@{number}", number + 1
    traced.add_submodule(unique, module)
    return unique


def _call(node: fx.Node) -> Call:
    return node.meta.get("call") or Call(node.op, (), {})


def _owner(node: fx.Node) -> str:
    """Path of the module whose forward calls a function; '' for the network itself."""
    owners = [str(name) for name in node.meta.get("nn_module_stack") or {}]
    return owners[-1] if owners else ""
