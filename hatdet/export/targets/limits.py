"""Limits of the targets' operators: one function each, whose docstring is what the user reads.

A function takes an operator of the file and says what it found wrong, or None. The docstring's first paragraph is the
rule, its second what to use instead. The numbers are those of the report ``vela --supported-ops-report`` (Vela 5.2,
"Ethos-U55 and Ethos-U65 TFLite"), and tests compare the verdicts with Vela's own.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass

from hatdet.export.tflite.file_operators import FileModel, FileOperator

MAX_STRIDE = 3
MAX_SAME_POOL = 8
MAX_POOL_HEIGHT = 256
MAX_POOL_AREA = 256 * 256
MAX_WEIGHT_SUM = 127 * 65536
RESIZE_FACTORS = (2, 4, 8)


@dataclass(frozen=True)
class Limit:
    """One limit: the operators that it is for, and its check."""

    codes: tuple[str, ...]
    check: Callable[[FileOperator], str | None]

    @property
    def rule(self) -> str:
        return self._paragraphs()[0]

    @property
    def instead(self) -> str:
        return self._paragraphs()[1]

    def _paragraphs(self) -> list[str]:
        parts = inspect.cleandoc(self.check.__doc__ or "").split("\n\n")
        assert len(parts) == 2, f"{self.check.__name__}: the docstring is a rule and an advice"
        return [" ".join(part.split()) for part in parts]

    def message(self, op: FileOperator) -> str | None:
        """What the user reads where ``op`` breaks the limit, else None."""
        found = self.check(op) if op.code in self.codes else None
        return None if found is None else f"{op.code} with {found}: {self.rule} {self.instead}"


def conv_stride(op: FileOperator) -> str | None:
    """The stride of a convolution is at most 3; more only without padding and dilation, at the cost of one pass for
    every output position.

    Use stride 2 several times.
    """
    if max(op.stride) <= MAX_STRIDE:
        return None
    if op.padding == "VALID" and op.dilation == (1, 1) and op.sources[0] not in ("PAD", "PADV2"):
        return None
    return f"stride {op.stride[0]}x{op.stride[1]}"


def depthwise_stride(op: FileOperator) -> str | None:
    """The stride of a depthwise convolution is 1 to 3.

    Use stride 2 several times, or a dense convolution.
    """
    return f"stride {op.stride[0]}x{op.stride[1]}" if max(op.stride) > MAX_STRIDE else None


def pool_stride(op: FileOperator) -> str | None:
    """The stride of a pool is at most 3; more only with padding VALID.

    Use stride 2 several times, or padding=0.
    """
    return f"stride {op.stride[0]}x{op.stride[1]}" if max(op.stride) > MAX_STRIDE and op.padding != "VALID" else None


def average_pool_window(op: FileOperator) -> str | None:
    """The window of an average pool with padding SAME is at most 8x8.

    Use padding=0, or a smaller window.
    """
    if op.padding == "VALID" or max(op.kernel) <= MAX_SAME_POOL:
        return None
    return f"a window of {op.kernel[0]}x{op.kernel[1]}"


def pool_window(op: FileOperator) -> str | None:
    """The window of a pool is at most 256 high and has at most 65536 positions.

    Use smaller pools one after the other, or a smaller image.
    """
    height, width = op.kernel
    return None if height <= MAX_POOL_HEIGHT and height * width <= MAX_POOL_AREA else f"a window of {height}x{width}"


def weight_sum(op: FileOperator) -> str | None:
    """The magnitudes of an output channel's weights add up to at most 8323072, which 65536 weights of 127 reach.

    Use fewer input channels, a smaller kernel, or groups.
    """
    shape = op.weight.shape
    count = math.prod(op.kernel) if op.code == "DEPTHWISE_CONV_2D" else math.prod(shape[1:])
    return f"{count} weights an output channel" if 127 * count > MAX_WEIGHT_SUM else None


def transposed_stride(op: FileOperator) -> str | None:
    """The stride of a transposed convolution is 1 or 2, the same for height and width.

    Use stride 2, several times if need be.
    """
    (height, width), size = op.stride, op.inputs[2].shape[1:3]
    row, column = (size[i] == 1 == op.kernel[i] for i in (0, 1))  # along an axis of one pixel there is no stride
    if op.stride in ((1, 1), (2, 2)) or (op.stride == (1, 2) and row) or (op.stride == (2, 1) and column):
        return None
    return f"stride {height}x{width}"


def weight_precision(op: FileOperator) -> str | None:
    """Weights are 8 bits.

    Use the int8 file (calibrate, or train with QAT), not a float one, and --weights-as int8 for weights of 4 bits.
    """
    return f"weights of {op.weight.dtype}" if op.weight.dtype not in ("INT8", "UINT8") else None


def feature_map_precision(op: FileOperator) -> str | None:
    """Feature maps are 8 or 16 bits.

    Use the int8 file (calibrate, or train with QAT); what stays float runs on the CPU.
    """
    maps = [t for t in (*op.inputs, *op.outputs) if not t.constant]
    wrong = sorted({t.dtype for t in maps if t.dtype not in ("INT8", "UINT8", "INT16")})
    return f"feature maps of {', '.join(wrong)}" if wrong else None


def nearest_factor(op: FileOperator) -> str | None:
    """Nearest enlargement is by 2, 4 or 8, the same for height and width.

    Use one of these factors, or several enlargements by 2.
    """
    return _unsuitable_factor(op, RESIZE_FACTORS)


def bilinear_factor(op: FileOperator) -> str | None:
    """Bilinear enlargement is by 2 with half pixel centres, else by 2, 4 or 8.

    Use a factor of 2, several times if need be.
    """
    return _unsuitable_factor(op, (2,) if op.settings.get("halfPixelCenters") else RESIZE_FACTORS)


def _unsuitable_factor(op: FileOperator, allowed: tuple[int, ...]) -> str | None:
    before, after = op.inputs[0].shape[1:3], op.outputs[0].shape[1:3]
    if before == (1, 1) or before == after:
        return None
    less = int(bool(op.settings.get("alignCorners")))
    pairs = [(b - less, a - less) for b, a in zip(before, after, strict=True)]
    scaled = [(b, a) for b, a in pairs if not b == a == 1 - less]  # an axis of one pixel that stays so
    if any(all(a == f * b for b, a in scaled) for f in allowed):
        return None
    return f"an enlargement from {before[0]}x{before[1]} to {after[0]}x{after[1]}"


def function_by_table(op: FileOperator) -> str | None:
    """A function that no kernel of the NPU has (GELU, Mish, ELU, Softplus and others) is looked up in a table, which
    runs on the CPU: the map goes there and back.

    Use ReLU, LeakyReLU, PReLU, Hardswish, SiLU, Sigmoid or Tanh.
    """
    return "a table of codes" if is_table(op) else None


def is_table(op: FileOperator) -> bool:
    """Whether it looks codes up in a constant."""
    return op.code == "GATHER" and op.inputs[0].constant


def parts_of_tables(model: FileModel) -> set[str]:
    """What the operators make that turn codes into a table's indices: they are one with the table."""
    made, found = {op.name: op for op in model.operators}, set()
    for op in model.operators:
        index = op.inputs[1] if is_table(op) else None
        while index is not None and index.dtype == "INT32" and index.name in made:
            found.add(index.name)
            index = made[index.name].inputs[0]
    return found


_CONVOLUTIONS = ("CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV")
_POOLS = ("AVERAGE_POOL_2D", "MAX_POOL_2D")

ETHOS_U_OPERATORS = (
    "ADD", "AVERAGE_POOL_2D", "CONCATENATION", "CONV_2D", "DEPTHWISE_CONV_2D", "HARD_SWISH", "LEAKY_RELU", "LOGISTIC",
    "MAXIMUM", "MAX_POOL_2D", "MINIMUM", "MUL", "PAD", "PADV2", "PRELU", "QUANTIZE", "RELU", "RELU6", "RESHAPE",
    "RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR", "SLICE", "STRIDED_SLICE", "SUB", "TANH", "TRANSPOSE",
    "TRANSPOSE_CONV",
)  # fmt: skip
"""Operators that hatdet may write and Vela places on the NPU."""

ETHOS_U_LIMITS = (
    Limit(("GATHER",), function_by_table),
    Limit(ETHOS_U_OPERATORS, feature_map_precision),
    Limit(_CONVOLUTIONS, weight_precision),
    Limit(_CONVOLUTIONS, weight_sum),
    Limit(("CONV_2D",), conv_stride),
    Limit(("DEPTHWISE_CONV_2D",), depthwise_stride),
    Limit(("TRANSPOSE_CONV",), transposed_stride),
    Limit(_POOLS, pool_stride),
    Limit(_POOLS, pool_window),
    Limit(("AVERAGE_POOL_2D",), average_pool_window),
    Limit(("RESIZE_NEAREST_NEIGHBOR",), nearest_factor),
    Limit(("RESIZE_BILINEAR",), bilinear_factor),
)


def long_stride(op: FileOperator) -> str | None:
    """Vela splits it into one pass for every output position.

    Stride 2 several times is faster.
    """
    return f"stride {op.stride[0]}x{op.stride[1]}" if max(op.stride) > MAX_STRIDE else None


def grouped(op: FileOperator) -> str | None:
    """Vela runs one convolution for each group.

    A dense convolution of fewer channels may be faster.
    """
    return f"{op.groups} groups" if op.groups > 1 else None


def silu(op: FileOperator) -> str | None:
    """SiLU costs two passes over the map, a table and a product.

    ReLU and ReLU6 cost nothing after a convolution.
    """
    return "a SiLU" if any(t.name == f"{op.name}/sigmoid" for t in op.inputs) else None  # as the writer names it


ETHOS_U_COSTS = (
    Limit(("CONV_2D", *_POOLS), long_stride),
    Limit(("CONV_2D",), grouped),
    Limit(("MUL",), silu),
)
"""What runs on the NPU but slowly."""
