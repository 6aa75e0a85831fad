"""Which value every piece of memory holds while a network is recorded."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, fx

Key = tuple[int, int, tuple[int, ...], tuple[int, ...], torch.dtype]


class Memory:
    """Tensors by storage and geometry; what is noted stays alive, so that no memory is used twice.

    Args:
        stale: from the old value of a part whose memory another geometry has written to, the node of what is there now.
    """

    def __init__(self, stale: Callable[[fx.Node], fx.Node]) -> None:
        self._values: dict[Key, fx.Node] = {}
        self._storages: dict[int, dict[Key, None]] = {}
        self._learned: set[int] = set()
        self._drawn: set[int] = set()
        self._alive: list[Tensor] = []
        self._make_stale = stale
        self._stale: set[Key] = set()

    def __contains__(self, tensor: object) -> bool:
        """Whether a tensor's memory depends on the image."""
        return isinstance(tensor, Tensor) and _storage(tensor) in self._storages

    def get(self, tensor: Tensor) -> fx.Node | None:
        """What a tensor holds; None: a constant, or an unknown view."""
        return self._values.get(_key(tensor))

    def known(self, tensor: Tensor) -> bool:
        """Whether this very value has a node."""
        key = _key(tensor)
        return key in self._values and key not in self._stale

    def any_of(self, tensor: Tensor) -> fx.Node:
        """Some value of the same memory."""
        return self._values[next(iter(self._storages[_storage(tensor)]))]

    def put(self, tensor: Tensor, node: fx.Node) -> None:
        """A tensor was computed."""
        key = _key(tensor)
        self._alive.append(tensor)
        self._values[key] = node
        self._stale.discard(key)
        self._storages.setdefault(_storage(tensor), {})[key] = None

    def overwrite(self, tensor: Tensor, node: fx.Node) -> None:
        """A tensor was written to in place: its other geometries hold something that has no name any more."""
        key = _key(tensor)
        for other in self._storages.get(_storage(tensor), {}):
            if other != key:
                self._values[other] = self._make_stale(self._values[other])
                self._stale.add(other)
        self.put(tensor, node)

    def learn(self, tensors: Iterable[Tensor]) -> None:
        """Parameters and buffers, and what is computed from them: constants for an image, but not for ever."""
        for tensor in tensors:
            self._alive.append(tensor)
            self._learned.add(_storage(tensor))

    def learned(self, tensor: Tensor) -> bool:
        return _storage(tensor) in self._learned

    def draw(self, tensors: Iterable[Tensor]) -> None:
        """Random numbers, and what is computed from them."""
        for tensor in tensors:
            self._alive.append(tensor)
            self._drawn.add(_storage(tensor))

    def drawn(self, tensor: Tensor) -> bool:
        return bool(self._drawn) and _storage(tensor) in self._drawn


def version(tensor: Tensor) -> int:
    """Differs after every in-place operator."""
    try:
        return tensor._version
    except RuntimeError:  # made in inference mode: not counted, so the values themselves have to tell
        return hash(tensor.detach().cpu().numpy().tobytes())


def _storage(tensor: Tensor) -> int:
    try:
        return int(tensor.untyped_storage()._cdata)
    except RuntimeError:  # sparse and the like have none
        return -id(tensor)


def _key(tensor: Tensor) -> Key:
    if tensor.layout != torch.strided:
        return -id(tensor), 0, tuple(tensor.shape), (), tensor.dtype
    shape = tuple(tensor.shape)
    strides = tuple(0 if size == 1 else stride for size, stride in zip(shape, tensor.stride(), strict=True))
    return _storage(tensor), int(tensor.storage_offset()), shape, strides, tensor.dtype
