"""Tensors that have a row for each box, under names."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor


class Instances:
    """What is known of the boxes of a picture: ``Instances(priors=..., scores=...)``, read as attributes.

    Assigners take predictions with ``priors`` (n, 4), perhaps ``bboxes`` (n, 4), ``scores`` (n, classes), ..., and
    ground truth with ``bboxes`` (m, 4) and ``labels`` (m,). Anything with these attributes does in their place.

    Args:
        fields: tensors of equal length, or None, which counts as absent from every row.

    Raises:
        ValueError: tensors of different lengths.
    """

    def __init__(self, **fields: Any) -> None:
        lengths = {name: len(value) for name, value in fields.items() if isinstance(value, Tensor)}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"instances need tensors of one length, got {lengths}")
        self.__dict__.update(fields)

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"these instances have {', '.join(self.__dict__) or 'nothing'}, not {name!r}")

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, Tensor) and self.__dict__ and len(value) != len(self):
            raise ValueError(f"{name} has length {len(value)}, these instances {len(self)}")
        self.__dict__[name] = value

    def __len__(self) -> int:
        return next((len(value) for value in self.__dict__.values() if isinstance(value, Tensor)), 0)

    def __contains__(self, name: str) -> bool:
        return name in self.__dict__

    def __iter__(self) -> Iterator[Instances]:
        return (self[i : i + 1] for i in range(len(self)))

    def __getitem__(self, index: Any) -> Instances:
        """The rows of a slice, of a bool mask or of indices."""
        return Instances(
            **{name: value[index] if isinstance(value, Tensor) else value for name, value in self.__dict__.items()}
        )

    def keys(self) -> list[str]:
        """The names."""
        return list(self.__dict__)

    def get(self, name: str, default: Any = None) -> Any:
        """The tensor of a name, or ``default``."""
        return self.__dict__.get(name, default)
