"""What a recording is made of: calls, their values and their results."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from hatdet.quantization.memory import version

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Input:
    """Stands in a call's arguments for the value of ``node.args[index]``."""

    index: int


@dataclass(frozen=True)
class Call:
    """A recorded call as it was written; values are :class:`Input`, everything else is itself. ``function``: what was
    called, of a call of torch that was recorded; not of a module."""

    op: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    function: Any = None


def shapes_of(node: fx.Node) -> tuple[Shape, ...]:
    """The shapes of a node's result, as maps (:func:`as_map`), for each of the images that it was seen with."""
    return tuple(as_map(shape) for shape in node.meta.get("shapes", ()))


def as_map(shape: Shape) -> Shape:
    """A vector for each image, (B, C), is a map of one pixel, (B, C, 1, 1), to all that comes after recording."""
    return (*shape, 1, 1) if len(shape) == 2 else shape


class Unrecordable(Exception):
    """A forward that cannot be recorded: ``args`` are a module path, what is wrong, and what to do instead.

    ``failed`` is the function that failed, where one did: its path and the call; ``graph`` what came before it.
    """

    failed: tuple[str, Call] | None = None
    graph: fx.Graph | None = None


@dataclass(frozen=True)
class Recording:
    """What one forward computed.

    Attributes:
        graph: ``call_module`` for operators that are modules, ``call_function`` of :func:`recorded` for the others;
            ``meta["call"]`` has the arguments, ``meta["shapes"]`` the result's shape, ``nn_module_stack`` the owners.
        shape: of the image batch.
        form: how the outputs came: ``tuple`` (a tuple or list of maps), ``tensor``, or what else it is.
    """

    graph: fx.Graph
    shape: Shape
    form: str


def recorded(*values: Any) -> Any:
    """Stands in the graph for a function or method; it is replaced before the graph runs."""
    raise AssertionError("a recorded call is not to be run")


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """In eval mode inside; afterwards every module is in the mode that it was in, and every buffer as it was."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    buffers = [(b, version(b), b.detach().clone()) for b in network.buffers()]
    try:
        yield
    finally:
        if network.training != modes[0][1]:
            network.train(modes[0][1])
        with torch.no_grad():
            for buffer, before, value in buffers:
                if version(buffer) != before and buffer.shape == value.shape:
                    buffer.copy_(value)
        for module, mode in modes:
            module.training = mode


def input_name(network: nn.Module) -> str:
    """The name of the one parameter that a network's forward needs."""
    parameters = list(inspect.signature(network.forward).parameters.values())
    needed = [p for p in parameters if p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    needed += [p for p in parameters if p.default is p.empty and p.kind == p.KEYWORD_ONLY]
    if len(needed) > 1:
        raise Unrecordable(needed[1].name, "an input of its own", "the network takes one image tensor")
    return parameters[0].name if parameters else "x"


def positional(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
    """The arguments of a module's call in the order of its forward's parameters."""
    if not kwargs:
        return args
    try:
        bound = inspect.signature(module.forward).bind(*args, **kwargs)
    except (TypeError, ValueError):  # the call itself will say so
        return (*args, *kwargs.values())
    return tuple(bound.arguments.values())


def tensors_of(value: Any) -> list[Tensor]:
    """The tensors in tuples, lists and dicts, flat."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    return [t for v in value for t in tensors_of(v)] if isinstance(value, (tuple, list)) else []


def refuse_changing_hooks(module: nn.Module, path: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Refuse hooks with which an operator gives something else than by itself: the integer operator has none.

    Raises:
        Unrecordable: they do. Hooks that only look on are nobody's business.
    """
    if not (module._forward_hooks or module._forward_pre_hooks) or isinstance(module, torch.jit.ScriptModule):
        return
    plain = module.forward(*copy.deepcopy(args), **copy.deepcopy(kwargs))
    hooked = module(*copy.deepcopy(args), **copy.deepcopy(kwargs))
    pairs = zip(tensors_of(plain), tensors_of(hooked), strict=False)
    if len(tensors_of(plain)) != len(tensors_of(hooked)) or not all(torch.equal(a, b) for a, b in pairs):
        raise Unrecordable(
            path,
            "a forward hook changes what the module takes or gives, and its integers would not",
            "write what the hook does into the forward of the module around it, or remove the hook",
        )


def outputs_of(result: Any) -> tuple[str, list[Any]]:
    """The form of a network's result and what is in it, flat."""
    if isinstance(result, Tensor):
        return "tensor", [result]
    if isinstance(result, (tuple, list)) and result and all(isinstance(v, Tensor) for v in result):
        return "tuple", list(result)
    nested = ("nested " if result else "empty ") if isinstance(result, (tuple, list, dict)) else ""
    return nested + type(result).__name__, _flat(result)


def _flat(value: Any) -> list[Any]:
    if isinstance(value, dict):
        value = list(value.values())
    return [v for part in value for v in _flat(part)] if isinstance(value, (tuple, list)) else [value]


def kind_of(value: Any) -> str:
    """A value in words."""
    return "a tensor" if isinstance(value, Tensor) else f"a {type(value).__name__}"


def drop_unread(graph: fx.Graph) -> None:
    """Erase what no output needs."""
    for node in reversed(list(graph.nodes)):
        if node.op not in ("placeholder", "output") and not node.users:
            graph.erase_node(node)
