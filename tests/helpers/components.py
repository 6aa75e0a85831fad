"""Parts of ``hatdet.models.mmdet`` against reference values that stand beside the checkout."""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from torch import nn

from hatdet.building import Builder
from hatdet.models.mmdet.building import in_scope

FOLDER = Path(__file__).parents[3] / "shared" / "golden" / "components"


def reference() -> ModuleType:
    """The module that reads the reference values (``cases``, ``rnd``, ``fill``, ``same``)."""
    spec = importlib.util.spec_from_file_location("reference_components", FOLDER / "load.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def names(family: str) -> list[Any]:
    """Of the cases of a family, for ``parametrize``; one that is skipped where there are none."""
    found = sorted(path.stem for path in (FOLDER / family).glob("*.pt"))
    if found:
        return found
    reason = "reference values (../shared) are not beside this checkout"
    return [pytest.param("", marks=pytest.mark.skip(reason=reason))]


def case(family: str, name: str) -> dict[str, Any]:
    """One case: ``type``, ``args``, ``inputs``, ``outputs``, perhaps ``note``."""
    import torch

    found: dict[str, Any] = torch.load(FOLDER / family / f"{name}.pt", weights_only=True)
    return found


def made(args: dict[str, Any], kind: str = "") -> Any:
    """The part that a dict in MMDetection's vocabulary describes."""
    return Builder().build(in_scope({**({"type": kind} if kind else {}), **args}))


def state_sha256(module: nn.Module) -> str:
    """Of the names and shapes of a module's state."""
    lines = sorted(f"{name} {tuple(value.shape)}" for name, value in module.state_dict().items())
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
