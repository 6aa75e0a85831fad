"""The .tflite writer: what is in the file, bit for bit, and what it refuses."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hatdet.export.tflite import int8 as tflite
from hatdet.export.tflite.limits import bias_scale
from hatdet.export.tflite.writer import TfliteWriter
from hatdet.integer.graph import IntGraph
from hatdet.integer.operators.pairs.add import AddOp
from hatdet.integer.operators.windows.conv import ConvOp
from hatdet.utils.errors import UserError
from tests.helpers.int_graphs import GraphBuilder, qparams, small_network

pytest.importorskip("ai_edge_litert", reason="the .tflite schema comes from ai-edge-litert")
PIXELS = qparams(1 / 255, -128)


def read(data: bytes) -> Any:
    """The file as the schema's object tree."""
    from ai_edge_litert import schema_py_generated as schema

    return schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(data, 0))


def tensors_of(data: bytes) -> dict[str, Any]:
    return {t.name.decode(): t for t in read(data).subgraphs[0].tensors}


def one_conv(**changes: Any) -> IntGraph:
    g = GraphBuilder((4, 8, 8), PIXELS)
    g.conv("x", "y", 6)
    g.ops[0] = dataclasses.replace(g.ops[0], **changes)
    return g.graph("y")


def operator_codes(data: bytes) -> list[tuple[int, int]]:
    model = read(data)
    return [(model.operatorCodes[o.opcodeIndex].builtinCode, model.operatorCodes[o.opcodeIndex].version)
            for o in model.subgraphs[0].operators]  # fmt: skip


def test_same_graph_same_bytes() -> None:
    assert tflite.write(small_network()) == tflite.write(small_network())
    assert tflite.write(small_network(seed=1)) != tflite.write(small_network())


def test_header_signature_and_names() -> None:
    data = tflite.write(small_network())
    model = read(data)
    assert data[4:8] == b"TFL3" and model.version == 3
    graph = model.subgraphs[0]
    assert [graph.tensors[i].name for i in graph.inputs] == [b"images"]
    assert [graph.tensors[i].name for i in graph.outputs] == [b"cls_8", b"reg_8"]
    signature = model.signatureDefs[0]
    assert signature.signatureKey == b"serving_default"
    assert [(m.name, m.tensorIndex) for m in signature.outputs] == list(zip([b"cls_8", b"reg_8"], graph.outputs))
    assert model.buffers[0].data is None
    for code in model.operatorCodes:
        assert code.deprecatedBuiltinCode == min(code.builtinCode, 127)


def test_scales_and_codes_come_back_bit_for_bit() -> None:
    graph = small_network()
    data = tflite.write(graph)
    model, tensors = read(data), tensors_of(data)
    names = {"x": "images", "cls": "cls_8", "reg": "reg_8"}
    for info in graph.tensors.values():
        t = tensors[names.get(info.name, info.name)]
        assert t.quantization.scale.tolist() == [info.qparams.scale], "a float32 survives exactly as a Python float"
        assert t.quantization.zeroPoint.tolist() == [info.qparams.zero_point]
        assert t.shape.tolist() == [1, info.shape[1], info.shape[2], info.shape[0]]
    for op in graph.ops:
        if not isinstance(op, ConvOp):
            continue
        weight, bias = tensors[f"{op.name}/weight"], tensors[f"{op.name}/bias"]
        depthwise = op.groups == graph.tensors[op.input].shape[0]
        assert weight.quantization.quantizedDimension == (3 if depthwise else 0)
        assert np.array_equal(weight.quantization.scale, op.weight_scale)
        expected = np.float32(graph.qparams(op.input).scale) * op.weight_scale
        assert expected.dtype == np.float32 and np.array_equal(bias.quantization.scale, expected)
        stored = model.buffers[weight.buffer].data.view(np.int8).reshape(weight.shape)
        back = stored[0].transpose(2, 0, 1)[:, None] if depthwise else stored.transpose(0, 3, 1, 2)
        assert np.array_equal(back, op.weight)
        assert np.array_equal(model.buffers[bias.buffer].data.view(np.int32), op.bias)


def test_operator_versions() -> None:
    """Versions of int8 operators: CONV_2D 3 (grouped 6), DEPTHWISE 3, resize 2 (half-pixel centres 3)."""
    data = tflite.write(small_network())
    add, concat, conv, depthwise, pool, pad, resize, quantize = 0, 2, 3, 4, 17, 34, 97, 114
    assert set(operator_codes(data)) == {
        (add, 2), (concat, 2), (conv, 3), (conv, 6), (depthwise, 3), (pool, 2), (pad, 2), (resize, 2), (quantize, 2)
    }  # fmt: skip
    g = GraphBuilder((2, 3, 3), PIXELS)
    g.resize("x", "y", 3)
    assert operator_codes(tflite.write(g.graph("y"))) == [(resize, 3)]


def test_stride_two_on_even_sizes_is_padded_explicitly_and_once() -> None:
    g = GraphBuilder((3, 8, 8), PIXELS)
    g.conv("x", "a", 4, stride=(2, 2))
    g.conv("x", "b", 4, stride=(2, 2))
    data = tflite.write(g.graph("a", "b"))
    assert [code for code, _ in operator_codes(data)] == [34, 3, 3], "one PAD serves both convolutions"
    assert tensors_of(data)["images/pad_1_0_1_0"].shape.tolist() == [1, 9, 9, 3]
    odd = GraphBuilder((3, 9, 9), PIXELS)
    odd.conv("x", "a", 4, stride=(2, 2))
    assert [code for code, _ in operator_codes(tflite.write(odd.graph("a")))] == [3]


def test_identical_weights_are_stored_once() -> None:
    """Heads that share weights over levels carry them once, also where the scales differ."""
    weight = np.random.default_rng(0).integers(-127, 128, (32, 32, 3, 3)).astype(np.int8)
    g = GraphBuilder((32, 8, 8), PIXELS)
    g.conv("x", "a", 32, weight=weight)
    g.conv("x", "b", 32, weight=weight)
    data = tflite.write(g.graph("a", "b"))
    tensors = tensors_of(data)
    assert tensors["a_conv/weight"].buffer == tensors["b_conv/weight"].buffer
    assert data.count(weight.transpose(0, 2, 3, 1).tobytes()) == 1


def test_data_is_aligned_to_sixteen_bytes() -> None:
    data = tflite.write(small_network())
    model = read(data)
    for buffer in model.buffers[1:]:
        offset = data.find(bytes(buffer.data))
        if len(buffer.data) >= 64:  # short contents may occur elsewhere by chance
            assert offset % 16 == 0


def test_metadata_inside_and_beside(tmp_path: Path) -> None:
    path = tmp_path / "out" / "model_int8.tflite"
    data = tflite.write(small_network(), path, metadata={"classes": ("cat", "dog"), "strides": np.array([8, 16])})
    inside = tflite.read_metadata(path)
    assert path.read_bytes() == data and inside == json.loads((tmp_path / "out" / "model_int8.json").read_text())
    assert inside["classes"] == ["cat", "dog"] and inside["strides"] == [8, 16]
    assert inside["profile"] == "tflite_ref"
    assert inside["input"]["shape"] == [1, 32, 48, 3] and inside["input"]["zero_point"] == -128
    assert np.float32(inside["input"]["scale"]) == np.float32(1 / 255)
    assert [o["name"] for o in inside["outputs"]] == ["cls_8", "reg_8"]
    assert sorted(p.name for p in path.parent.iterdir()) == ["model_int8.json", "model_int8.tflite"], "no leftovers"


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "m.tflite"
    tflite.write(small_network(), path)
    before = path.read_bytes()

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="disk full"):
        tflite.write(small_network(seed=1), path)
    assert path.read_bytes() == before and len(list(tmp_path.iterdir())) == 2


def test_read_metadata_refuses_other_files() -> None:
    with pytest.raises(UserError, match="identifier TFL3 is missing"):
        tflite.read_metadata(b"not a model at all")


def test_outputs_that_are_used_inside() -> None:
    g = GraphBuilder((3, 8, 8), PIXELS)
    g.conv("x", "a", 4)
    g.conv("a", "b", 4)
    graph = read(tflite.write(g.graph("b", "a"))).subgraphs[0]
    assert [graph.tensors[i].name for i in graph.outputs] == [b"b", b"a"]


def test_a_tensor_may_bear_the_name_of_an_output() -> None:
    g = GraphBuilder((3, 8, 8), PIXELS)
    g.conv("x", "out", 4)
    g.conv("out", "images", 4)
    tensors = tensors_of(tflite.write(g.graph("images", output_names=("out",))))
    assert {"images", "out_", "out"} <= set(tensors)


def test_refuses_what_the_format_cannot_carry() -> None:
    conv = one_conv().ops[0]
    assert isinstance(conv, ConvOp)
    low = conv.weight.copy()
    low[0, 0, 0, 0] = -128
    zero = conv.weight_scale.copy()
    zero[2] = 0
    cases = [
        ({"weight": low}, r"'y_conv' has a weight of -128; the int8 format allows \[-127, 127\]"),
        ({"weight_scale": zero}, "'y_conv' has the weight scale 0.0"),
        ({"weight_scale": np.full(6, 1e-44, np.float32)}, "underflows float32"),
        ({"hi": 50}, r"clamps its codes to \(-128, 50\), but activation 'relu6'"),
        ({"weight_scale": np.full(6, 1e4, np.float32)}, "beyond int32"),
        ({"groups": 3}, "does not fit 4 input channels"),
    ]
    for changes, message in cases:
        with pytest.raises(UserError, match=message):
            tflite.write(one_conv(**changes))


def test_refuses_an_addition_whose_multiplier_reaches_one() -> None:
    """The kernel aborts the process there; 2**19 * 0.001 = 524.288 is the largest input scale below it."""

    def graph(scale: float) -> IntGraph:
        g = GraphBuilder((1, 2, 2), qparams(scale))
        g.add("x", "x", "y", qparams(0.001))
        assert isinstance(g.ops[0], AddOp)
        return g.graph("y")

    tflite.write(graph(524.0))
    with pytest.raises(UserError, match=r"operator 'y_add' \(add\): the larger input scale 525 .* below 1"):
        tflite.write(graph(525.0))


def test_refuses_wrong_names() -> None:
    g = GraphBuilder((3, 8, 8), PIXELS)
    g.conv("x", "a", 4)
    for names, message in [(("p", "q"), "2 output names"), (("images",), "unique and not 'images'")]:
        with pytest.raises(ValueError, match=message):
            tflite.write(g.graph("a", output_names=names))


def test_metadata_must_be_plain() -> None:
    with pytest.raises(TypeError, match="metadata holds a object"):
        tflite.write(small_network(), metadata={"x": object()})


def test_bias_scale_is_a_float32_product() -> None:
    scales = np.array([0.1, 1 / 3], dtype=np.float32)
    assert bias_scale(0.3, scales).tolist() == [float(np.float32(0.3) * s) for s in scales]


@pytest.mark.parametrize(
    ("size", "name"), [((9, 9), None), ((8, 9), "pad_1_0_1_1"), ((9, 8), "pad_1_1_1_0"), ((8, 8), "pad_1_0_1_0")]
)
def test_rows_and_columns_are_padded_each_by_their_size(size: tuple[int, int], name: str | None) -> None:
    """Stride 2 and kernel 3: an odd side is SAME; where the other one is even, all of it is padded before."""
    g = GraphBuilder((3, *size), PIXELS)
    g.conv("x", "a", 4, stride=(2, 2))
    data = tflite.write(g.graph("a"))
    assert [tensor for tensor in tensors_of(data) if "pad_" in tensor] == ([] if name is None else [f"images/{name}"])
    pooled = GraphBuilder((3, *size), qparams(0.1, 3))
    pooled.max_pool("x", "a", (3, 3), (2, 2), (1, 1))
    tensors = [tensor for tensor in tensors_of(tflite.write(pooled.graph("a"))) if "pad_" in tensor]
    assert tensors == ([] if name is None else [f"images/{name}_lowest"])


def test_a_writer_says_all_that_differs_between_the_files() -> None:
    assert {"value", "linear", "activation", "padded"} == TfliteWriter.__abstractmethods__
