"""Numbers that are not finite, named: NaN and infinity in weights make every later stage fail far from their cause."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from hatdet.utils.errors import UserError


class NotFinite(UserError):
    """Weights, statistics or activations that are NaN or infinite."""


def describe(value: Tensor) -> str:
    """``3 of 64 values are NaN`` or ``... are infinite``; '' where all are finite."""
    if not value.is_floating_point() or value.device.type == "meta" or bool(value.sum().isfinite()):
        return ""  # a sum of finite values may overflow, one with NaN or infinity is not finite: then look closer
    if bool(torch.isfinite(value).all()):
        return ""
    nan = int(torch.isnan(value).sum())
    count = nan or int(torch.isinf(value).sum())
    return f"{count} of {value.numel()} values are {'NaN' if nan else 'infinite'}"


@torch.no_grad()
def not_finite(tensors: Mapping[str, Any]) -> list[str]:
    """``name: what`` of every tensor that holds something not finite, in order."""
    found = ((name, describe(value)) for name, value in tensors.items() if isinstance(value, Tensor))
    return [f"{name}: {text}" for name, text in found if text]


def refuse_not_finite(tensors: Mapping[str, Any], what: str, advice: str) -> None:
    """Refuse tensors that are not finite.

    Args:
        what: of what they are a part and where, as the beginning of the message.
        advice: what to do.

    Raises:
        NotFinite: the first one is named, by its path, and how many more there are.
    """
    found = not_finite(tensors)
    if found:
        more = f" (and {len(found) - 1} more tensors)" if len(found) > 1 else ""
        raise NotFinite(f"{what} are not finite: {found[0]}{more}; {advice}")
