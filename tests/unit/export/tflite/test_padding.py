"""Torch's padding said in TensorFlow Lite's words."""

import pytest

from hatdet.export.tflite.padding import PaddingPlan, plan_padding, same_padding


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
