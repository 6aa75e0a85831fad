"""How torch's symmetric padding is said in TensorFlow Lite, without shifting anything by a pixel.

TensorFlow Lite knows SAME (the total padding that keeps ceil(size / stride), the smaller half first) and VALID (none).
Torch pads both sides alike. On an even size with kernel 3, stride 2, torch pads (1, 1) and SAME pads (0, 1): the same
output size, shifted by one pixel. So SAME is used only where it starts at torch's first position on both axes, and
where the windows of both reach the end: the default kernels (XNNPACK) of LiteRT before 2.2.0 take a total padding below
zero, of an axis whose stride leaves rows unread, for a huge one.
"""

from __future__ import annotations

from dataclasses import dataclass

from hatdet.integer.operators.windows.window import window_size


@dataclass(frozen=True)
class PaddingPlan:
    """``mode`` SAME or VALID, after an explicit PAD of ((top, bottom), (left, right)) rows and columns."""

    mode: str
    pad: tuple[tuple[int, int], tuple[int, int]] = ((0, 0), (0, 0))

    @property
    def needs_pad(self) -> bool:
        return self.pad != ((0, 0), (0, 0))


def same_padding(size: int, kernel: int, stride: int, dilation: int = 1) -> tuple[int, int, int]:
    """(output size, padding before, padding after) of SAME along one axis."""
    out = -(-size // stride)
    total = max((out - 1) * stride + dilation * (kernel - 1) + 1 - size, 0)
    return out, total // 2, total - total // 2


def plan_padding(
    size: tuple[int, int],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int] = (1, 1),
) -> PaddingPlan:
    """Choose VALID, SAME or PAD + VALID so that every window lies where torch puts it; pairs are (rows, columns)."""
    if padding == (0, 0):
        return PaddingPlan("VALID")
    axes = list(zip(size, kernel, stride, padding, dilation, strict=True))
    outs = [window_size(n, k, s, p, d) for n, k, s, p, d in axes]
    same = [same_padding(n, k, s, d) for n, k, s, _, d in axes]
    starts = all(out == o and before == p for o, (out, before, _), p in zip(outs, same, padding, strict=True))
    if starts and all((o - 1) * s + d * (k - 1) + 1 >= n for o, (n, k, s, _, d) in zip(outs, axes, strict=True)):
        return PaddingPlan("SAME")
    # Rows beyond the last window are read by nobody: they are not made (Vela folds the rest into the convolution).
    after = [max(0, (o - 1) * s + d * (k - 1) + 1 - n - p) for o, (n, k, s, p, d) in zip(outs, axes, strict=True)]
    return PaddingPlan("VALID", ((padding[0], after[0]), (padding[1], after[1])))
