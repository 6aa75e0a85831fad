"""Checks before the first step: does the model fit the data?"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

from torch import nn

from hatdet.utils.errors import UserError


@dataclasses.dataclass(frozen=True)
class ClassTable:
    """Class names in the order of labels, and their ids in the annotation file."""

    names: list[str]
    ids: list[int]


def class_table(loader: Any) -> ClassTable | None:
    """The classes of a loader's data set; None where it does not say."""
    dataset = getattr(loader, "dataset", None)
    names = getattr(dataset, "classes", None)
    if names is None:
        return None
    return ClassTable([str(name) for name in names], [int(i) for i in getattr(dataset, "category_ids", ())])


def num_classes_of(model: nn.Module) -> int | None:
    """How many classes a detector predicts; None where it does not say."""
    for owner in _owners(model):
        count = getattr(owner, "num_classes", None)
        if isinstance(count, int):
            return count
    return None


def _owners(model: nn.Module) -> Iterator[Any]:
    yield model
    for name in ("bbox_head", "head"):
        if hasattr(model, name):
            yield getattr(model, name)


def check_classes(model: nn.Module, train_loader: Any, val_loader: Any) -> None:
    """Compare the model's number of classes with the data's class tables, and those with each other.

    Raises:
        UserError: they differ; the message has both lists.
    """
    tables = [("training", class_table(train_loader)), ("validation", class_table(val_loader))]
    known = [(title, table) for title, table in tables if table is not None]
    count = num_classes_of(model)
    for title, table in known:
        if count is not None and len(table.names) != count:
            raise UserError(
                f"the model predicts {_classes(count)}, but the {title} data has {_classes(len(table.names))}: "
                f"{shorten(table.names)}; use --cfg-options num_classes={len(table.names)}, or set it in the config"
            )
    if len(known) == 2 and known[0][1].names != known[1][1].names:
        raise UserError(
            f"the training data has the classes {shorten(known[0][1].names)}; the validation data has "
            f"{shorten(known[1][1].names)}: both need the same classes in the same order"
        )


def check_input(model: nn.Module, **loaders: Any) -> None:
    """Compare what the data sets make of the pixels with what the model takes (``input_format`` of both).

    Args:
        loaders: by title, for messages.

    Raises:
        UserError: they differ in colour or normalization, or a data set asks for a normalization and the model does
            not say whether it does one.
    """
    if hasattr(model, "task"):  # another network (integers, a file) inside a detector that was compared itself
        return
    takes = getattr(model, "input_format", None)
    for title, loader in loaders.items():
        gives = getattr(getattr(loader, "dataset", None), "input_format", None)
        if gives is None:
            continue
        if takes is None:
            if gives.mean is not None:
                raise UserError(
                    f"the {title} data asks for Normalize, which a {type(model).__name__} does not do: a model "
                    "normalizes uint8 images itself and says so (input_format)"
                )
        elif not gives.fits(takes):
            raise UserError(
                f"the {title} data gives images in {gives}; the model takes {takes}: change ToTensor and Normalize in "
                "the transforms, or input_color and preprocessor of the model"
            )


def _classes(count: int) -> str:
    return f"{count} class" if count == 1 else f"{count} classes"


def shorten(names: Sequence[str], limit: int = 20) -> str:
    """``"cat, dog"``, at most ``limit`` names."""
    rest = f", ... ({len(names) - limit} more)" if len(names) > limit else ""
    return ", ".join(names[:limit]) + rest
