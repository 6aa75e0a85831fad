"""What a detector's network said of the last batch: its raw maps, and what its neck gave."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from hatdet.utils.seed import preserved_rng_state

LEAST_SIZE = 320
"""Of the empty picture that shows which maps a detector gives: some detectors take no smaller ones."""


class Listener:
    """Keeps the raw maps and the neck's maps of a detector's last forward, until :meth:`taken` or :meth:`close`.

    A detector runs its network with ``self.run_network`` (docs/contracts.md, section 4); the listener stands in the
    place of that method. Of a detector without a neck the backbone's maps are kept, of a quantized one none.
    """

    def __init__(self, detector: nn.Module) -> None:
        self.detector = detector
        self.maps: tuple[Tensor, ...] | None = None
        self.features: tuple[Tensor, ...] | None = None
        run = detector.run_network
        assert callable(run), "a detector has run_network"

        def listen(x: Tensor) -> Any:
            self.maps = run(x)
            return self.maps

        detector.run_network = listen  # type: ignore[assignment]
        source = getattr(detector, "neck", None) or getattr(detector, "backbone", None)
        self._hook: RemovableHandle | None = None
        if isinstance(source, nn.Module):
            self._hook = source.register_forward_hook(self._keep)

    def _keep(self, module: nn.Module, given: Any, found: Any) -> None:
        self.features = tuple(found) if isinstance(found, (list, tuple)) else (found,)

    def taken(self) -> tuple[tuple[Tensor, ...] | None, tuple[Tensor, ...] | None]:
        """Maps and features of the last forward, which are forgotten here; None: there was none."""
        found = self.maps, self.features
        self.maps = self.features = None
        return found

    def close(self) -> None:
        """Let the detector be as it was."""
        vars(self.detector).pop("run_network", None)
        if self._hook is not None:
            self._hook.remove()
        self.taken()


@torch.no_grad()
def tried(detector: nn.Module, size: int) -> tuple[list[Tensor], list[Tensor]]:
    """Raw maps and neck's maps of an empty picture (size, size); the detector stays as it was."""
    modes = {module: module.training for module in detector.modules()}
    listener = Listener(detector)
    device = next(detector.parameters()).device
    try:
        with preserved_rng_state():
            picture = torch.zeros(1, int(getattr(detector, "input_channels", 3)), size, size, device=device)
            detector.eval().run_network(picture)  # type: ignore[operator]
        maps, features = listener.taken()
    finally:
        listener.close()
        for module, mode in modes.items():
            module.training = mode
    return list(maps or ()), list(features or ())


def trial_size(*detectors: nn.Module) -> int:
    """A side of a square picture that all of them take."""
    step = math.lcm(64, *(int(getattr(detector, "size_divisor", None) or 1) for detector in detectors))
    return math.ceil(LEAST_SIZE / step) * step


def level_sizes(maps: Sequence[Tensor], names: Sequence[str]) -> list[tuple[int, int]]:
    """(height, width) of each level, of raw maps that come kind after kind under names like ``cls_8``."""
    levels = sum(name.rpartition("_")[0] == names[0].rpartition("_")[0] for name in names)
    return [(one.shape[2], one.shape[3]) for one in maps[:levels]]
