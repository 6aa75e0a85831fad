"""Does the model fit the data's pixels?"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from torch import nn

from hatdet.engine.checks.config import check_format, check_input
from hatdet.utils.errors import UserError
from hatdet.utils.input_format import InputFormat


class Model(nn.Module):
    def __init__(self, input_format: InputFormat | None) -> None:
        super().__init__()
        if input_format is not None:
            self.input_format = input_format


def loader(*numbers: Any) -> Any:
    return SimpleNamespace(dataset=SimpleNamespace(input_format=InputFormat(*numbers)))


YUV = InputFormat("yuv444", (128.0,), (128.0,))


def test_what_fits() -> None:
    check_input(Model(YUV), training=loader("yuv444", (128.0,), (128.0,)), validation=loader("yuv444"))
    check_input(Model(YUV), training=loader("yuv444", (128.0,) * 3, (128.0,) * 3), validation=None)
    check_input(Model(None), training=loader("rgb"), validation=SimpleNamespace(dataset=[]))


@pytest.mark.parametrize(
    ("gives", "shown"),
    [
        (("bgr", (128.0,), (128.0,)), "bgr, mean 128, std 128"),
        (("yuv444", (0.0,), (255.0,)), "yuv444, mean 0, std 255"),
        (("yuv444", (128.0, 128.0, 127.0), (128.0,)), "yuv444, mean 128, 128, 127, std 128"),
        (("rgb",), "rgb"),
    ],
)
def test_what_does_not(gives: Any, shown: str) -> None:
    with pytest.raises(UserError) as error:
        check_input(Model(YUV), training=loader("yuv444"), validation=loader(*gives))
    assert str(error.value) == (
        f"the validation data gives images in {shown}; the model takes yuv444, mean 128, std 128: change ToTensor and "
        "Normalize in the transforms, or input_color and preprocessor of the model"
    )


def test_a_model_that_does_not_normalize() -> None:
    with pytest.raises(UserError, match="the training data asks for Normalize, which a Model does not do"):
        check_input(Model(None), training=loader("bgr", (128.0,), (128.0,)))


def test_a_network_inside_a_detector_is_not_asked_again() -> None:
    """The integer model and an exported file take over the detector, which was compared when it was built."""
    wrapped = Model(None)
    wrapped.task = Model(YUV)
    check_input(wrapped, validation=loader("yuv444", (128.0,), (128.0,)))


@pytest.mark.parametrize(("data", "model"), [("gray", "bgr"), ("bgr", "gray"), ("gray", "yuv444")])
def test_gray_pictures_and_colours_are_told_apart(data: str, model: str) -> None:
    with pytest.raises(UserError, match=f"the training data gives images in {data}; the model takes {model}, mean 0"):
        check_input(Model(InputFormat(model, (0.0,), (255.0,))), training=loader(data))
    with pytest.raises(UserError, match=f"these transforms give images in {data}; the model takes {model}: change"):
        check_format(Model(InputFormat(model)), "these transforms give", InputFormat(data))
