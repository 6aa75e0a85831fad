"""Models that have to follow what a checkpoint says before its weights fit them, such as how many bits those have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn


def followed(model: nn.Module, state: Mapping[str, Any], weights: Any, source: str) -> Any:
    """Weights of a checkpoint for a model, after the model has followed what the checkpoint says of them, where it has
    a ``follow``.

    Raises:
        UserError: the model cannot.
    """
    follow = getattr(model, "follow", None)
    return follow(state.get("metadata") or {}, weights, source) if callable(follow) else weights
