"""What is left to the training device, done to a whole batch: the integers that the CPU's transforms give.

Per operation, beside OpenCV on the CPU:

- mirroring, padding, R, G, B, gray and YUV: equal;
- HSV: equal, by tables that OpenCV made, but for the last ``width % 32`` columns of the picture whose colours are
  shifted, where OpenCV's own loop for the rest of a line differs from its vector loop by at most one level;
- MixUp: equal where OpenCV multiplies and adds in one step (FMA: x86 with AVX2, ARM), else within one level.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hatdet.data.transforms.batch.unfinished import join
from hatdet.registry import register

_HUES = 180


@register
class FinishOnDevice:
    """Batch transform: finishes the pictures of batches whose data set's transforms end with
    :class:`~hatdet.data.transforms.batch.leave.LeaveToDevice`, on the device where they are. Others pass as they are.
    """

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        if "unfinished" not in batch:
            return batch
        rest = {key: value for key, value in batch.items() if key != "unfinished"}
        return {**rest, "img": finish(batch["img"], batch["unfinished"])}


def finished_item(item: dict[str, Any]) -> dict[str, Any]:
    """One sample of a data set with its picture finished."""
    if "unfinished" not in item:
        return item
    left = join([item["unfinished"]], item["img"].shape[1:])
    rest = {key: value for key, value in item.items() if key != "unfinished"}
    return {**rest, "img": finish(item["img"][None], left)[0]}


def finish(img: Tensor, left: dict[str, Any]) -> Tensor:
    """The pictures (B, C, H, W) uint8 after what ``left`` says (``unfinished.join``); a new tensor, channels-last."""
    pixels = img.permute(0, 2, 3, 1).clone(memory_format=torch.contiguous_format)
    if len(rows := left["shift_rows"]):
        pixels[rows] = shift_colours(pixels[rows], left["shifts"])
    if len(rows := left["place_rows"]):
        pixels[rows] = place(pixels[rows], left["mirror"], left["sizes"], left["fill"])
    if len(rows := left["mix_rows"]):
        pixels[rows] = mix(pixels[rows], left["partners"].permute(0, 2, 3, 1), left["shares"])
    return colored(pixels, left["color"]).permute(0, 3, 1, 2)


def shift_colours(pixels: Tensor, shifts: Tensor) -> Tensor:
    """As HSVRandomAug: ``pixels`` uint8 (n, H, W, C), ``shifts`` int64 (n, 3) of hue, saturation and value."""
    hue, saturation, value = (shift.int().view(-1, 1, 1) for shift in shifts.unbind(1))
    if pixels.shape[3] == 1:
        return (pixels.int() + value[..., None]).clamp_(0, 255).to(torch.uint8)
    to_hsv, to_bgr = _tables(str(pixels.device))
    blue, green, red = pixels.int().unbind(3)
    packed = _looked_up(to_hsv, (blue * 256 + green) * 256 + red)
    h = ((packed & 255) + hue) % _HUES
    s = ((packed >> 8 & 255) + saturation).clamp_(0, 255)
    v = ((packed >> 16) + value).clamp_(0, 255)
    found = _looked_up(to_bgr, (h * 256 + s) * 256 + v)
    return found.view(torch.uint8).view(*found.shape, 4)[..., :3]


def _looked_up(table: Tensor, index: Tensor) -> Tensor:
    return table.index_select(0, index.reshape(-1)).view(index.shape)


@functools.cache
def _tables(device: str) -> tuple[Tensor, Tensor]:
    """H, S, V of all blue, green, red and the way back, four bytes an entry, made by OpenCV: releases of it differ in
    how they round. 112 MiB; 0.3 s once a process."""
    import cv2

    def table(code: int, count: int) -> Tensor:
        colors = np.arange(count << 16, dtype="<u4").reshape(-1, 4096).view(np.uint8).reshape(-1, 4096, 4)
        made = np.zeros_like(colors)
        made[..., :3] = cv2.cvtColor(np.ascontiguousarray(colors[..., 2::-1]), code)
        return torch.from_numpy(made.view("<i4").reshape(-1)).to(device)

    return table(cv2.COLOR_BGR2HSV, 256), table(cv2.COLOR_HSV2BGR, _HUES)


def place(pixels: Tensor, mirror: Tensor, sizes: Tensor, fill: int) -> Tensor:
    """Mirror each picture inside its size, and fill the rest.

    Args:
        pixels: uint8 (n, H, W, C), the pictures top left; mirror: bool (n, 2), left-right and up-down; sizes: int64
            (n, 2), height and width.
    """
    count, height, width, _ = pixels.shape
    rows, inside_y = _positions(height, sizes[:, :1], mirror[:, 1:])
    columns, inside_x = _positions(width, sizes[:, 1:], mirror[:, :1])
    own = torch.arange(count, device=pixels.device).view(-1, 1, 1)
    moved = pixels[own, rows[:, :, None], columns[:, None, :]]
    return moved.masked_fill_(~(inside_y[:, :, None] & inside_x[:, None, :])[..., None], fill)


def _positions(length: int, size: Tensor, mirrored: Tensor) -> tuple[Tensor, Tensor]:
    """(n, length): where each position is read, and whether it is inside the picture."""
    at = torch.arange(length, device=size.device).expand(len(size), -1)
    return torch.where(mirrored, size - 1 - at, at).clamp_(min=0), at < size


def mix(pixels: Tensor, partners: Tensor, shares: Tensor) -> Tensor:
    """Sums of two pictures (n, H, W, C) in the ``shares`` (n, 2), rounded half to even.

    As a multiplication and a fused multiply-add in float32: the product of the first is exact in float64, and so is the
    sum, which is rounded once.
    """
    own, other = (share.view(-1, 1, 1, 1) for share in shares.unbind(1))
    total = (partners * other).double().addcmul_(pixels.double(), own.double())
    return total.float().round_().clamp_(0, 255).to(torch.uint8)


def colored(pixels: Tensor, color: str) -> Tensor:
    """Blue, green, red, or gray (B, H, W, C), as ToTensor's ``color``."""
    if color == "rgb":
        return pixels.flip(3)
    if color != "yuv444":
        return pixels
    blue, green, red = pixels.int().unbind(3)
    y = (1868 * blue + 9617 * green + 4899 * red + 8192) >> 14
    u = 128 + ((9241 * (blue - y) + 8192) >> 14)
    v = 128 + ((11682 * (red - y) + 8192) >> 14)
    return torch.stack([y, u, v], 3).clamp_(0, 255).to(torch.uint8)
