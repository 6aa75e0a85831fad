"""Training runs eagerly; torch loads its compiler all the same, a third of the time to the first step.

``torch.optim.Optimizer`` asks ``torch._dynamo`` to leave its methods alone (``disable``) and to end the graph before an
update (``graph_break``): both mean nothing where nothing is compiled, but the package is 900 modules, sympy and onnx
among them.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import torch

COMPILER = "torch._dynamo"


class _Postponed(ModuleType):
    """Stands in for ``torch._dynamo`` until anything but the two functions is asked of it; then the package is loaded
    and answers, here and everywhere."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name != "__path__":  # who goes through sys.modules wants nothing of this one
            raise AttributeError(name)
        if sys.modules.get(COMPILER) is self:
            del sys.modules[COMPILER]
            del torch._dynamo
        return getattr(importlib.import_module(COMPILER), name)

    @staticmethod
    def disable(fn: Callable[..., Any] | None = None, *_: Any, **__: Any) -> Callable[..., Any]:
        """The function as it is."""
        return (lambda function: function) if fn is None else fn

    @staticmethod
    def graph_break(msg: str = "") -> None:
        """There is no graph."""


def postpone_compiler() -> None:
    """Let torch's optimizers do without ``torch._dynamo`` until something in this process compiles."""
    if COMPILER not in sys.modules:
        torch._dynamo = sys.modules[COMPILER] = _Postponed(COMPILER)
