"""Weights of four bits in a ``.tflite`` file: which operators take them, and how they lie there.

The schema's INT4 is two codes a byte in the order of the tensor, the first in the low nibble; the last byte of an odd
number of codes has zeros above. Kernels unpack a filter to int8 before they compute, so sums and rounding are those of
int8. What takes such filters was tried (LiteRT 2.3, TensorFlow Lite Micro of October 2026): CONV_2D (grouped too) and
DEPTHWISE_CONV_2D in LiteRT's reference kernels and in TensorFlow Lite Micro, as long as activations have 8 bits;
TRANSPOSE_CONV nowhere. LiteRT's default kernels take them too, but leave them out of XNNPACK: then the reference's
arithmetic computes there, which a file for XNNPACK must not have.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hatdet.integer.graph import IntGraph
from hatdet.integer.operators.windows.conv import ConvOp
from hatdet.integer.operators.windows.weighted import WeightedOp
from hatdet.utils.errors import UserError

INT4_VERSIONS = {"CONV_2D": 7, "DEPTHWISE_CONV_2D": 6}
"""Versions of operators with INT4 filters. TensorFlow Lite's converter writes 7 for both (``op_version.cc``); LiteRT's
reference kernels are registered up to 6 of DEPTHWISE_CONV_2D (``register_ref.cc``), with the kernel that unpacks them.
Kernels that came before refuse the type of the tensor, whatever the version says."""
WEIGHTS_AS = ("int4", "int8")
"""How weights of four bits may be stored."""


def pack(codes: NDArray[np.integer]) -> NDArray[np.uint8]:
    """n codes in [-8, 7], in their order -> ceil(n / 2) bytes of two codes, the first in the low nibble."""
    flat = np.ascontiguousarray(codes).reshape(-1)
    assert flat.size == 0 or (flat.min() >= -8 and flat.max() <= 7), (flat.min(), flat.max())
    nibbles = np.zeros(flat.size + flat.size % 2, dtype=np.uint8)
    nibbles[: flat.size] = flat.astype(np.int8).view(np.uint8) & 15
    packed: NDArray[np.uint8] = nibbles[0::2] + 16 * nibbles[1::2]
    return packed


def unpack(data: bytes, count: int) -> NDArray[np.int8]:
    """Inverse of :func:`pack`: the first ``count`` codes."""
    packed = np.frombuffer(data, dtype=np.uint8)
    nibbles = np.stack([packed & 15, packed >> 4], axis=1).reshape(-1)[:count].astype(np.int8)
    return np.where(nibbles > 7, nibbles - 16, nibbles).astype(np.int8)


def computed_unpacked(graph: IntGraph) -> str:
    """Why the kernels of a graph's arithmetic take no INT4 weights; "": they do."""
    for profile in (graph.profile, graph.second):
        if profile is not None and profile.litert == "default":
            return f"LiteRT's default kernels leave int4 filters out of XNNPACK, which {profile.name!r} is"
    return ""


def packs_weights(graph: IntGraph, weights_as: str | None) -> bool:
    """Whether a file has this graph's 4-bit weights as INT4 tensors.

    Args:
        weights_as: one of :data:`WEIGHTS_AS`; None: INT4 where the kernels of the arithmetic take it.

    Raises:
        UserError: an unknown name, or INT4 where they do not.
    """
    if weights_as not in (None, *WEIGHTS_AS):
        allowed = " or ".join(WEIGHTS_AS)
        raise UserError(f"4-bit weights are stored as {allowed}, not as {weights_as!r}: name one of them")
    reason = computed_unpacked(graph)
    if weights_as == "int4" and reason and narrow_layers(graph):
        raise UserError(f"4-bit weights cannot be stored as int4 in this file: {reason}; store them as int8")
    return weights_as != "int8" and not reason


def narrow_layers(graph: IntGraph) -> list[str]:
    """Names of the operators whose weights have four bits, in execution order."""
    return [op.name for op in graph.ops if isinstance(op, WeightedOp) and op.weight_bits == 4]


def is_packed(op: WeightedOp, output_bits: int) -> bool:
    """Whether kernels take this operator's weights as INT4: convolutions between activations of 8 bits."""
    return isinstance(op, ConvOp) and op.weight_bits == 4 and output_bits == 8
