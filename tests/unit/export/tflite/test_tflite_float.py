"""Float .tflite files: every operator against torch, float16 storage, boxes inside the file."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from hatdet.export.float_graph import trace_float
from hatdet.export.runtimes.floating import FloatTFLite, is_compiled, is_float_tflite
from hatdet.export.runtimes.integer import FileLayout
from hatdet.export.tflite.floating import write_float
from hatdet.utils.errors import UserError
from tests.helpers.float_nets import EveryOperatorDetector, every_operator, small_rtmdet

TEXT = '{"output_names": ["a"]}'


@pytest.fixture(autouse=True)
def _installed() -> None:
    pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed")


def images(height: int, width: int, count: int = 2) -> Tensor:
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(1))


def differences(data: bytes, x: Tensor, expected: Any, kernels: str = "default") -> list[float]:
    """Largest difference of each output, as a share of its largest value."""
    found = FloatTFLite(data, kernels).run(x)
    assert [tuple(m.shape) for m in found] == [tuple(m.shape) for m in expected]
    return [float((a - b).abs().max() / a.abs().max()) for a, b in zip(expected, found, strict=True)]


@pytest.mark.parametrize("kernels", ["default", "reference"])
@pytest.mark.parametrize("size", [(36, 28), (30, 42)])
@torch.no_grad()
def test_every_operator_equals_torch(kernels: str, size: tuple[int, int]) -> None:
    """The second size makes odd maps, where symmetric padding is not SAME on one axis only."""
    model = every_operator()
    graph = trace_float(model, size)
    kinds = {op.kind for op in graph.ops}
    assert kinds == {
        "conv", "add", "mul", "concat", "activation", "max_pool", "average_pool", "global_average_pool",
        "resize_nearest", "resize_bilinear", "pad", "clamp",
    }  # fmt: skip
    x = images(*size)
    expected = model.run_network(x)
    assert all(len(m.unique()) > 100 for m in expected)
    assert max(differences(write_float(graph, TEXT), x, expected, kernels)) < 1e-5


@torch.no_grad()
def test_the_model_stays_as_it_was() -> None:
    model, x = every_operator(), images(36, 28)
    before, keys = model.run_network(x), list(model.state_dict())
    trace_float(model, (36, 28))
    assert all(torch.equal(a, b) for a, b in zip(before, model.run_network(x), strict=True))
    assert list(model.state_dict()) == keys and not model.training


def test_the_same_model_gives_the_same_bytes() -> None:
    files = [write_float(trace_float(every_operator(), (36, 28)), TEXT, half) for half in (False, True, False)]
    assert files[0] == files[2] != files[1]


@torch.no_grad()
def test_float16_stores_half_and_computes_in_float32() -> None:
    """Its values are those of torch with weights rounded to float16."""
    model, x = every_operator(), images(36, 28)
    graph = trace_float(model, (36, 28))
    full, half = write_float(graph, TEXT), write_float(graph, TEXT, half=True)
    weights = sum(op.weight.size + op.bias.size for op in graph.ops if op.weight is not None and op.bias is not None)
    assert 4 * weights < len(full) and len(full) - len(half) > 0.5 * 2 * weights
    rounded = [op for op in graph.ops if op.weight is not None]
    for op in rounded:
        op.weight[...] = op.weight.astype(np.float16).astype(np.float32)  # type: ignore[index, union-attr]
        op.bias[...] = op.bias.astype(np.float16).astype(np.float32)  # type: ignore[index, union-attr]
    expected = FloatTFLite(write_float(graph, TEXT)).run(x)
    assert max(differences(half, x, expected)) < 1e-6
    assert 1e-6 < max(differences(half, x, model.run_network(x))) < 1e-2


def test_weights_beyond_float16_are_refused() -> None:
    model = every_operator()
    nn.init.constant_(model.net.cls.weight, 1e5)
    graph = trace_float(model, (36, 28))
    write_float(graph, TEXT)
    with pytest.raises(UserError, match=r"cls/weight reaches 100000; float16 ends at 65504"):
        write_float(graph, TEXT, half=True)


@pytest.mark.parametrize("exp_on_reg", [False, True])
@torch.no_grad()
def test_boxes_and_scores_inside_the_file(exp_on_reg: bool) -> None:
    model, x = small_rtmdet(exp_on_reg=exp_on_reg, num_classes=3), images(64, 96)
    graph = trace_float(model, (64, 96), decode=True)
    expected = model.decoding((64, 96))(*model.run_network(x))
    positions = 8 * 12 + 4 * 6 + 2 * 3
    assert graph.file_outputs == (("boxes", (1, positions, 4)), ("scores", (1, positions, 3)))
    assert max(differences(write_float(graph, TEXT), x, expected)) < 1e-5


@torch.no_grad()
def test_raw_maps_are_named_as_the_detector_names_them() -> None:
    model, x = small_rtmdet(activation="SiLU", channel_attention=True, share_conv=True), images(32, 64, 1)
    graph = trace_float(model, (32, 64))
    data = write_float(graph, TEXT)
    assert [name for name, _ in graph.file_outputs] == ["cls_8", "cls_16", "cls_32", "reg_8", "reg_16", "reg_32"]
    assert graph.file_outputs[3] == ("reg_8", (1, 4, 8, 4))
    assert max(differences(data, x, model.run_network(x))) < 1e-5
    assert is_float_tflite(data) and not is_compiled(data)
    with pytest.raises(ValueError, match="no per-tensor quantization; an int8 model is needed"):
        FileLayout(data)


def test_decoding_that_has_no_form() -> None:
    class Other(EveryOperatorDetector):
        def decoding(self, image_size: tuple[int, int]) -> nn.Module:
            return nn.Identity()

    with pytest.raises(UserError, match="--decode: Other's decoding has no form in this file"):
        trace_float(Other(), (32, 32), decode=True)


def test_an_operator_without_form_is_named() -> None:
    model = every_operator()
    model.net.lone_relu = nn.Softmax(1)  # type: ignore[assignment]
    with pytest.raises(UserError, match="lone_relu: Softmax has no integer form"):
        trace_float(model, (36, 28))


class Small(nn.Module):
    """A layer with weights and a bias, behind a convolution of 3 to 4 channels that keeps its numbers."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.stem, self.layer = nn.Conv2d(3, 4, 1), layer

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return (self.layer(self.stem(x)),)


class SmallDetector(EveryOperatorDetector):
    output_names = ("y",)  # type: ignore[assignment]

    def __init__(self, layer: nn.Module) -> None:
        nn.Module.__init__(self)
        self.net = Small(layer)  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("layer", "parameters"),
    [
        (nn.Conv2d(4, 2, 3), {"weight": "weight", "bias": "bias"}),
        (nn.ConvTranspose2d(4, 2, 2, 2), {"weight": "weight", "bias": "bias"}),
        (nn.PReLU(4), {"weight": "alpha"}),
    ],
    ids=["conv", "conv_transpose", "prelu"],
)
def test_weights_too_small_for_float16_stay_float32(layer: nn.Module, parameters: dict[str, str]) -> None:
    """2**-20 is subnormal there, with four bits left; 2**-10 has all ten."""
    from ai_edge_litert import schema_py_generated as schema

    for small in (*parameters, None):
        for name in parameters:
            nn.init.uniform_(getattr(layer, name), 0.5, 1.0)
            getattr(layer, name).data.mul_(2.0**-20 if name == small else 2.0**-10)
        data = write_float(trace_float(SmallDetector(layer).eval(), (8, 8)), TEXT, half=True)
        model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(data, 0))
        constants = [t for t in model.subgraphs[0].tensors if model.buffers[t.buffer].data is not None]
        types = {t.name.decode(): t.type for t in constants}
        for name, written in parameters.items():
            [kind] = [types[tensor] for tensor in types if "layer" in tensor and tensor.endswith(f"/{written}")]
            assert kind == (schema.TensorType.FLOAT32 if name == small else schema.TensorType.FLOAT16)
