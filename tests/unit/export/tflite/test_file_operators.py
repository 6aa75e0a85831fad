"""Reading a .tflite file back: numbers that can be counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

from hatdet.export.tflite import int8 as tflite
from hatdet.export.tflite.file_operators import graph_modules, module_names, read_file
from hatdet.utils.errors import UserError
from tests.helpers.int_graphs import GraphBuilder, qparams, small_network


def three_operators() -> GraphBuilder:
    """8x8x2 -> depthwise -> 8x8x2, pooled to 4x4x2, then 1x1 to 4x4x5."""
    g = GraphBuilder((2, 8, 8), qparams(6 / 255, -128))
    g.conv("x", "block_depthwise", 2, groups=2)
    g.max_pool("block_depthwise", "pooled", (2, 2), (2, 2))
    g.conv("pooled", "out", 5, kernel=(1, 1), padding=(0, 0), activation="none")
    return g


def test_operators_with_their_settings() -> None:
    model = read_file(tflite.write(three_operators().graph("out")))
    depthwise, pool, last = model.operators
    assert [op.code for op in model.operators] == ["DEPTHWISE_CONV_2D", "MAX_POOL_2D", "CONV_2D"]
    assert (depthwise.kernel, depthwise.stride, depthwise.padding, depthwise.activation) == (
        (3, 3), (1, 1), "SAME", "RELU6",
    )  # fmt: skip
    assert (pool.kernel, pool.stride, pool.padding, pool.activation) == ((2, 2), (2, 2), "VALID", "")
    assert last.sources == ("MAX_POOL_2D", "", "")
    assert [op.macs for op in model.operators] == [8 * 8 * 2 * 9, 0, 4 * 4 * 5 * 2]
    assert model.macs == 1152 + 160
    assert depthwise.constant_bytes == 2 * 9 + 2 * 4
    assert model.constant_bytes == 18 + 8 + 10 + 20
    assert (model.inputs[0].shape, model.outputs[0].shape) == ((1, 8, 8, 2), (1, 4, 4, 5))


def test_peak_of_live_activations() -> None:
    # at the depthwise convolution the input (128 bytes) and its result (128); at the pool 128 + 32; at the last 32 + 80
    assert read_file(tflite.write(three_operators().graph("out"))).peak_activation() == (256, "block_depthwise_conv")
    # as an output, the depthwise result lives to the end
    model = read_file(tflite.write(three_operators().graph("out", "block_depthwise")))
    assert model.peak_activation() == (256, "block_depthwise_conv")


def test_paths_come_from_modules_weights_and_neighbours() -> None:
    data = tflite.write(small_network())
    paths = {op.name: op.path for op in read_file(data).operators}
    assert paths["stem"] == "stem_conv"
    assert paths["images/pad_1_0_1_0"] == "stem_conv"  # a padding belongs to its reader
    assert paths["sum"] == "sum (after stem_conv)"
    assert paths["cls_8"] == "cls_conv"
    named = read_file(data, module_names(["sum", "pool5.inner"]))
    assert {op.name: op.path for op in named.operators}["sum"] == "sum (after stem_conv)"
    graph = small_network()
    assert {op.path for op in read_file(data, graph_modules(graph)).operators} >= {op.name for op in graph.ops}


def test_names_of_modules() -> None:
    assert module_names(["", "backbone.stem.0.conv"]) == {"backbone_stem_0_conv": "backbone.stem.0.conv"}


def test_shared_weights_count_once() -> None:
    g = GraphBuilder((4, 8, 8), qparams(6 / 255, -128))
    weight = np.arange(-32, 32, dtype=np.int8).reshape(16, 4, 1, 1)
    scale, bias = np.full(16, 0.01, np.float32), np.arange(16, dtype=np.int32)
    for name in ("a", "b"):
        g.conv("x", name, 16, (1, 1), padding=(0, 0), weight=weight, weight_scale=scale, bias=bias)
    model = read_file(tflite.write(g.graph("a", "b")))
    assert model.constant_bytes == 64 + 64
    assert sum(op.constant_bytes for op in model.operators) == 2 * (64 + 64)


def test_another_file_is_refused() -> None:
    with pytest.raises(UserError, match="not a TensorFlow Lite model: the identifier TFL3 is missing"):
        read_file(b"\x00" * 64)
