"""How a program of TensorFlow Lite Micro names the operators of a file: the lines of its op resolver."""

from __future__ import annotations

from collections.abc import Iterable

from hatdet.utils.errors import UserError

RESOLVER_CALLS: dict[str, str | None] = {
    "ADD": "AddAdd", "AVERAGE_POOL_2D": "AddAveragePool2D", "CAST": "AddCast", "CONCATENATION": "AddConcatenation",
    "CONV_2D": "AddConv2D", "DEPTHWISE_CONV_2D": "AddDepthwiseConv2D", "DEPTH_TO_SPACE": "AddDepthToSpace",
    "ELU": "AddElu", "FULLY_CONNECTED": "AddFullyConnected", "GATHER": "AddGather", "GELU": None,
    "HARD_SWISH": "AddHardSwish", "LEAKY_RELU": "AddLeakyRelu", "LOGISTIC": "AddLogistic", "MAXIMUM": "AddMaximum",
    "MAX_POOL_2D": "AddMaxPool2D", "MEAN": "AddMean", "MINIMUM": "AddMinimum", "MUL": "AddMul", "PAD": "AddPad",
    "PADV2": "AddPadV2", "PRELU": "AddPrelu", "QUANTIZE": "AddQuantize", "RELU": "AddRelu", "RELU6": "AddRelu6",
    "RESHAPE": "AddReshape", "RESIZE_BILINEAR": "AddResizeBilinear",
    "RESIZE_NEAREST_NEIGHBOR": "AddResizeNearestNeighbor", "SLICE": "AddSlice", "SPACE_TO_DEPTH": "AddSpaceToDepth",
    "SPLIT": "AddSplit", "STRIDED_SLICE": "AddStridedSlice", "SUB": "AddSub", "TANH": "AddTanh",
    "TRANSPOSE": "AddTranspose", "TRANSPOSE_CONV": "AddTransposeConv", "ethos-u": "AddEthosU",
}  # fmt: skip
"""Methods of ``tflite::MicroMutableOpResolver`` by operator; None: TensorFlow Lite Micro has no such kernel."""


def without_kernel(codes: Iterable[str]) -> list[str]:
    """The operators that TensorFlow Lite Micro's resolver has no method for, each once."""
    return [code for code in dict.fromkeys(codes) if RESOLVER_CALLS.get(code) is None]


def resolver_calls(codes: Iterable[str]) -> list[str]:
    """The methods that register the operators of a file, each once, by name.

    Raises:
        UserError: an operator that TensorFlow Lite Micro does not have.
    """
    codes = list(codes)
    if missing := without_kernel(codes):
        raise UserError(
            f"TensorFlow Lite Micro has no kernel of {', '.join(missing)}; it has {', '.join(known_operators())}: "
            "use another activation in the model"
        )
    return sorted({str(RESOLVER_CALLS[code]) for code in codes})


def known_operators() -> list[str]:
    """What may stand in a file for TensorFlow Lite Micro."""
    return [code for code, call in RESOLVER_CALLS.items() if call is not None and code != "ethos-u"]
