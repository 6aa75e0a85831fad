"""Small networks that are written as users write them: a table of forwards, each with what its integers need.

A forward gets the network (for its modules) and the image; ``Net`` has what they use.
"""

from __future__ import annotations

import copy
import math
import operator
import random
from collections.abc import Callable
from functools import reduce
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
import torch.utils.checkpoint
from torch import Tensor, nn

CHANNELS = torch.tensor([0.5, -1.0, 2.0, 0.0]).view(4, 1, 1)
MEAN = torch.tensor([0.1, 0.2, 0.3]).view(1, 3, 1, 1)


class DropPath(nn.Module):
    """Stochastic depth as most people write it."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        return x * torch.rand(len(x), 1, 1, 1, device=x.device).add_(0.9).floor_() / 0.9


class FunctionalDropPath(nn.Module):
    """As timm has it: the function looks at ``training``."""

    def forward(self, x: Tensor) -> Tensor:
        return drop_path(x, 0.1, self.training)


def drop_path(x: Tensor, p: float, training: bool) -> Tensor:
    if p == 0.0 or not training:
        return x
    keep = x.new_empty((x.shape[0],) + (1,) * (x.ndim - 1)).bernoulli_(1 - p)
    return x * keep.div_(1 - p)


class RepBlock(nn.Module):
    """Three branches in training, one convolution in use, which ``eval()`` makes."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.three, self.three_bn = nn.Conv2d(channels, channels, 3, 1, 1, bias=False), nn.BatchNorm2d(channels)
        self.one, self.one_bn = nn.Conv2d(channels, channels, 1, bias=False), nn.BatchNorm2d(channels)
        self.same_bn = nn.BatchNorm2d(channels)
        self.fused, self.act = nn.Conv2d(channels, channels, 3, 1, 1), nn.ReLU()

    @torch.no_grad()
    def train(self, mode: bool = True) -> RepBlock:
        super().train(mode)
        if not mode:
            c = len(self.three.weight)
            same = torch.zeros(c, c, 3, 3)
            same[range(c), range(c), 1, 1] = 1.0
            weight, bias = torch.zeros(c, c, 3, 3), torch.zeros(c)
            for kernel, bn in (
                (self.three.weight, self.three_bn),
                (F.pad(self.one.weight, (1, 1, 1, 1)), self.one_bn),
                (same, self.same_bn),
            ):
                assert bn.running_mean is not None and bn.running_var is not None
                factor = bn.weight * torch.rsqrt(bn.running_var + bn.eps)
                weight += kernel * factor.view(-1, 1, 1, 1)
                bias += bn.bias - bn.running_mean * factor
            self.fused.weight.copy_(weight)
            assert self.fused.bias is not None
            self.fused.bias.copy_(bias)
        return self

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            return self.act(self.three_bn(self.three(x)) + self.one_bn(self.one(x)) + self.same_bn(x))
        return self.act(self.fused(x))


class Auxiliary(nn.Module):
    """A head that only training has."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.aux = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor) -> Any:
        y = self.conv(x)
        return (y, F.gelu(self.aux(x))) if self.training else y


class KeywordOnly(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.act = nn.Conv2d(4, 4, 1), nn.ReLU()

    def forward(self, *, feature: Tensor, double: bool = False) -> Tensor:
        y = self.act(input=self.conv(input=feature))
        return y + y if double else y


class Square(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x * x

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:  # type: ignore[override]
        return grad


class Pair(NamedTuple):
    fine: Tensor
    coarse: Tensor


class Net(nn.Module):
    def __init__(self, function: Callable[[Net, Tensor], Any]) -> None:
        super().__init__()
        self.stem, self.conv, self.other = nn.Conv2d(3, 4, 3, 1, 1), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 3, 1, 1)
        self.down, self.down2 = nn.Conv2d(4, 4, 3, 2, 1), nn.Conv2d(4, 4, 3, 2, 1)
        self.gate, self.single, self.back = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 1, 3, 1, 1), nn.Conv2d(4, 3, 1)
        self.relu_, self.relu, self.relu6 = nn.ReLU(inplace=True), nn.ReLU(), nn.ReLU6(inplace=True)
        self.bn, self.bn2, self.plain_bn = nn.BatchNorm2d(4), nn.BatchNorm2d(4), nn.BatchNorm2d(4, affine=False)
        self.batch_bn = nn.BatchNorm2d(4, track_running_stats=False)
        self.drop, self.drop2, self.alpha = nn.Dropout(0.5, inplace=True), nn.Dropout2d(0.5), nn.AlphaDropout(0.5)
        self.path, self.timm_path, self.rep, self.aux = DropPath(), FunctionalDropPath(), RepBlock(4), Auxiliary()
        self.keyword, self.identity = KeywordOnly(), nn.Identity()
        self.scale, self.layer_scale = nn.Parameter(torch.ones(1)), nn.Parameter(torch.arange(4.0).view(1, 4, 1, 1) - 1)
        self.grouped, self.matrix = nn.Conv2d(4, 6, 1, groups=2), nn.Linear(4, 4)
        self.up, self.prelu = nn.ConvTranspose2d(4, 4, 2, 2), nn.PReLU(4)
        self.blocks = nn.ModuleList([nn.Conv2d(4, 4, 1) for _ in range(3)])
        self.hidden = [nn.Conv2d(4, 4, 1)]  # in a plain list: no submodule
        self.valid = nn.Conv2d(4, 4, 3, padding="valid")
        self.same, self.dilated = nn.Conv2d(4, 4, 3, padding="same"), nn.Conv2d(4, 4, 3, padding="same", dilation=2)
        self.even = nn.Conv2d(4, 4, 4, padding="same")
        self.gelu, self.memo = nn.GELU(), torch.zeros(0)
        self.register_buffer("calls", torch.zeros(()))
        self.function = function
        generator = torch.Generator().manual_seed(0)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d) and module.running_mean is not None:
                assert module.running_var is not None
                module.running_mean.copy_(torch.randn(4, generator=generator) * 0.3)
                module.running_var.copy_(torch.rand(4, generator=generator) + 0.5)

    def forward(self, x: Tensor) -> Any:
        made = self.function(self, x)
        return (made,) if isinstance(made, Tensor) else made


def statement(function: Callable[[Tensor], Any], *, before: bool = False) -> Callable[[Net, Tensor], Any]:
    """An in-place operator whose result is not used, on a map that has another name."""

    def forward(net: Net, x: Tensor) -> Any:
        x = net.stem(x)
        alias = x
        copied = x.clone() if before else None
        function(x)
        return alias + net.conv(x) if copied is None else torch.cat([alias, copied, net.conv(copied)], 1)

    return forward


def clone_then_change(net: Net, x: Tensor) -> Any:
    x = net.stem(x)
    y = x.clone()
    y.add_(net.conv(x))
    return torch.cat([x, y], 1)


def clone_keeps(net: Net, x: Tensor) -> Any:
    x = net.stem(x)
    y = x.clone()
    x.relu_()
    return net.conv(y) + x


def in_list(net: Net, x: Tensor) -> Any:
    maps = [net.stem(x)]
    maps.append(net.down(maps[0]))
    maps[0] += net.conv(maps[0])
    maps[1].relu_()
    return net.other(maps[0]), maps[1]


def in_tuple(net: Net, x: Tensor) -> Any:
    x = net.stem(x)
    kept = (x, {"x": x})
    x += net.conv(x)
    x *= net.gate(kept[0])
    return kept[0] + net.conv(kept[1]["x"])


def chained(net: Net, x: Tensor) -> Any:
    x = net.stem(x)
    y = x.relu_().add_(net.conv(x)).clamp_(0, 6)
    return y, net.conv(x)


def on_the_image(net: Net, x: Tensor) -> Any:
    x = x.clone()
    x.mul_(x)
    return net.stem(x)


def unet(net: Net, x: Tensor) -> Any:
    """The usual padding of U-Nets: by nothing, where the sizes fit."""
    fine = net.stem(x)
    up = F.interpolate(net.down(fine), scale_factor=2)
    dy, dx = fine.size(2) - up.size(2), fine.size(3) - up.size(3)
    up = F.pad(up, [dx // 2, dx - dx // 2, dy // 2, dy - dy // 2])
    return torch.cat([fine, up], dim=1)


def pyramid(net: Net, x: Tensor) -> Any:
    x = net.stem(x)
    a, b = net.down(x), net.down2(net.down(x))
    h, w = a.shape[-2:]
    top = F.interpolate(b, size=(h, w), mode="bilinear")
    more = F.interpolate(b, scale_factor=x.shape[2] / b.shape[2])
    return a + top, x + more, F.interpolate(a, size=a.shape[2:])


def squeeze_excite(net: Net, x: Tensor) -> Any:
    x = net.stem(x)
    gate = F.avg_pool2d(x, x.size()[2:])
    return x * torch.sigmoid(input=net.gate(gate))


def memoised(net: Net, x: Tensor) -> Any:
    """State that only remembers a size, and counts calls."""
    x = net.stem(x)
    if net.memo.shape != x.shape:
        net.memo = torch.zeros_like(x)
    net.calls += 1
    return x + net.memo


def optional_out(net: Net, x: Tensor) -> Any:
    x = net.stem(x)
    y = torch.empty_like(x)
    torch.add(x, net.conv(x), out=y)
    return y


def two_norms(net: Net, x: Tensor) -> Any:
    y = net.conv(net.stem(x))
    return net.bn(y) + net.bn2(y)


def view_and_back(net: Net, x: Tensor) -> Any:
    x = net.stem(x)
    b, c, h, w = x.shape
    return net.conv(x.view(b, c, -1).view(b, c, h, w)) + x[:]


def dead_code(net: Net, x: Tensor) -> Any:
    x = net.stem(x)
    _ = F.gelu(net.conv(x)).softmax(1)
    _ = net.gelu(x).flatten(1) @ torch.zeros(x[0].numel(), 2)
    return net.other(x)


def loop_and_sum(net: Net, x: Tensor) -> Any:
    x = net.stem(x)
    total = torch.zeros_like(x)
    for block in net.blocks:
        total = total + block(x)
    return total, sum([block(x) for block in net.blocks]), reduce(operator.add, [x, net.conv(x)])


def nested_functions(net: Net, x: Tensor) -> Any:
    def block(y: Tensor, *, act: Callable[[Tensor], Tensor] = F.relu_) -> Tensor:
        return act(net.conv(y))

    x = net.stem(x)
    return block(x) + block(x, act=torch.sigmoid), block(x, act=nn.ReLU6())


def inference_mode(net: Net, x: Tensor) -> Any:
    """Memory of inference mode counts no changes in place."""
    with torch.inference_mode():
        y = net.stem(x)
        z = y.relu_() if net.calls.ndim else net.relu_(y)
        return net.conv(y) + z


def made_at_first_use(net: Net, x: Tensor) -> Any:
    x = net.stem(x)
    if not hasattr(net, "late"):
        net.late = nn.Conv2d(x.shape[1], 4, 1)
    return net.late(x)


def replaced_data(net: Net, x: Tensor) -> Any:
    y = net.stem(x)
    y.data = net.conv(y)
    return net.down(y)


def cached_map(net: Net, x: Tensor) -> Any:
    net.cache = {"map": net.stem(x)}
    net.cache["map"] += net.conv(net.cache["map"])
    return net.down(net.cache["map"])


def totals(net: Net, x: Tensor) -> Any:
    """Sums that begin with a tensor of zeros, in place."""
    x = net.stem(x)
    total, other = torch.zeros_like(x), x.new_zeros(x.shape)
    for block in net.blocks:
        total += block(x)
        other.add_(block(x))
    return total, other, torch.add(x, net.conv(x), alpha=1)


def written_into(net: Net, x: Tensor) -> Any:
    """``out=`` into what is read, and used again; whole assignments."""
    x = net.stem(x)
    torch.add(x, net.conv(x), out=x)
    buffer = torch.empty_like(x)
    torch.clamp(x, 0, 6, out=buffer)
    y = net.conv(buffer)
    torch.mul(x, y, out=buffer)
    y[:] = net.gate(y)
    y[...] = y + buffer
    return buffer, net.conv(y)


def rest_at_first(net: Net, x: Tensor) -> Any:
    """Branches that give 0 or 1 today, as zero-initialised residuals do; training will change that."""
    x = net.stem(x)
    for layer, bias in ((net.conv, 0.0), (net.gate, 1.0)):
        nn.init.zeros_(layer.weight)
        nn.init.constant_(layer.bias, bias)  # type: ignore[arg-type]
    return (x + net.conv(x)) * net.gate(x) + F.relu(net.bn(net.other(x)) * 1 - 0)


WORKING: dict[str, Callable[[Net, Tensor], Any]] = {
    "clone, then change": clone_then_change,
    "clone keeps": clone_keeps,
    "a clone beside relu_": statement(lambda x: x.relu_(), before=True),
    "a clone beside ReLU(inplace)": lambda net, x: (lambda y: (lambda c: (net.relu_(y) + net.conv(c),))(y.clone()))(
        net.stem(x)
    ),
    "map in a list": in_list,
    "map in a tuple and a dict": in_tuple,
    "chained in place": chained,
    "in place on a copy of the image": on_the_image,
    "F.hardtanh_": statement(lambda x: F.hardtanh_(x, 0.0, 6.0)),
    "torch.clamp_": statement(lambda x: torch.clamp_(x, 0, 6)),
    "torch.clamp_ by keyword": statement(lambda x: torch.clamp_(input=x, min=0)),
    "F.relu_": statement(F.relu_),
    "torch.relu_": statement(torch.relu_),
    "F.relu(inplace)": statement(lambda x: F.relu(x, inplace=True)),
    "F.relu6(inplace)": statement(lambda x: F.relu6(x, True)),
    "F.silu(inplace)": statement(lambda x: F.silu(x, inplace=True)),
    "F.hardswish(inplace)": statement(lambda x: F.hardswish(x, inplace=True)),
    "x.mul_": statement(lambda x: x.mul_(x)),
    "x.add_": statement(lambda x: x.add_(x)),
    "x.clamp_": statement(lambda x: x.clamp_(0, 6)),
    "clamp from above": lambda net, x: net.conv(net.stem(x).clamp_max(0.5)),
    "clamp from below": statement(lambda x: x.clamp_min_(-0.25)),
    "F.hardtanh_ to other limits": statement(lambda x: F.hardtanh_(x, -0.5, 0.75)),
    "x.clip_": statement(lambda x: x.clip_(min=0.0)),
    "x.sigmoid_": statement(lambda x: x.sigmoid_()),
    "x.data": statement(lambda x: x.data.relu_()),
    "x.detach": statement(lambda x: x.detach().relu_()),
    "out=": optional_out,
    "+= through an operator": lambda net, x: (lambda y: (operator.iadd(y, net.conv(y)), y))(net.stem(x)),
    "auxiliary head": lambda net, x: net.aux(net.stem(x)),
    "re-parameterised": lambda net, x: net.rep(net.rep(net.stem(x))),
    "DropPath": lambda net, x: (lambda y: y + net.path(net.timm_path(net.conv(y))))(net.stem(x)),
    "Dropout between convolution and norm": lambda net, x: net.relu(net.bn(net.drop(net.conv(net.stem(x))))),
    "Identity and DropPath before a norm": lambda net, x: net.bn(net.path(net.identity(net.conv(net.stem(x))))),
    "every dropout": lambda net, x: F.dropout2d(net.alpha(net.drop2(net.drop(net.stem(x)))), training=net.training),
    "norm without weights": lambda net, x: net.plain_bn(net.conv(net.stem(x))),
    "dead code": dead_code,
    "whole map by size": squeeze_excite,
    "whole map by shape": lambda net, x: (lambda y: y * net.gate(F.avg_pool2d(y, (y.shape[2], y.shape[3]))))(
        net.stem(x)
    ),
    "whole map by kernel_size": lambda net, x: (lambda y: y * F.avg_pool2d(y, kernel_size=y.shape[-2:], stride=1))(
        net.stem(x)
    ),
    "nn.AvgPool2d made on the way": lambda net, x: (lambda y: net.gate(nn.AvgPool2d(y.shape[2:])(y)))(
        net.down(net.stem(x))
    ),
    "adaptive to another's size": lambda net, x: (
        lambda y: net.down(y) + F.adaptive_avg_pool2d(y, net.down(y).shape[2:])
    )(net.stem(x)),
    "sizes": pyramid,
    "U-Net": unet,
    "keywords": lambda net, x: net.keyword(feature=net.stem(input=x)) + F.relu(input=net.stem(x)),
    "keyword arguments of ours": lambda net, x: net.keyword(double=True, feature=net.stem(x)),
    "sum": loop_and_sum,
    "times one": lambda net, x: (1 * net.stem(x) + 0.0) / 1,
    "nested functions": nested_functions,
    "memory of a size": memoised,
    "view and back": view_and_back,
    "valid": lambda net, x: net.valid(net.stem(x)),
    "same": lambda net, x: net.same(net.stem(x)) + net.dilated(net.stem(x)),
    "two norms": two_norms,
    "one norm of two maps": lambda net, x: net.bn(net.conv(net.stem(x))) + net.bn(net.other(net.stem(x))),
    "even same": lambda net, x: net.even(net.stem(x)) + F.relu(net.even(net.stem(x))),
    "SiLU of a sigmoid": lambda net, x: net.conv(F.silu(torch.sigmoid(net.stem(x)))),
    "sigmoid of a sigmoid": lambda net, x: torch.sigmoid(torch.sigmoid(net.stem(x))),
    "sigmoid of a hardsigmoid": lambda net, x: torch.sigmoid(F.max_pool2d(F.hardsigmoid(net.stem(x)), 2)),
    "autograd function": lambda net, x: Square.apply(net.stem(x)),
    "named tuple": lambda net, x: (lambda y: Pair(net.conv(y), net.down(y)))(net.stem(x)),
    "list": lambda net, x: [net.conv(net.stem(x)), net.down(net.stem(x))],
    "the same output twice": lambda net, x: (lambda y: (y, y))(net.conv(net.stem(x))),
    "output that is in place later": lambda net, x: (lambda y: (y, net.conv(net.relu_(y))))(net.stem(x)),
    "inference mode": inference_mode,
    "made at first use": made_at_first_use,
    "replaced data": replaced_data,
    "kept in an attribute": cached_map,
    "the image among the outputs": lambda net, x: (x, net.stem(x)),
    "an output twice, and read": lambda net, x: (lambda y: (y, net.down(y), y))(net.stem(x)),
    "pool flat and back": lambda net, x: (
        lambda y: y * net.gate(F.adaptive_avg_pool2d(y, 1).flatten(1)[:, :, None, None]).sigmoid()
    )(net.stem(x)),
    "pool of one number": lambda net, x: F.avg_pool2d(net.stem(x), [2]),
    "checkpointed": lambda net, x: torch.utils.checkpoint.checkpoint(net.conv, net.stem(x), use_reentrant=False),  # type: ignore[attr-defined]
    "shared layers": lambda net, x: net.relu_(net.other(net.relu_(net.other(net.stem(x))))),
    "deep copy": lambda net, x: (lambda y: copy.deepcopy(y).relu_() + y)(net.stem(x)),
    "to its own type": lambda net, x: net.conv(net.stem(x).to(torch.float32).float().contiguous()),
    "channels last": lambda net, x: net.conv(net.stem(x.to(memory_format=torch.channels_last))),
    "totals": totals,
    "written into": written_into,
    "branches at rest": rest_at_first,
    "factors in a list": lambda net, x: F.interpolate(net.stem(x), scale_factor=[2.0, 2.0]),
    "clamp by numbers in tensors": lambda net, x: net.stem(x).clamp(torch.tensor(0.0), torch.tensor(6.0)),
    "differences": lambda net, x: (lambda y: F.relu(y - net.conv(y)).sub_(net.gate(y)))(net.stem(x)),
    "minus another's mean": lambda net, x: (lambda y: y - y.mean((2, 3), keepdim=True))(net.stem(x)),
    "extremes": lambda net, x: (lambda y: torch.max(y, net.conv(y)) + torch.minimum(net.gate(y), y))(net.stem(x)),
    "extremes of fixed scales": lambda net, x: (lambda y: torch.min(y.sigmoid(), net.conv(y)).maximum(y.sigmoid()))(
        net.stem(x)
    ),
    "the image in sums": lambda net, x: (lambda y: (x - y[:] * x, torch.maximum(y, x), y + x))(net.back(net.stem(x))),
    "a sum with itself": lambda net, x: (lambda y: (y + y, y - y, torch.max(y, y), y * y))(net.stem(x)),
    "a number for each channel": lambda net, x: (
        lambda y, m: (m + y, y + m, m - y, m * y, torch.maximum(m, y), torch.min(y, m))
    )(net.stem(x), net.gate(F.adaptive_avg_pool2d(net.stem(x), 1))),
    "one map for all channels": lambda net, x: (lambda y, m: (m + y, y - m, m * y, y * m, torch.maximum(y, m)))(
        net.stem(x), net.single(net.stem(x)).sigmoid()
    ),
    "channels and positions": lambda net, x: (
        lambda y: y * (net.gate(y).mean((2, 3), keepdim=True) * net.single(y)).sigmoid()
    )(net.stem(x)),
    "expanded": lambda net, x: (
        lambda y, m, s: (y * m.expand_as(y), m.expand(-1, -1, *y.shape[2:]) - y, y + torch.broadcast_to(s, y.shape),
                         torch.maximum(m.expand_as(y), s.expand_as(y)))
    )(*(lambda y: (y, net.gate(y.mean((2, 3), keepdim=True)), net.single(y)))(net.stem(x))),
    "constants behind a convolution": lambda net, x: net.conv(net.stem(x) * 0.5) / 4 + 1,
    "constants on the left": lambda net, x: (lambda y: (1 - y, 2.0 * net.conv(y), -y, 3 + y))(net.stem(x)),
    "constants in tensors": lambda net, x: net.stem(x) * net.scale + torch.tensor(0.3) - torch.full((1,), 0.1),
    "constants of channels": lambda net, x: (lambda y: y.mul(CHANNELS).sub_(CHANNELS[None]) + net.conv(y))(net.stem(x)),
    "layer scale": lambda net, x: (lambda y: y + net.layer_scale * net.conv(y))(net.stem(x)),
    "constants as arguments": lambda net, x: torch.add(
        torch.sub(CHANNELS, net.stem(x), alpha=2), 3, alpha=0.5
    ).true_divide(other=2),
    "constants of every place": lambda net, x: (lambda y: torch.ones_like(y) - y)(net.stem(x).sigmoid()),
    "0 - x": lambda net, x: (lambda y: torch.sub(torch.zeros_like(y), y))(net.stem(x)),
    "constants in front of convolutions": lambda net, x: (
        lambda y: (net.conv(y), net.gate(y))
    )(net.stem(x).sigmoid() * CHANNELS - 0.3),
    "constants in front of a padded convolution": lambda net, x: net.other(net.stem(x).sigmoid() * CHANNELS - 0.3),
    "constants in front of groups": lambda net, x: net.grouped(net.stem(x).sigmoid() * CHANNELS - 0.3),
    "a factor through ReLU and pooling": lambda net, x: F.max_pool2d(F.relu(net.conv(net.stem(x))), 2) * 0.25,
    "a factor through PReLU": lambda net, x: net.prelu(net.conv(net.stem(x))) * 0.25,
    "a factor that ReLU does not pass": lambda net, x: F.relu(net.conv(net.stem(x))) * CHANNELS,
    "a constant and an output": lambda net, x: (lambda y: (y, y * 3 - 1))(net.stem(x)),
    "one channel to all": lambda net, x: net.single(net.stem(x)) * CHANNELS + 1,
    "the image's own normalization": lambda net, x: net.stem((x - MEAN) / MEAN.sqrt()),
    "a limit by maximum": lambda net, x: torch.maximum(net.stem(x), torch.zeros(1)),
    "Hardsigmoid in writing": lambda net, x: F.relu6(net.stem(x) + 3) / 6,
    "Hardswish in writing": lambda net, x: (lambda y: y * F.relu6(y + 3) / 6)(net.stem(x)),
    "Hardswish in writing, the gate first": lambda net, x: (lambda y: net.relu6(y + 3.0) / 6.0 * y)(net.stem(x)),
    "Hardswish in writing, by methods": lambda net, x: (lambda y: y.mul(y.add(3).clamp(0, 6).mul(1 / 6)))(net.stem(x)),
    "Hardswish in writing, and its parts": lambda net, x: (lambda y, r: (y * r / 6, r))(
        *(lambda y: (y, F.relu6(y + 3)))(net.stem(x))
    ),
    "Hardswish in writing, another way": lambda net, x: (
        lambda y: y / 6 * (y + 3).clamp(min=0).clamp(max=6) + net.conv(y)
    )(net.stem(x)),
    "Hardsigmoid in writing, another way": lambda net, x: (lambda y: (y / 6 + 0.5).clamp(0, 1) * y)(net.stem(x)),
    "GELU in writing": lambda net, x: (lambda y: 0.5 * y * (1 + torch.erf(y / math.sqrt(2))))(net.stem(x)),
    "GELU in writing, of a ReLU": lambda net, x: (lambda y: y * 0.5 * (torch.erf(y * 2**-0.5) + 1.0))(
        F.relu(net.stem(x))
    ),
    "Mish in writing": lambda net, x: (lambda y: y * torch.tanh(F.softplus(y)))(net.stem(x)),
    "a scale for each level": lambda net, x: (
        lambda y: (net.conv(y) * net.scale * 2, net.conv(net.down(y)) * net.scale + 1, net.conv(net.down2(y)) / 4)
    )(net.stem(x)),
    "a scale for some levels": lambda net, x: (lambda y: (net.conv(y) * 2, net.conv(net.down(y))))(net.stem(x)),
    "a transposed convolution and constants": lambda net, x: net.up(net.stem(x)) * CHANNELS - 1,
    "a matrix and a constant": lambda net, x: (
        lambda y: y * (net.matrix(y.mean((2, 3))) / 2 + 0.5).sigmoid()[:, :, None, None]
    )(net.stem(x)),
    "what is nearly a GELU": lambda net, x: (lambda y: y * torch.sigmoid(1.702 * y))(net.stem(x)),
    "the square": lambda net, x: (lambda y: y.square() + torch.pow(y, 2) + y**2)(net.stem(x)),
    "math on sizes": lambda net, x: F.interpolate(
        net.down(net.stem(x)), scale_factor=2 ** int(math.log2(x.shape[2] / net.down(x_of(net, x)).shape[2]))
    ),
}


def x_of(net: Net, x: Tensor) -> Tensor:
    return net.stem(x)


REFUSED: dict[str, tuple[Callable[[Net, Tensor], Any], str]] = {
    "batch statistics": (
        lambda net, x: net.batch_bn(net.conv(net.stem(x))),
        r"^batch_bn: .*track_running_stats=False.*leave",
    ),
    "whole map max": (
        lambda net, x: F.max_pool2d(net.stem(x), x.shape[2:], padding=2),
        r"^max_pool2d: max pooling by 64 or 256, 96 or 320, which depends on the image's size; give it as a fixed",
    ),
    "adaptive max": (
        lambda net, x: F.adaptive_max_pool2d(net.stem(x), (x.shape[2] // 3, 1)),
        r"^adaptive_max_pool2d: AdaptiveMaxPool2d to .*; give rows and columns of the output as fixed numbers",
    ),
    "fixed size": (
        lambda net, x: F.interpolate(net.stem(x), size=(80, 80), mode="bicubic"),
        r"^interpolate: upsampling with mode 'bicubic'; use 'nearest' or 'bilinear'",
    ),
    "no whole factor": (
        lambda net, x: F.interpolate(net.stem(x), size=(x.shape[2] * 3 // 2, x.shape[3])),
        r"no whole multiple.*; use one whole",
    ),
    "half the kernel": (
        lambda net, x: F.avg_pool2d(net.stem(x), x.shape[2] // 2),
        r"^avg_pool2d: .*depends on the image's size; give",
    ),
    "branch on values": (
        lambda net, x: x if x.mean() > 0 else net.stem(x),
        r"^Net: .*control flow by values.*; a forward must not branch",
    ),
    "float of values": (lambda net, x: net.stem(x) * float(x.max()), r"^Net: .*reads the values of a tensor"),
    "branch on sizes": (
        lambda net, x: net.stem(x) if x.shape[2] > 100 else net.conv(net.stem(x)),
        r"another network for images of another size.*; a forward must not branch on sizes, nor",
    ),
    "part of a map": (
        lambda net, x: (lambda y: (y[:, :2].relu_(), y)[1])(net.stem(x)),
        r"another view was changed in place.*; change whole",
    ),
    "assignment": (
        lambda net, x: (lambda y: (operator.setitem(y, (slice(None), 0), 0.0), y)[1])(net.stem(x)),
        r"assignment to a part.*; make the parts",
    ),
    "no submodule": (lambda net, x: net.hidden[0](net.stem(x)), r"^conv2d: .*; call an nn.Conv2d module"),
    "constant output": (
        lambda net, x: (net.stem(x), net.scale),
        r"output 1 is a tensor, which does not come from the image",
    ),
    "None among the outputs": (lambda net, x: (net.stem(x), None), r"output 1 is a NoneType"),
    "sizes that do not fit": (lambda net, x: net.stem(x) - net.down(net.stem(x)), r"^Net: its forward fails on"),
    "forward that fails": (lambda net, x: net.conv(x), r"^conv: its forward fails on an image of"),
    "parts of a batch": (
        lambda net, x: torch.cat([net.stem(part[None]) for part in x]),
        r"another network for images of another size or number.*nor take a batch apart",
    ),
    "1 / x": (lambda net, x: (lambda y: torch.div(torch.ones_like(y), y))(net.stem(x)), r"^div: a division by a map"),
    "clamp by channels": (
        lambda net, x: net.stem(x).clamp(min=torch.zeros(4, 1, 1)),
        r"^clamp: a clamp by a tensor of limits; use the same two numbers for all channels",
    ),
    "factor of a half in a list": (
        lambda net, x: F.interpolate(net.stem(x), scale_factor=[0.5, 0.25]),
        r"^interpolate: upsampling by \(0\.5, 0\.25\); use one whole factor",
    ),
    "alpha": (
        lambda net, x: (lambda y: torch.add(y, net.conv(y), alpha=2))(net.stem(x)),
        r"^add: an addition with alpha=2; write the factor as a product of its own",
    ),
    "copied into a part": (
        lambda net, x: (lambda y: (y[:, :2].copy_(net.conv(y)[:, :2]), y)[1])(net.stem(x)),
        r"another view was changed in place",
    ),
    "output in parts": (
        lambda net, x: (lambda y, b: (b[:, :4].copy_(y), b)[1])(net.stem(x), x.new_zeros(len(x), 8, *x.shape[2:])),
        r"^Net: output 0 is a part of a map, or was written in parts; .*join parts with torch.cat",
    ),
    "chance": (
        lambda net, x: net.stem(x) if random.random() < 0.5 else net.conv(net.stem(x)),
        r"^Net: its forward draws random numbers at inference.*; draw them under `if self.training:` only",
    ),
    "a constant by the image's size": (
        lambda net, x: net.stem(x) * torch.tensor(1 / x.shape[2]),
        r"^mul: a product by .*, which depends on the image's size; give it as a fixed number",
    ),
    "a filling by the image's size": (
        lambda net, x: (lambda y: y + torch.full_like(y, 1 / x.shape[2]))(net.stem(x)),
        r"^add: an addition by .*, which depends on the image's size; give it as a fixed number",
    ),
    "a grid of positions": (
        lambda net, x: (lambda y: y + torch.linspace(0, 1, y.shape[3]))(net.stem(x)),
        r"^add: an addition by .*, which depends on the image's size",
    ),
    "noise": (
        lambda net, x: net.stem(x) * (1 + 0.1 * torch.randn(1)),
        r"^mul: mul with random numbers; draw them under `if self.training:` only",
    ),
    "noise of the map's size": (
        lambda net, x: (lambda y: y + torch.rand_like(y))(net.stem(x)),
        r"^add: add with random numbers; draw them under",
    ),
    "chance by torch": (
        lambda net, x: net.stem(x) if torch.rand(1) < 0.5 else net.conv(net.stem(x)),
        r"^Net: its forward reads the values of a tensor",
    ),
    "expanded for a convolution": (
        lambda net, x: (lambda y: net.conv(net.single(y).expand_as(y)))(net.stem(x)),
        r"^expand_as: expand_as has no integer form; leave it to the sum or product that reads it",
    ),
    "double": (lambda net, x: net.stem(x).double(), r"^double: double has no integer form"),
}
