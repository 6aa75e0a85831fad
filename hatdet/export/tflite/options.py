"""How operators are said in a ``.tflite`` file, whatever their numbers are: shared by the int8 and the float writer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hatdet.export.tflite.flatbuffer import GROUPED_CONV_VERSION, HALF_PIXEL_VERSION

ACTIVATIONS = {"none": "NONE", "relu": "RELU", "relu6": "RELU6"}
Pair = tuple[int, int]


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


class OperatorOptions:
    """Options objects of one schema. ``mode`` is SAME or VALID, ``activation`` a key of :data:`ACTIVATIONS`."""

    def __init__(self, schema: Any) -> None:
        self.schema = schema

    def activation(self, name: str) -> int:
        return int(getattr(self.schema.ActivationFunctionType, ACTIVATIONS[name]))

    def conv(self, stored: StoredWeight, mode: str, stride: Pair, dilation: Pair, activation: str) -> Any:
        if stored.multiplier:
            options = self.schema.DepthwiseConv2DOptionsT()
            options.depthMultiplier = stored.multiplier
        else:
            options = self.schema.Conv2DOptionsT()
        options.padding = getattr(self.schema.Padding, mode)
        options.strideH, options.strideW = stride
        options.dilationHFactor, options.dilationWFactor = dilation
        options.fusedActivationFunction = self.activation(activation)
        return options

    def pool(self, kernel: Pair, stride: Pair = (1, 1), mode: str = "VALID", activation: str = "none") -> Any:
        options = self.schema.Pool2DOptionsT()
        options.padding = getattr(self.schema.Padding, mode)
        options.filterHeight, options.filterWidth = kernel
        options.strideH, options.strideW = stride
        options.fusedActivationFunction = self.activation(activation)
        return options

    def add(self, activation: str) -> Any:
        options = self.schema.AddOptionsT()
        options.fusedActivationFunction = self.activation(activation)
        return options

    def concat(self, axis: int = 3) -> Any:
        options = self.schema.ConcatenationOptionsT()
        options.axis = axis
        return options

    def resize_nearest(self, factor: int) -> tuple[Any, int | None]:
        """Options, and the operator's version where it is not the usual one."""
        options = self.schema.ResizeNearestNeighborOptionsT()
        # The kernel multiplies by the float32 ratio 1 / factor: exact for powers of two; others keep off integers.
        options.halfPixelCenters = factor & (factor - 1) != 0
        return options, HALF_PIXEL_VERSION if options.halfPixelCenters else None

    def resize_bilinear(self) -> tuple[Any, int | None]:
        """Options and the operator's version; half pixel centres, as torch has them with align_corners=False."""
        options = self.schema.ResizeBilinearOptionsT()
        options.alignCorners, options.halfPixelCenters = False, True
        return options, HALF_PIXEL_VERSION
