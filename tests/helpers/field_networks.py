"""Ten small backbones and necks as they are found in the field, written as users write them."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def cbr(c1: int, c2: int, k: int = 1, s: int = 1, g: int = 1, act: Any = nn.ReLU) -> nn.Sequential:
    """Convolution, normalization, activation."""
    layers: list[nn.Module] = [nn.Conv2d(c1, c2, k, s, k // 2, groups=g, bias=False), nn.BatchNorm2d(c2)]
    return nn.Sequential(*layers, *([act(inplace=True)] if act is not None else []))


class ShuffleUnit(nn.Module):
    """Ma et al., "ShuffleNet V2" (2018): half of the channels pass, then both halves are shuffled."""

    def __init__(self, c: int) -> None:
        super().__init__()
        half = c // 2
        self.branch = nn.Sequential(cbr(half, half), cbr(half, half, 3, g=half, act=None), cbr(half, half))

    def forward(self, x: Tensor) -> Tensor:
        x1, x2 = x.chunk(2, dim=1)
        x = torch.cat((x1, self.branch(x2)), dim=1)
        b, c, h, w = x.size()
        return x.view(b, 2, c // 2, h, w).transpose(1, 2).contiguous().view(b, -1, h, w)


class ShuffleNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.pool = cbr(3, 16, 3, 2), nn.MaxPool2d(3, 2, 1)
        self.units = nn.Sequential(ShuffleUnit(16), ShuffleUnit(16))
        self.down1 = nn.Sequential(cbr(16, 16, 3, 2, 16, None), cbr(16, 16))
        self.down2 = nn.Sequential(cbr(16, 16), cbr(16, 16, 3, 2, 16, None), cbr(16, 16))
        self.last = ShuffleUnit(32)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        x = self.units(self.pool(self.stem(x)))
        out = torch.cat([self.down1(x), self.down2(x)], 1)
        b, c, h, w = out.shape
        out = out.reshape(b, 2, c // 2, h, w).permute(0, 2, 1, 3, 4).reshape(b, c, h, w)
        return x, self.last(out)


class GhostModule(nn.Module):
    """Han et al., "GhostNet" (2020): cheap maps from a depthwise convolution, cut to the number wanted."""

    def __init__(self, c1: int, c2: int, act: bool = True) -> None:
        super().__init__()
        self.wanted, half = c2, (c2 + 1) // 2
        self.primary, self.cheap = cbr(c1, half), cbr(half, half, 3, g=half, act=nn.ReLU if act else None)

    def forward(self, x: Tensor) -> Tensor:
        first = self.primary(x)
        return torch.cat([first, self.cheap(first)], dim=1)[:, : self.wanted, :, :]


class GhostNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = cbr(3, 12, 3, 2, act=nn.Hardswish)
        self.expand, self.project = GhostModule(12, 25), GhostModule(25, 12, act=False)
        self.down = cbr(12, 24, 5, 2)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        x = self.stem(x)
        x = x + self.project(self.expand(x))
        return x, self.down(x)


class SqueezeExcite(nn.Module):
    def __init__(self, c: int) -> None:
        super().__init__()
        self.avgpool, self.fc1, self.fc2 = nn.AdaptiveAvgPool2d(1), nn.Conv2d(c, c // 4, 1), nn.Conv2d(c // 4, c, 1)

    def forward(self, x: Tensor) -> Tensor:
        scale = F.relu(self.fc1(self.avgpool(x)), inplace=True)
        return F.hardsigmoid(self.fc2(scale), inplace=True) * x


class MobileNetV3(nn.Module):
    """Howard et al., "Searching for MobileNetV3" (2019): an inverted residual with squeeze and excitation."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = cbr(3, 16, 3, 2, act=nn.Hardswish)
        hs = nn.Hardswish
        self.block = nn.Sequential(
            cbr(16, 48, act=hs), cbr(48, 48, 5, 1, 48, act=hs), SqueezeExcite(48), cbr(48, 16, act=None)
        )
        self.down = nn.Sequential(
            cbr(16, 64, act=hs), cbr(64, 64, 3, 2, 64, act=hs), SqueezeExcite(64), cbr(64, 24, act=None)
        )

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        x = self.stem(x)
        x = x + self.block(x)
        return x, self.down(x)


class RepVGGBlock(nn.Module):
    """Ding et al., "RepVGG" (2021), in its training form."""

    def __init__(self, c1: int, c2: int, stride: int = 1) -> None:
        super().__init__()
        self.rbr_identity = nn.BatchNorm2d(c1) if c1 == c2 and stride == 1 else None
        self.rbr_dense, self.rbr_1x1 = cbr(c1, c2, 3, stride, act=None), cbr(c1, c2, 1, stride, act=None)
        self.nonlinearity = nn.ReLU()

    def forward(self, inputs: Tensor) -> Tensor:
        id_out = 0 if self.rbr_identity is None else self.rbr_identity(inputs)
        return self.nonlinearity(self.rbr_dense(inputs) + self.rbr_1x1(inputs) + id_out)


class RepVGG(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stage0, self.stage1 = RepVGGBlock(3, 16, 2), nn.Sequential(RepVGGBlock(16, 16), RepVGGBlock(16, 16))
        self.stage2 = RepVGGBlock(16, 32, 2)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        x = self.stage1(self.stage0(x))
        return x, self.stage2(x)


class Bottleneck(nn.Module):
    def __init__(self, c: int) -> None:
        super().__init__()
        self.cv1, self.cv2 = cbr(c, c, 3, act=nn.SiLU), cbr(c, c, 3, act=nn.SiLU)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.cv2(self.cv1(x))


class C2f(nn.Module):
    """The split block of newer YOLOs: every bottleneck's result is kept."""

    def __init__(self, c1: int, c2: int, n: int = 2) -> None:
        super().__init__()
        self.c = c2 // 2
        self.cv1, self.cv2 = cbr(c1, 2 * self.c, act=nn.SiLU), cbr((2 + n) * self.c, c2, act=nn.SiLU)
        self.m = nn.ModuleList(Bottleneck(self.c) for _ in range(n))

    def forward(self, x: Tensor) -> Tensor:
        y = list(self.cv1(x).split((self.c, self.c), 1))
        y.extend(m(y[-1]) for m in self.m)
        return self.cv2(torch.cat(y, 1))


class YoloC2f(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.c2f, self.down = cbr(3, 16, 3, 2, act=nn.SiLU), C2f(16, 16), cbr(16, 32, 3, 2, act=nn.SiLU)
        self.pool = nn.MaxPool2d(5, 1, 2)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        x = self.c2f(self.stem(x))
        y = [self.down(x)]
        y.extend(self.pool(y[-1]) for _ in range(3))
        return x, torch.cat(y, 1)


class FocusStem(nn.Module):
    """Pixels of a 2x2 block as channels, then SiLU: YOLOX's stem."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.next = cbr(12, 16, 3, act=nn.SiLU), cbr(16, 24, 3, 2, act=nn.SiLU)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        top_left, bottom_left = x[..., ::2, ::2], x[..., 1::2, ::2]
        top_right, bottom_right = x[..., ::2, 1::2], x[..., 1::2, 1::2]
        x = self.conv(torch.cat((top_left, bottom_left, top_right, bottom_right), dim=1))
        return x, self.next(x)


class Elan(nn.Module):
    """Wang et al., "YOLOv7" (2022): an aggregation of layers, with LeakyReLU."""

    def __init__(self) -> None:
        super().__init__()

        def act(inplace: bool) -> nn.Module:
            return nn.LeakyReLU(0.1, inplace=inplace)

        self.stem = cbr(3, 16, 3, 2, act=act)
        self.a, self.b = cbr(16, 8, act=act), cbr(16, 8, act=act)
        self.c = nn.Sequential(cbr(8, 8, 3, act=act), cbr(8, 8, 3, act=act))
        self.d = nn.Sequential(cbr(8, 8, 3, act=act), cbr(8, 8, 3, act=act))
        self.out, self.mp, self.cv1 = cbr(32, 24, act=act), nn.MaxPool2d(2, 2), cbr(24, 12, act=act)
        self.cv2 = nn.Sequential(cbr(24, 12, act=act), cbr(12, 12, 3, 2, act=act))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        x = self.stem(x)
        outputs = [self.a(x), self.b(x)]
        outputs.append(self.c(outputs[-1]))
        outputs.append(self.d(outputs[-1]))
        x = self.out(torch.cat(outputs[::-1], dim=1))
        return x, torch.cat([self.cv2(x), self.cv1(self.mp(x))], dim=1)


class HRFuse(nn.Module):
    """Sun et al., "Deep High-Resolution Representation Learning" (2019): every resolution from all others."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(cbr(3, 16, 3, 2), cbr(16, 16, 3, 2))
        self.low = cbr(16, 32, 3, 2)
        self.up = nn.Sequential(cbr(32, 16, act=None), nn.Upsample(scale_factor=2, mode="nearest"))
        self.down = cbr(16, 32, 3, 2, act=None)
        self.relu = nn.ReLU(False)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        high = self.stem(x)
        low = self.low(high)
        y = high
        y = y + F.interpolate(self.up[0](low), size=high.shape[2:], mode="bilinear", align_corners=False)
        return self.relu(y + self.up(low)), self.relu(low + self.down(high))


class UNet(nn.Module):
    """Ronneberger et al., "U-Net" (2015): a decoder of transposed convolutions and skips."""

    def __init__(self) -> None:
        super().__init__()
        self.inc = nn.Sequential(cbr(3, 8, 3), cbr(8, 8, 3))
        self.down1, self.down2 = (nn.Sequential(nn.MaxPool2d(2), cbr(c, 2 * c, 3)) for c in (8, 16))
        self.up1, self.up2 = nn.ConvTranspose2d(32, 16, 2, stride=2), nn.ConvTranspose2d(16, 8, kernel_size=2, stride=2)
        self.conv1, self.conv2, self.outc = cbr(32, 16, 3), cbr(16, 8, 3), nn.Conv2d(8, 2, 1)

    def join(self, up: Tensor, skip: Tensor) -> Tensor:
        dy, dx = skip.size()[2] - up.size()[2], skip.size()[3] - up.size()[3]
        up = F.pad(up, [dx // 2, dx - dx // 2, dy // 2, dy - dy // 2])
        return torch.cat([skip, up], dim=1)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        x1 = self.inc(x)
        x2 = self.down1(x1)
        x3 = self.down2(x2)
        y = self.conv1(self.join(self.up1(x3), x2))
        return y, self.outc(self.conv2(self.join(self.up2(y), x1)))


class BilinearFPN(nn.Module):
    """Lin et al., "Feature Pyramid Networks" (2017), enlarging bilinearly to the finer map's size."""

    def __init__(self) -> None:
        super().__init__()
        self.c3 = nn.Sequential(cbr(3, 8, 3, 2), cbr(8, 16, 3, 2))
        self.c4, self.c5 = cbr(16, 24, 3, 2), cbr(24, 32, 3, 2)
        self.lateral = nn.ModuleList(nn.Conv2d(c, 16, 1) for c in (16, 24, 32))
        self.smooth = nn.ModuleList(nn.Conv2d(16, 16, 3, padding=1) for _ in range(3))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        maps = [self.c3(x)]
        maps += [self.c4(maps[-1])]
        maps += [self.c5(maps[-1])]
        laterals = [lateral(m) for lateral, m in zip(self.lateral, maps, strict=True)]
        for i in range(2, 0, -1):
            size = laterals[i - 1].shape[-2:]
            laterals[i - 1] += F.interpolate(laterals[i], size=size, mode="bilinear", align_corners=False)
        return tuple(smooth(m) for smooth, m in zip(self.smooth, laterals, strict=True))


NETWORKS: dict[str, type[nn.Module]] = {
    "ShuffleNetV2 unit": ShuffleNet, "GhostNet unit": GhostNet, "MobileNetV3 block with SE": MobileNetV3,
    "RepVGG block": RepVGG, "C2f with split": YoloC2f, "Focus stem with SiLU": FocusStem, "ELAN": Elan,
    "HRNet fuse": HRFuse, "U-Net decoder with ConvTranspose": UNet, "FPN with bilinear": BilinearFPN,
}  # fmt: skip
