"""What LiteRT's default kernels (XNNPACK, and its own where XNNPACK has none) make of the operators of an int8 file.

As in :mod:`hatdet.export.targets.limits`, a docstring is what the user reads; tests ask LiteRT which operators XNNPACK
takes.
"""

from __future__ import annotations

from hatdet.export.targets.limits import Limit
from hatdet.export.tflite.file_operators import FileOperator
from hatdet.export.tflite.flatbuffer import OPERATOR_VERSIONS


def mean_over_axes(op: FileOperator) -> str | None:
    """XNNPACK rounds a mean over height and width differently on x86 and on ARM.

    Use a global average pool (AdaptiveAvgPool2d(1)), which becomes AVERAGE_POOL_2D.
    """
    return "axes" if op.code == "MEAN" else None


def kernel_of_elu(op: FileOperator) -> str | None:
    """LiteRT 2.1.0 and 2.1.6 give different codes for it.

    Use nn.ELU, which becomes a table of codes, or ReLU6 or SiLU.
    """
    return "a kernel of its own" if op.code == "ELU" else None


def without_xnnpack(op: FileOperator) -> str | None:
    """XNNPACK has no kernel of it, so LiteRT's own runs, which computes as the reference kernels do.

    Nothing has to be changed: the numbers are those that were evaluated.
    """
    return "int8 codes"


def wide_output(op: FileOperator) -> str | None:
    """XNNPACK has no kernel of it, so LiteRT's own runs, which computes as the reference kernels do.

    Nothing has to be changed: the numbers are those that were evaluated.
    """
    return "an output of 16 bits" if any(tensor.dtype == "INT16" for tensor in op.outputs) else None


LITERT_OPERATORS = tuple(code for code in OPERATOR_VERSIONS if code not in ("ELU", "GELU", "MEAN"))
"""Operators with which files are exact there; of the others hatdet writes none into an int8 file."""

LITERT_LIMITS = (Limit(("MEAN",), mean_over_axes), Limit(("ELU",), kernel_of_elu))

OWN_KERNELS = (
    "AVERAGE_POOL_2D", "GATHER", "HARD_SWISH", "MAXIMUM", "MINIMUM", "PADV2", "PRELU", "RESIZE_NEAREST_NEIGHBOR",
)  # fmt: skip
"""Operators that XNNPACK leaves to LiteRT where they have int8 codes."""

LITERT_NOTES = (Limit(OWN_KERNELS, without_xnnpack), Limit(("CONV_2D", "DEPTHWISE_CONV_2D"), wide_output))
