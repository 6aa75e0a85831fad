"""Weights of four bits in a ``.tflite`` file: packed as the schema says, computed alike by every runtime."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from hatdet.export.formats.tflite import narrow_weights
from hatdet.export.runtimes.integer import LiteRTRuntime, to_nhwc
from hatdet.export.runtimes.parity import check_parity
from hatdet.export.targets.table import get_target
from hatdet.export.tflite import int4, int8
from hatdet.export.tflite.file_operators import FileModel, read_file
from hatdet.export.tflite.flatbuffer import load_schema
from hatdet.integer.executor import IntExecutor
from hatdet.integer.graph import IntGraph
from hatdet.utils.errors import UserError
from tests.helpers.compare import assert_equal_everywhere
from tests.helpers.int_graphs import GraphBuilder, in_profile, qparams, random_codes, small_network, wide

pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed")


def narrowed(graph: IntGraph) -> IntGraph:
    """The graph with every weight in [-7, 7], marked as one of four bits; scales grow by as much."""

    def narrow(op: Any) -> Any:
        if not hasattr(op, "weight_bits"):
            return op
        weight = np.clip(np.round(op.weight / 16.0), -7, 7).astype(np.int8)
        bias, scale = np.round(op.bias / 16.0).astype(np.int32), op.weight_scale * np.float32(16)
        return replace(op, weight=weight, bias=bias, weight_scale=scale, weight_bits=4)

    return replace(graph, ops=[narrow(op) for op in graph.ops])


def one_layer(
    kernel: tuple[int, int], channels: int, outputs: int, groups: int = 1, activation: str = "relu6", **settings: Any
) -> IntGraph:
    g = GraphBuilder((channels, 7, 5), qparams(0.03, -9), 3)
    padding = (kernel[0] // 2, kernel[1] // 2)
    g.conv("x", "y", outputs, kernel, padding=padding, groups=groups, activation=activation, **settings)
    return narrowed(g.graph("y"))


LAYERS = {
    "dense": ((3, 3), 5, 7, 1),  # 315 weights: the last nibble is empty
    "one by one": ((1, 1), 3, 3, 1),
    "single weight": ((1, 1), 1, 1, 1),
    "even": ((1, 1), 4, 6, 1),
    "depthwise": ((3, 3), 5, 5, 5),
    "depthwise of odd size": ((1, 1), 3, 3, 3),
    "depthwise with a multiplier": ((3, 1), 3, 6, 3),
    "groups": ((3, 3), 6, 4, 2),
}


def test_two_codes_a_byte_the_first_in_the_low_nibble() -> None:
    assert int4.pack(np.array([[1, -1], [7, -7]], np.int8)).tolist() == [0xF1, 0x97]
    assert int4.pack(np.array([-8, 7, 3], np.int8)).tolist() == [0x78, 0x03]
    assert int4.pack(np.zeros(0, np.int8)).size == 0
    for count in (1, 2, 7, 300):
        codes = np.random.default_rng(count).integers(-8, 8, count).astype(np.int8)
        packed = int4.pack(codes)
        assert packed.size == (count + 1) // 2 and np.array_equal(int4.unpack(packed.tobytes(), count), codes)
    with pytest.raises(AssertionError):
        int4.pack(np.array([8], np.int8))


@pytest.mark.parametrize("name", LAYERS)
def test_every_layer_is_computed_alike(name: str) -> None:
    """Literal formulas, torch, LiteRT's reference kernels, TensorFlow Lite Micro, exact ONNX."""
    kernel, channels, outputs, groups = LAYERS[name]
    graph = one_layer(kernel, channels, outputs, groups)
    codes = random_codes((3, channels, 7, 5), 1)
    expected = assert_equal_everywhere(graph, codes)
    assert len(np.unique(expected["y"])) > 3
    model = read_file(int8.write(graph))
    weight = model.operators[0].weight
    size = graph.ops[0].stored[0].size
    assert (weight.dtype, weight.bytes) == ("INT4", (size + 1) // 2)
    assert weight.scales == outputs


@pytest.mark.parametrize(("kernel", "groups", "version"), [((3, 3), 1, 7), ((1, 1), 2, 7), ((3, 3), 6, 6)])
def test_the_version_says_that_filters_have_four_bits(kernel: tuple[int, int], groups: int, version: int) -> None:
    graph = one_layer(kernel, 6, 6, groups)
    schema = load_schema()
    root = schema.Model.GetRootAsModel(int8.write(graph), 0)
    assert root.OperatorCodes(0).Version() == version
    usual = schema.Model.GetRootAsModel(int8.write(graph, weights_as="int8"), 0).OperatorCodes(0).Version()
    assert usual == (6 if groups == 2 else 3)


def test_a_network_is_exact_at_every_tensor_and_smaller() -> None:
    graph = narrowed(small_network())
    codes = torch.from_numpy(random_codes((2, 3, 32, 48)))
    sizes = {}
    for form in ("int4", "int8", None):
        data = int8.write(graph, weights_as=form)
        report = check_parity(graph, data, codes, intermediates=True)
        assert report.ok and len(report.runtimes) == 2, report.text()
        sizes[form] = read_file(data).constant_bytes
        assert int8.read_metadata(data)["weights_as"] == (form or "int4")
        assert narrow_weights(graph, data)["layers"] == sum(hasattr(op, "weight_bits") for op in graph.ops)
    assert sizes["int8"] - sizes["int4"] == sum(op.stored[0].size // 2 for op in graph.ops if op.stored)
    assert sizes["int4"] - graph.weight_bytes == sizes["int8"] - small_network().weight_bytes, "PAD has constants too"
    assert narrow_weights(small_network(), int8.write(small_network())) == {}


def test_swapped_nibbles_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file whose pairs stand the wrong way round, as a runtime of the other order would read a right one."""
    graph, codes = narrowed(small_network()), torch.from_numpy(random_codes((1, 3, 32, 48)))
    right = int4.pack
    monkeypatch.setattr("hatdet.export.tflite.flatbuffer.pack", lambda c: (right(c) >> 4) | (right(c) << 4))
    report = check_parity(graph, int8.write(graph), codes)
    assert not report.ok and report.differing > 100


def test_a_code_beyond_seven_is_refused() -> None:
    graph = one_layer((1, 1), 3, 3)
    conv: Any = graph.ops[0]
    conv.stored[0][0, 0, 0, 0] = 8
    with pytest.raises(UserError, match="a weight code of magnitude 8 in 4 bits"):
        graph.validate()
    with pytest.raises(UserError, match="weights of 2 bits"):
        replace(graph, ops=[replace(conv, weight_bits=2)])


def test_graphs_keep_their_bits_and_others_are_as_ever() -> None:
    graph = narrowed(small_network())
    again = IntGraph.from_state(graph.to_state())
    assert int8.write(again) == int8.write(graph) and again.weight_bytes == graph.weight_bytes
    assert not any("weight_bits" in op for op in small_network().to_state()["ops"])


def test_other_layers_keep_int8() -> None:
    """TRANSPOSE_CONV has no kernel of int4 filters, and TensorFlow Lite Micro none with activations of 16 bits."""
    g = GraphBuilder((3, 6, 5), qparams(0.03, 4), 5)
    weight = g.rng.integers(-7, 8, (5, 3, 3, 3)).astype(np.int8)
    scales = np.full(5, 0.02, np.float32)
    g.apply("conv_transpose", "x", "up", qparams(0.05, 3), weight=weight, bias=np.arange(5, dtype=np.int32),
            weight_scale=scales, stride=(2, 2), padding=(1, 1), output_padding=(1, 1), activation="none", lo=-128,
            hi=127, weight_bits=4)  # fmt: skip
    weight = g.rng.integers(-7, 8, (4, 5, 1, 1)).astype(np.int8)
    g.conv("up", "y", 4, (1, 1), padding=(0, 0), activation="none", q=wide(1e-4), weight=weight)
    graph = narrowed(g.graph("y"))
    data = int8.write(graph)
    assert [op.weight.dtype for op in read_file(data).operators if op.weighted] == ["INT8", "INT8"]
    report = check_parity(graph, data, torch.from_numpy(random_codes((2, 3, 6, 5))), intermediates=True)
    assert report.ok, report.text()


def test_kernels_of_another_arithmetic_get_int8() -> None:
    """LiteRT's default kernels compute an int4 filter outside of XNNPACK, in the reference's arithmetic."""
    graph = one_layer((3, 3), 5, 7)
    runtime = LiteRTRuntime(int8.write(graph), "default")
    assert {"CONV_2D"} == {op["op_name"] for op in runtime.interpreter._get_ops_details()}, "no delegate takes it"
    codes = random_codes((2, 5, 7, 5))
    expected = IntExecutor(graph)(torch.from_numpy(codes))[0]
    assert np.array_equal(runtime.run(to_nhwc(codes))[0], to_nhwc(expected))
    theirs = in_profile(graph, "xnnpack")
    assert read_file(int8.write(theirs)).operators[0].weight.dtype == "INT8"
    with pytest.raises(UserError, match="cannot be stored as int4.*'xnnpack'.*store them as int8"):
        int8.write(theirs, weights_as="int4")
    both = replace(graph, metadata={**graph.metadata, "second_profile": "xnnpack"})
    assert read_file(int8.write(both)).operators[0].weight.dtype == "INT8"
    report = check_parity(theirs, int8.write(theirs), torch.from_numpy(codes))
    assert report.ok, report.text()
    with pytest.raises(UserError, match="int4 or int8, not as 'int2'"):
        int8.write(graph, weights_as="int2")


@pytest.mark.parametrize(("target", "form"), [("tflite", None), ("litert-xnnpack", "int8"), ("ethos-u55-128", "int8")])
def test_targets_say_how_weights_are_stored(target: str, form: str | None) -> None:
    model: FileModel = read_file(int8.write(one_layer((3, 3), 5, 7), weights_as=get_target(target).weights_as))
    assert model.operators[0].weight.dtype == ("INT8" if form else "INT4")
    if target == "ethos-u55-128":
        packed = read_file(int8.write(one_layer((3, 3), 5, 7)))
        said = [violation.message for violation in get_target(target).violations(packed)]
        assert len(said) == 1 and said[0].startswith("CONV_2D with weights of INT4: Weights are 8 bits."), said
