"""Torch's padding said in TensorFlow Lite's words."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from hatdet.export.runtimes.parity import check_parity
from hatdet.export.tflite import int8
from hatdet.export.tflite.file_operators import read_file
from hatdet.export.tflite.padding import PaddingPlan, enlarged_kernel, plan_padding, same_padding
from hatdet.integer.graph import IntGraph
from hatdet.utils.errors import UserError
from tests.helpers.int_graphs import GraphBuilder, in_profile, qparams, random_codes, small_network


def test_same_padding_shifts_on_even_sizes() -> None:
    assert same_padding(320, 3, 2) == (160, 0, 1)  # torch pads one before: the file must not say SAME
    assert same_padding(321, 3, 2) == (161, 1, 1)
    assert same_padding(20, 5, 1) == (20, 2, 2)
    assert same_padding(20, 3, 1, dilation=2) == (20, 2, 2)
    assert same_padding(9, 1, 2) == (5, 0, 0)


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "padding", "expected"),
    [
        ((320, 320), (3, 3), (2, 2), (1, 1), PaddingPlan("VALID", ((1, 0), (1, 0)))),
        ((321, 321), (3, 3), (2, 2), (1, 1), PaddingPlan("SAME")),
        ((320, 321), (3, 3), (2, 2), (1, 1), PaddingPlan("VALID", ((1, 0), (1, 1)))),
        ((40, 40), (3, 3), (1, 1), (1, 1), PaddingPlan("SAME")),
        ((40, 40), (5, 5), (1, 1), (2, 2), PaddingPlan("SAME")),
        ((40, 40), (3, 3), (1, 1), (0, 0), PaddingPlan("VALID")),
        ((40, 40), (1, 1), (2, 2), (0, 0), PaddingPlan("VALID")),
        ((10, 10), (5, 5), (2, 2), (2, 2), PaddingPlan("VALID", ((2, 1), (2, 1)))),
        ((6, 5), (3, 3), (1, 1), (2, 3), PaddingPlan("VALID", ((2, 2), (3, 3)))),
        ((8, 6), (3, 1), (1, 1), (1, 0), PaddingPlan("SAME")),
        ((7, 6), (3, 1), (2, 2), (1, 0), PaddingPlan("VALID", ((1, 1), (0, 0)))),  # the last column is unread
        ((7, 5), (3, 1), (2, 2), (1, 0), PaddingPlan("SAME")),
    ],
)
def test_plan(size, kernel, stride, padding, expected) -> None:  # type: ignore[no-untyped-def]
    assert plan_padding(size, kernel, stride, padding) == expected


def test_windows_of_every_plan_are_torch_windows() -> None:
    """For all small cases: the first window starts at torch's first position and there are as many windows."""
    for size in range(1, 20):
        for kernel in range(1, 8):
            for stride in range(1, 4):
                for padding in range(0, 4):
                    if size + 2 * padding < kernel:
                        continue
                    plan = plan_padding((size, size), (kernel, kernel), (stride, stride), (padding, padding))
                    before, after = plan.pad[0]
                    padded = size + before + after
                    if plan.mode == "SAME":
                        count, inner, _ = same_padding(padded, kernel, stride)
                        before += inner
                    else:
                        count = (padded - kernel) // stride + 1
                    assert (count, before) == ((size + 2 * padding - kernel) // stride + 1, padding)


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "padding", "expected"),
    [
        ((320, 320), (3, 3), (2, 2), (1, 1), (4, 4)),
        ((320, 321), (3, 3), (2, 2), (1, 1), (4, 3)),  # SAME is right as it is on the second axis
        ((96, 96), (5, 5), (2, 2), (2, 2), (6, 6)),
        ((96, 96), (7, 7), (2, 2), (3, 3), (8, 8)),
        ((7, 6), (3, 1), (2, 2), (1, 0), (3, 2)),
        ((12, 12), (3, 3), (3, 3), (1, 1), (5, 5)),
        ((6, 5), (3, 3), (1, 1), (2, 3), None),  # more than SAME can pad
        ((32, 32), (1, 1), (2, 2), (1, 1), None),
    ],
)
def test_kernels_that_pad_as_torch_does(size, kernel, stride, padding, expected) -> None:  # type: ignore[no-untyped-def]
    assert enlarged_kernel(size, kernel, stride, padding) == expected


def test_windows_of_every_enlarged_kernel_begin_at_torch_windows() -> None:
    found = 0
    for size in range(1, 20):
        for kernel in range(1, 8):
            for stride in range(1, 4):
                for padding in range(0, kernel):
                    for dilation in (1, 2):
                        if size + 2 * padding < dilation * (kernel - 1) + 1:
                            continue
                        pairs = [(v, v) for v in (kernel, stride, padding, dilation)]
                        larger = enlarged_kernel((size, size), *pairs)
                        if larger is None:
                            continue
                        found += 1
                        count = (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
                        assert same_padding(size, larger[0], stride, dilation)[:2] == (count, padding)
                        assert kernel <= larger[0] <= 2 * kernel
    assert found > 800


def strided(groups: int, kernel: int, size: tuple[int, int]) -> IntGraph:
    """A convolution of stride 2, and one of stride 1 behind it."""
    g = GraphBuilder((6, *size), qparams(0.03, -9), kernel)
    padding = (kernel // 2, kernel // 2)
    g.conv("x", "a", 6, (kernel, kernel), (2, 2), padding, groups=groups)
    g.conv("a", "y", 4, (3, 3))
    return g.graph("y")


@pytest.mark.parametrize("profile", ["tflite_ref", "xnnpack"])
@pytest.mark.parametrize(
    ("groups", "kernel", "size"),
    [(1, 3, (16, 12)), (6, 3, (16, 12)), (6, 5, (14, 20)), (2, 3, (16, 13)), (6, 3, (15, 13))],
)
def test_zeros_of_a_kernel_change_nothing(profile: str, groups: int, kernel: int, size: tuple[int, int]) -> None:
    pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed")
    graph = in_profile(strided(groups, kernel, size), profile)
    codes = torch.from_numpy(random_codes((3, 6, *size), 5))
    usual, data = int8.write(graph), int8.write(graph, padding_as="kernel")
    assert int8.write(graph, padding_as="operator") == usual
    report = check_parity(graph, data, codes, intermediates=True)
    assert report.ok and report.runtimes and not report.differing, report.text()
    pads = [[op.code for op in read_file(file).operators].count("PAD") for file in (usual, data)]
    assert pads == [0, 0] if size == (15, 13) else pads == [1, 0]


def test_a_network_without_copies_is_exact_at_every_tensor_and_says_how_it_pads() -> None:
    pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed")
    graph = small_network()
    data = int8.write(graph, padding_as="kernel")
    report = check_parity(graph, data, torch.from_numpy(random_codes((2, 3, 32, 48))), intermediates=True)
    assert report.ok and len(report.runtimes) == 2, report.text()
    assert int8.read_metadata(data)["padding_as"] == "kernel"
    assert "padding_as" not in int8.read_metadata(int8.write(graph))
    with pytest.raises(UserError, match="stored as operator or kernel, not as 'valid': name one of them"):
        int8.write(graph, padding_as="valid")


def test_weights_of_four_bits_are_enlarged_and_packed() -> None:
    pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed")
    graph = strided(6, 3, (16, 12))
    conv = graph.ops[0]
    weight = np.clip(np.round(conv.weight / 16.0), -7, 7).astype(np.int8)  # type: ignore[attr-defined]
    graph = replace(graph, ops=[replace(conv, weight=weight, weight_bits=4), *graph.ops[1:]])  # type: ignore[call-arg]
    data = int8.write(graph, padding_as="kernel")
    assert check_parity(graph, data, torch.from_numpy(random_codes((3, 6, 16, 12))), intermediates=True).ok
    stored = read_file(data).operators[0].weight
    assert (stored.dtype, stored.bytes) == ("INT4", 4 * 4 * 6 // 2)
