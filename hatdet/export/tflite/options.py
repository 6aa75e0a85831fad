"""How operators are said in a ``.tflite`` file, whatever their numbers are: shared by the int8 and the float writer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hatdet.export.tflite.flatbuffer import GROUPED_CONV_VERSION

ACTIVATIONS = {"none": "NONE", "relu": "RELU", "relu6": "RELU6", "relu_n1_to_1": "RELU_N1_TO_1"}
"""Activations that an operator may have fused; others are written behind it."""
Pair = tuple[int, int]
Settings = dict[str, Any]
"""Fields of an options object; enumerations by name."""

_ENUMERATIONS = {
    "padding": "Padding", "fusedActivationFunction": "ActivationFunctionType", "inDataType": "TensorType",
    "outDataType": "TensorType",
}  # fmt: skip
_OPTIONS = {"averagepool2d": "pool2d", "maxpool2d": "pool2d", "maximum": "maximumminimum", "minimum": "maximumminimum",
            "mean": "reducer"}  # fmt: skip
"""Options that are not named after their operator."""


@dataclass(frozen=True, eq=False)
class StoredWeight:
    """A convolution's weight as a file stores it.

    Attributes:
        code: ``CONV_2D`` (OHWI) or ``DEPTHWISE_CONV_2D`` (1HWC). dimension: the one of output channels.
        multiplier: outputs of each channel, of a depthwise convolution; else 0.
        version: of the operator; None: the writer's usual one.
    """

    code: str
    data: NDArray[Any]
    dimension: int
    multiplier: int
    version: int | None


def store_weight(weight: NDArray[Any], groups: int, channels: int) -> StoredWeight:
    """The stored form of ``weight`` (O, I / groups, kh, kw) of a convolution with ``channels`` inputs."""
    if groups == channels and channels > 1:
        data = weight[:, 0].transpose(1, 2, 0)[None]
        return StoredWeight("DEPTHWISE_CONV_2D", data, 3, weight.shape[0] // channels, None)
    version = GROUPED_CONV_VERSION if groups > 1 else None
    return StoredWeight("CONV_2D", weight.transpose(0, 2, 3, 1), 0, 0, version)


def pad_amounts(top: int, bottom: int, left: int, right: int) -> NDArray[np.int32]:
    """The second input of PAD for an NHWC tensor."""
    return np.array([[0, 0], [top, bottom], [left, right], [0, 0]], dtype=np.int32)


def operator_options(schema: Any, code: str, settings: Mapping[str, Any]) -> Any:
    """The options object of an operator; None of one that has no options."""
    plain = code.lower().replace("_", "")
    kind = _options_types(schema).get(_OPTIONS.get(plain, plain))
    assert kind is not None or not settings, (code, settings)
    options = kind and kind()
    for name, value in settings.items():
        if name in _ENUMERATIONS:
            value = getattr(getattr(schema, _ENUMERATIONS[name]), ACTIVATIONS.get(value, value))
        assert hasattr(options, name), (code, name)
        setattr(options, name, value)
    return options


@lru_cache
def _options_types(schema: Any) -> dict[str, type]:
    """``maximumminimum`` -> ``MaximumMinimumOptionsT`` and so on."""
    kinds = {name.lower(): kind for name, kind in vars(schema).items()}
    return {name.removesuffix("optionst"): kind for name, kind in kinds.items() if name.endswith("optionst")}


def conv_settings(stored: StoredWeight, mode: str, stride: Pair, dilation: Pair, activation: str) -> Settings:
    """``mode`` is SAME or VALID, ``activation`` a key of :data:`ACTIVATIONS`."""
    multiplier = {"depthMultiplier": stored.multiplier} if stored.multiplier else {}
    return {
        **multiplier, "padding": mode, "strideH": stride[0], "strideW": stride[1], "dilationHFactor": dilation[0],
        "dilationWFactor": dilation[1], "fusedActivationFunction": activation,
    }  # fmt: skip


def pool_settings(kernel: Pair, stride: Pair = (1, 1), mode: str = "VALID", activation: str = "none") -> Settings:
    """Of AVERAGE_POOL_2D and MAX_POOL_2D."""
    return {
        "padding": mode, "filterHeight": kernel[0], "filterWidth": kernel[1], "strideH": stride[0],
        "strideW": stride[1], "fusedActivationFunction": activation,
    }  # fmt: skip
