"""Checks before the first step: does the model fit the data?"""

from __future__ import annotations

from typing import Any

from torch import nn

from hatdet.utils.errors import UserError
from hatdet.utils.input_format import InputFormat


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
    for title, loader in loaders.items():
        gives = getattr(getattr(loader, "dataset", None), "input_format", None)
        if gives is None:
            continue
        if getattr(model, "input_format", None) is None and gives.mean is not None:
            raise UserError(
                f"the {title} data asks for Normalize, which a {type(model).__name__} does not do: a model "
                "normalizes uint8 images itself and says so (input_format); "
                "remove Normalize, or use a detector that has a preprocessor"
            )
        check_format(model, f"the {title} data gives", gives)


def check_format(model: nn.Module, source: str, gives: InputFormat) -> None:
    """Refuse images in another format than the model takes.

    Args:
        source: where they come from, with its verb, for the message.

    Raises:
        UserError: with both sides.
    """
    takes = getattr(model, "input_format", None)
    if takes is not None and not gives.fits(takes):
        raise UserError(
            f"{source} images in {gives}; the model takes {takes}: change ToTensor and Normalize in the transforms, or "
            "input_color and preprocessor of the model"
        )
