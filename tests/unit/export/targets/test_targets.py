"""The targets' limits: the messages, and verdicts that are Vela's own."""

from __future__ import annotations

import numpy as np
import pytest

from hatdet.export.targets.limits import ETHOS_U_COSTS, ETHOS_U_LIMITS
from hatdet.export.targets.table import TARGETS, Target, get_target, npu_names, npu_target
from hatdet.export.tflite import int8 as tflite
from hatdet.export.tflite.file_operators import FileModel, FileOperator, FileTensor, read_file
from hatdet.export.tflite.flatbuffer import OPERATOR_VERSIONS, FlatbufferModel
from hatdet.export.vela.compile import compile_file
from hatdet.integer.operators.pairs.mul import agreeing_output_scale
from hatdet.utils.errors import UserError
from tests.helpers.int_graphs import GraphBuilder, qparams

U55 = get_target("ethos-u55-128")


def builder(height: int = 16, width: int = 24, channels: int = 8) -> GraphBuilder:
    return GraphBuilder((channels, height, width), qparams(6 / 255, -128))


def test_names_and_what_they_mean() -> None:
    assert list(TARGETS) == [
        "tflite", "litert-xnnpack", "ethos-u55-32", "ethos-u55-64", "ethos-u55-128", "ethos-u55-256", "ethos-u65-256",
        "ethos-u65-512", "onnx",
    ]  # fmt: skip
    assert [get_target(name).macs_per_cycle for name in npu_names()] == [32, 64, 128, 256, 256, 512]
    assert not get_target("tflite").npu and get_target("onnx").decode_in_graph


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("ethos-u55-12", "unknown target 'ethos-u55-12'; did you mean 'ethos-u55-128'.*targets are tflite, litert-x"),
        ("", "unknown target ''; targets are"),
        (5, "unknown target 5"),
    ],
)
def test_unknown_targets(name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        get_target(name)


def test_vela_does_not_compile_for_a_cpu() -> None:
    with pytest.raises(UserError, match="Vela compiles for ethos-u55-32, .*, not for 'tflite'"):
        npu_target("tflite")


def test_every_limit_says_a_rule_and_what_to_use_instead() -> None:
    for limit in (*ETHOS_U_LIMITS, *ETHOS_U_COSTS):
        assert limit.rule.endswith(".") and limit.instead.endswith("."), limit
        assert "\n" not in limit.rule + limit.instead


def test_a_violation_names_operator_finding_rule_and_advice() -> None:
    g = builder()
    g.conv("x", "y", 8, kernel=(5, 5), stride=(4, 4), padding=(2, 2), groups=8)
    model = read_file(tflite.write(g.graph("y")))
    (found,) = U55.violations(model)
    assert (found.path, found.code) == ("y_conv", "DEPTHWISE_CONV_2D")
    assert found.message == (
        "DEPTHWISE_CONV_2D with stride 4x4: The stride of a depthwise convolution is 1 to 3. "
        "Use stride 2 several times, or a dense convolution."
    )
    with pytest.raises(UserError, match="1 operator does not run on ethos-u55-128:\n  y_conv: DEPTHWISE_CONV_2D with"):
        U55.check(model)
    get_target("tflite").check(model)  # the reference kernels take any stride


def branches() -> GraphBuilder:
    """Operators at and beyond the limits, side by side."""
    g = builder()
    g.conv("x", "m", 8)
    for k in (3, 4):
        g.conv("m", f"depthwise{k}", 8, kernel=(5, 5), stride=(k, k), padding=(2, 2), groups=8)
        g.max_pool("m", f"pool{k}", (4, 4), stride=(k, k))
    g.conv("m", "stride4", 8, kernel=(4, 4), stride=(4, 4), padding=(0, 0))
    g.conv("m", "stride4dilated", 8, stride=(4, 4), padding=(0, 0), dilation=(2, 2))
    g.conv("m", "dilated", 8, padding=(4, 4), dilation=(4, 4))
    g.conv("m", "grouped", 16, groups=4)
    g.max_pool("m", "pool13", (13, 13), padding=(6, 6))
    for factor in (2, 3, 4, 8, 16):
        g.resize("m", f"resize{factor}", factor)
    g.average("m", "mean")
    g.mul("m", "mean", "scaled", qparams(36 / 255, -128))
    g.add("m", "scaled", "sum", qparams(42 / 255, -128))
    g.requantize("m", "requantized", qparams(8 / 255, -128))
    g.clamp("m", "limited", "clamp(0.0,2.5)")
    g.clamp("m", "limited1", "relu_n1_to_1")
    g.conv("m", "conv_limited", 8, activation="clamp(-1.0,2.5)", q=qparams(6 / 255, -20))
    for name, alpha in (("one slope", [32]), ("slopes", [5, -9, 127, 0, 1, 2, 3, 4])):
        g.apply("prelu", "m", name, qparams(0.02, -90), alpha=np.array(alpha, np.int8), alpha_scale=2.0**-6)
    table = np.arange(-128, 128).astype(np.int8)
    g.apply("function", "m", "function", qparams(0.02), function="gelu", numbers=(), table=table)
    g.activation("m", "tanh", "tanh", qparams(1 / 128, 0))
    for function in ("hardswish", "silu", "sigmoid"):
        g.activation("m", function, function, qparams(1 / 256 if function == "sigmoid" else 6 / 255, -128))
    return g


def test_verdicts_are_velas_own() -> None:
    pytest.importorskip("ethosu.vela", reason="Vela is not installed")
    g = branches()
    leaves = [op.output for op in g.ops if op.output not in ("m", "mean", "scaled")]
    data = tflite.write(g.graph(*leaves))
    refused = {v.path for v in U55.violations(read_file(data, {op.output: op.output for op in g.ops}))}
    assert refused == {"function", "depthwise4", "stride4dilated", "resize3", "resize16"}
    for name in ("ethos-u55-128", "ethos-u65-256"):
        result = compile_file(data, get_target(name))
        on_cpu = {op.name for op in result.compiled.operators if op.code != "ethos-u"}
        assert on_cpu == refused | {"function/code"}, "a table and what makes its index, of which we speak once"
        assert len(result.cpu_operators) == 6


def test_a_padded_convolution_of_stride_4_is_refused_because_vela_fails_on_it() -> None:
    pytest.importorskip("ethosu.vela", reason="Vela is not installed")
    g = builder()
    g.conv("x", "y", 8, kernel=(5, 5), stride=(4, 4), padding=(2, 2))
    data = tflite.write(g.graph("y"))
    assert [v.code for v in U55.violations(read_file(data))] == ["CONV_2D"]
    with pytest.raises(UserError, match="Vela failed: .*Conv2D"):
        compile_file(data, U55)


def tensor(shape: tuple[int, ...], dtype: str = "INT8", buffer: int = 0) -> FileTensor:
    return FileTensor("t", shape, dtype, buffer, 1)


def verdict(target: Target, op: FileOperator) -> list[str]:
    return [v.message for v in target.violations(FileModel((op,), op.inputs, op.outputs))]


def resize(code: str, before: tuple[int, int], after: tuple[int, int], **settings: object) -> FileOperator:
    maps = tensor((1, *before, 8)), tensor((1, *after, 8))
    return FileOperator(code, "t", "up", maps[:1], maps[1:], ("",), settings)


@pytest.mark.parametrize(
    ("op", "runs"),
    [
        (resize("RESIZE_BILINEAR", (5, 7), (10, 14), halfPixelCenters=True), True),
        (resize("RESIZE_BILINEAR", (5, 7), (20, 28), halfPixelCenters=True), False),
        (resize("RESIZE_BILINEAR", (5, 7), (20, 28)), True),
        (resize("RESIZE_BILINEAR", (5, 7), (10, 28)), False),
        (resize("RESIZE_BILINEAR", (1, 1), (20, 28), halfPixelCenters=True), True),
        (resize("RESIZE_BILINEAR", (5, 1), (10, 1), halfPixelCenters=True), True),
        (resize("RESIZE_BILINEAR", (5, 7), (9, 13), alignCorners=True), True),
        (resize("RESIZE_BILINEAR", (5, 7), (10, 14), alignCorners=True), False),
        (resize("RESIZE_NEAREST_NEIGHBOR", (5, 7), (5, 7)), True),
    ],
)
def test_factors_of_enlargement(op: FileOperator, runs: bool) -> None:
    assert (verdict(U55, op) == []) is runs


def pool(kernel: int, padding: str) -> FileOperator:
    settings = {"filterHeight": kernel, "filterWidth": kernel, "strideH": 1, "strideW": 1, "padding": padding}
    maps = (tensor((1, 300, 300, 8)),)
    return FileOperator("AVERAGE_POOL_2D", "t", "pool", maps, maps, ("",), settings)


def test_windows_of_average_pools() -> None:
    assert verdict(U55, pool(8, "SAME")) == []
    assert (
        "window of 9x9: The window of an average pool with padding SAME is at most 8x8."
        in verdict(U55, pool(9, "SAME"))[0]
    )
    assert verdict(U55, pool(256, "VALID")) == []
    assert "window of 257x257: The window of a pool is at most 256 high" in verdict(U55, pool(257, "VALID"))[0]


def conv(weights: tuple[int, ...], dtype: str = "INT8", maps: str = "INT8") -> FileOperator:
    inputs = (tensor((1, 8, 8, weights[3]), maps), tensor(weights, dtype, buffer=1))
    return FileOperator("CONV_2D", "t", "conv", inputs, (tensor((1, 8, 8, weights[0]), maps),), ("", ""), {})


def test_weights_and_types() -> None:
    assert verdict(U55, conv((4, 8, 8, 1024))) == []  # 65536 weights
    assert "65600 weights an output channel" in verdict(U55, conv((4, 8, 8, 1025)))[0]
    assert verdict(U55, conv((4, 1, 1, 8), maps="INT16")) == []
    found = verdict(U55, conv((4, 1, 1, 8), "FLOAT32", "FLOAT32"))
    assert "feature maps of FLOAT32" in found[0] and "weights of FLOAT32" in found[1]


def test_an_operator_outside_the_table() -> None:
    op = FileOperator("SOFTMAX", "t", "head.softmax", (tensor((1, 4)),), (tensor((1, 4)),), ("",), {})
    assert verdict(U55, op)[0].startswith("SOFTMAX does not run on ethos-u55-128; it takes ADD, ")
    assert verdict(get_target("onnx"), op) == []


def test_outputs_of_16_bits_stay_on_the_npu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A convolution that reads and writes 16 bits, behind the change from 8 to 16."""
    pytest.importorskip("ethosu.vela", reason="Vela is not installed")
    monkeypatch.setitem(OPERATOR_VERSIONS, "CONV_2D", 4)
    model = FlatbufferModel("test")
    schema = model.schema
    scale = np.array([0.05], np.float32)
    x = model.tensor("images", (1, 8, 8, 8), "INT8", scale, -128)
    wide = model.tensor("wide", (1, 8, 8, 8), "INT16", scale)
    model.operator("QUANTIZE", [x], wide, schema.QuantizeOptionsT())
    weight = model.constant("w", np.ones((4, 1, 1, 8), np.int8), "INT8", np.full(4, 0.01, np.float32))
    bias = model.constant("b", np.arange(4, dtype=np.int64), "INT64", np.full(4, 0.0005, np.float32))
    y = model.tensor("y", (1, 8, 8, 4), "INT16", np.array([0.001], np.float32))
    options = schema.Conv2DOptionsT()
    options.padding = schema.Padding.VALID
    options.strideH = options.strideW = options.dilationHFactor = options.dilationWFactor = 1
    model.operator("CONV_2D", [wide, weight, bias], y, options)
    data = model.finish({"images": x}, {"y": y})
    for name in ("ethos-u55-128", "ethos-u65-256"):
        assert get_target(name).int16_outputs
        result = compile_file(data, get_target(name))
        assert get_target(name).violations(result.source) == [] and result.cpu_operators == ()


def test_costs_are_named() -> None:
    g = builder()
    g.conv("x", "a", 8, groups=2, activation="none")
    scale = agreeing_output_scale([(qparams(0.043).scale, 1 / 256)], 6 / 255)  # about that
    g.activation("a", "b", "silu", qparams(scale, -120))
    g.conv("b", "c", 8, kernel=(4, 4), stride=(4, 4), padding=(0, 0))
    model = read_file(tflite.write(g.graph("c")))
    assert U55.violations(model) == []
    assert [(c.path, c.message.split(":")[0]) for c in U55.costs(model)] == [
        ("a_conv", "CONV_2D with 2 groups"),
        ("b (after a_conv)", "MUL with a SiLU"),
        ("c_conv", "CONV_2D with stride 4x4"),
    ]
