"""Recording what a network computes: its own forward runs on a small image, and every operator is noted.

Nothing is guessed from the source: branches on ``self.training``, sizes, lists and dicts are Python's own business and
are over when an operator is called. A value is known by the memory that holds it, so that after an in-place operator
every other name of that memory means the result, and a clone does not.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, fx, nn
from torch.overrides import TorchFunctionMode

from hatdet.quantization.memory import Memory, version
from hatdet.quantization.qat.shared_conv import LeafConv2d
from hatdet.quantization.tracing.passing import no_numbers_drawn, passed_by_neutral, reaches_beyond, same_value
from hatdet.quantization.tracing.recorded import (
    Call,
    Input,
    Recording,
    Shape,
    Unrecordable,
    drop_unread,
    input_name,
    kind_of,
    outputs_of,
    positional,
    recorded,
    refuse_changing_hooks,
    tensors_of,
)
from hatdet.quantization.tracing.recorded_names import (
    CONSTANT_MAKERS,
    DRAWING,
    READING,
    graph_name,
    operator_name,
)


def is_operator(module: nn.Module) -> bool:
    """Whether a module is one operator, and not a composition of others. A module of a user's own that is one says
    ``one_operator = True``."""
    if isinstance(module, (LeafConv2d, torch.jit.ScriptModule)):
        return True
    ours = type(module).__module__.startswith(("torch.nn.", "torch.ao.nn."))
    if "forward" in vars(module):  # replaced on this object: what that does is recorded
        return False
    if getattr(module, "one_operator", False):
        return True
    return ours and not isinstance(module, (nn.Sequential, nn.DataParallel, fx.GraphModule))


def record(network: nn.Module, image: Tensor) -> Recording:
    """Run ``network`` on an image batch and note what it computes; unread operators are left out.

    The network is in the mode in which it is found: to be called inside ``evaluating``.

    Raises:
        Unrecordable: the forward fails, or decides something by the values of a tensor.
    """
    recorder = _Recorder(network)
    try:
        recorder.begin(image)
        with torch.no_grad(), no_numbers_drawn(network), recorder.modules_watched(), recorder:
            result = network(image)
    except Unrecordable:
        raise
    except Exception as error:  # whatever the user's own forward raises
        if recorder.refusal is None:
            text = (str(error).strip().splitlines() or [type(error).__name__])[0]
            size = f"{image.shape[2]} x {image.shape[3]}"
            recorder.refusal = Unrecordable(
                recorder.failed_at or type(network).__name__,
                f"its forward fails on an image of {size}: {text}",
                "mend it: a network has to take images of any size that its strides divide",
            )
            recorder.refusal.failed, recorder.refusal.graph = recorder.failed_call, recorder.graph
    if recorder.refusal is not None:
        raise recorder.refusal
    return recorder.end(result)


class _Recorder(TorchFunctionMode):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.graph = fx.Graph()
        self.memory = Memory(self._stale)
        self.paths = {id(module): name for name, module in network.named_modules()}
        self.owners: list[tuple[str, type]] = []
        self.inside_operator = False
        self.refusal: Unrecordable | None = None
        self.failed_at = ""
        self.failed_call: tuple[str, Call] | None = None
        self.shape: Shape = ()

    def begin(self, image: Tensor) -> None:
        self.shape = tuple(image.shape)
        node = self.graph.placeholder(input_name(self.network))
        node.meta["shapes"] = (self.shape,)
        self.memory.put(image, node)
        self.memory.learn([*self.network.parameters(), *self.network.buffers()])

    def end(self, result: Any) -> Recording:
        form, outputs = outputs_of(result)
        nodes = []
        for index, value in enumerate(outputs):
            node = self.memory.get(value) if isinstance(value, Tensor) else None
            if node is None and value in self.memory:
                raise Unrecordable(
                    type(self.network).__name__,
                    f"output {index} is a part of a map, or was written in parts",
                    "give whole maps as outputs, and join parts with torch.cat",
                )
            if node is None:
                raise Unrecordable(
                    type(self.network).__name__,
                    f"output {index} is {kind_of(value)}, which does not come from the image",
                    "give maps as outputs that the network computes with torch's own operators",
                )
            nodes.append(node)
        self.graph.output(tuple(nodes))
        drop_unread(self.graph)
        return Recording(self.graph, self.shape, form)

    @contextmanager
    def modules_watched(self) -> Iterator[None]:
        """Every call of a module passes through :meth:`_module_call`."""
        original = nn.Module.__call__

        def call(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
            return self._module_call(original, module, args, kwargs)

        nn.Module.__call__ = call  # type: ignore[method-assign]
        try:
            yield
        finally:
            nn.Module.__call__ = original  # type: ignore[method-assign]

    def _module_call(self, original: Any, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if self.inside_operator:
            return original(module, *args, **kwargs)
        if id(module) not in self.paths:  # made in the forward itself
            self.paths.update((id(m), name) for name, m in self.network.named_modules())
            self.paths.setdefault(id(module), "")
        path = self.paths[id(module)]
        try:
            if path and is_operator(module):
                with torch._C.DisableTorchFunction():  # what happens inside is none of the recording's business
                    return self._operator(original, module, path, args, kwargs)
            if path:
                self.owners.append((path, type(module)))
            try:
                return original(module, *args, **kwargs)
            finally:
                if path:
                    self.owners.pop()
        except Exception:
            self.failed_at = self.failed_at or path
            raise

    def _operator(
        self, original: Any, module: nn.Module, path: str, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        given = positional(module, args, kwargs)
        tensors = tensors_of(given)
        versions = [version(t) for t in tensors]
        self.inside_operator = True
        try:
            refuse_changing_hooks(module, path, args, kwargs)
            result = original(module, *args, **kwargs)
        finally:
            self.inside_operator = False
        changed = [t for t, before in zip(tensors, versions, strict=True) if version(t) != before]
        self._note((type(module).__name__, "", path), (given, {}), result, changed)
        return result

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if self.inside_operator:
            return func(*args, **kwargs)
        name = operator_name(func)
        tensors = tensors_of((args, kwargs))
        versions = [version(t) for t in tensors]
        if any(t in self.memory or self.memory.drawn(t) for t in tensors):
            self._refuse_reading(name)
        passed = passed_by_neutral(self.memory, name, args, kwargs)
        try:
            result = func(*args, **kwargs)
        except Exception:
            owner, given = self.owners[-1][0] if self.owners else "", self._described((args, kwargs), [])
            path = f"{owner} ({graph_name(func)})" if owner else graph_name(func)
            self.failed_call = self.failed_call or (path, Call(name, *given))
            raise
        changed = [t for t, before in zip(tensors, versions, strict=True) if version(t) != before]
        if name in DRAWING or any(self.memory.drawn(t) for t in tensors):
            self.memory.draw(tensors_of(result))
        if any(t in self.memory for t in tensors):
            if name in CONSTANT_MAKERS and not changed:
                return result
            given = args, {key: value for key, value in kwargs.items() if key != "out"}
            self._note((name, graph_name(func), ""), given, result, changed, passed, func)
        elif any(self.memory.learned(t) for t in tensors):
            self.memory.learn(tensors_of(result))
        return result

    def _refuse_reading(self, name: str) -> None:
        """Decisions by values hold for one image only."""
        if name not in READING:
            return
        self.refusal = Unrecordable(
            self.owners[-1][0] if self.owners else type(self.network).__name__,
            f"its forward reads the values of a tensor ({name}): control flow by values has no integer form",
            "a forward must not branch on tensors",
        )
        raise self.refusal

    def _note(
        self,
        what: tuple[str, str, str],
        given: tuple[Any, Any],
        result: Any,
        changed: list[Tensor],
        passed: fx.Node | None = None,
        function: Any = None,
    ) -> None:
        """Note a call of ``what`` (operator, name of its node, path of its module) with ``given`` (args, kwargs), after
        it ran and changed some of its arguments in place; ``passed``: the value that it only passes on."""
        op = what[0]
        made = tensors_of(result)
        if not made and not changed:
            return
        nodes: list[fx.Node] = []
        args, kwargs = self._described(given, nodes)
        if not nodes:
            return
        known = isinstance(result, Tensor) and self.memory.known(result)
        if known and not changed and not reaches_beyond(op, given[0]):
            return  # a name for what is there already: detach, a view of the same geometry, Identity, Dropout
        same = passed or same_value(self.memory, op, given, result)
        if same is not None:
            for tensor in changed:
                self.memory.overwrite(tensor, same)
            self.memory.put(result if isinstance(result, Tensor) else changed[0], same)
            return
        node = self._node(what, nodes, Call(op, args, kwargs, function))
        node.meta["drawn"] = any(self.memory.drawn(tensor) for tensor in tensors_of(given))
        for tensor in changed:
            self.memory.overwrite(tensor, node)
        if isinstance(result, Tensor):
            node.meta["shapes"] = (tuple(result.shape),)
            self.memory.put(result, node)
        elif made:
            for index, tensor in enumerate(made):
                call = Call("getitem", (Input(0), index), {}, operator.getitem)
                part = self._node(("getitem", "getitem", ""), [node], call)
                part.meta["shapes"] = (tuple(tensor.shape),)
                self.memory.put(tensor, part)

    def _described(self, value: Any, nodes: list[fx.Node]) -> Any:
        """``value`` with an :class:`Input` for every tensor that depends on the image; their nodes go to ``nodes``."""
        if isinstance(value, Tensor):
            node = self.memory.get(value)
            if node is None and value in self.memory:
                node = self._unnamed("view", self.memory.any_of(value))
            if node is None:
                return value
            nodes.append(node)
            return Input(len(nodes) - 1)
        if isinstance(value, dict):
            return {key: self._described(v, nodes) for key, v in value.items()}
        if isinstance(value, (tuple, list)):
            made = [self._described(v, nodes) for v in value]
            return made if isinstance(value, list) else tuple(made)
        return value

    def _node(self, what: tuple[str, str, str], inputs: list[fx.Node], call: Call) -> fx.Node:
        _, name, path = what
        kind, target = ("call_module", path) if path else ("call_function", recorded)
        node = self.graph.create_node(kind, cast(Any, target), tuple(inputs), name=name or None)
        node.meta["call"] = call
        node.meta["nn_module_stack"] = {name: (name, owner) for name, owner in self.owners}
        return node

    def _stale(self, node: fx.Node) -> fx.Node:
        """What a part of a tensor holds after an in-place operator on another part or on the whole."""
        return self._unnamed("partial_write", node)

    def _unnamed(self, op: str, source: fx.Node) -> fx.Node:
        return self._node((op, op, ""), [source], Call(op, (Input(0),), {}))
