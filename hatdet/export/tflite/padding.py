"""How torch's symmetric padding is said in TensorFlow Lite, without shifting anything by a pixel.

TensorFlow Lite knows SAME (the total padding that keeps ceil(size / stride), the smaller half first) and VALID (none).
Torch pads both sides alike. On an even size with kernel 3, stride 2, torch pads (1, 1) and SAME pads (0, 1): the same
output size, shifted by one pixel. So SAME is used only where it starts at torch's first position on both axes, and
where the windows of both reach the end: the default kernels (XNNPACK) of LiteRT before 2.2.0 take a total padding below
zero, of an axis whose stride leaves rows unread, for a huge one.

Where SAME does not do, a PAD operator writes the whole map once more, and both copies lie in memory at once. A larger
kernel does without: with a fourth row and column of zeros, SAME pads (1, 1) there as torch does, and products with zero
change no sum.
"""

from __future__ import annotations

from dataclasses import dataclass

from hatdet.integer.operators.windows.window import window_size
from hatdet.utils.errors import UserError

PADDING_AS = ("operator", "kernel")
"""How a padding that SAME does not say may be stored."""


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


def enlarged_kernel(
    size: tuple[int, int],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int] = (1, 1),
) -> tuple[int, int] | None:
    """The least kernel (rows, columns) with which SAME starts where torch does, when what is new of it is zero; pairs
    as for :func:`plan_padding`. None: there is none up to twice the kernel."""
    found = []
    for n, k, s, p, d in zip(size, kernel, stride, padding, dilation, strict=True):
        out = window_size(n, k, s, p, d)
        fitting = (
            larger
            for larger in range(k, 2 * k + 1)
            if same_padding(n, larger, s, d)[:2] == (out, p) and (out - 1) * s + d * (larger - 1) + 1 >= n
        )
        found.append(next(fitting, 0))
    rows, columns = found
    return (rows, columns) if rows and columns else None


def pads_in_kernels(padding_as: str | None) -> bool:
    """Whether kernels are enlarged; ``padding_as``: one of :data:`PADDING_AS`, None: operator.

    Raises:
        UserError: an unknown name.
    """
    if padding_as not in (None, *PADDING_AS):
        allowed = " or ".join(PADDING_AS)
        raise UserError(f"a padding is stored as {allowed}, not as {padding_as!r}: name one of them")
    return padding_as == "kernel"
