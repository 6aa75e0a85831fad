"""AdaRound: for each weight, whether it is rounded down or up, learned so that a layer's sums stay what they were.

Source: M. Nagel, R. A. Amjad, M. van Baalen, C. Louizos, T. Blankevoort, "Up or Down? Adaptive Rounding for
Post-Training Quantization" (ICML 2020, arXiv 2004.10568): the layer-wise objective with a rectified sigmoid and an
annealed regularizer (equations 21 to 24), its inputs those of the quantized network. The squared error of a layer's
sums, before its activation, is a quadratic form of the weights, ``sum_o d_o H d_o^T`` with the Gram matrix H of the
inputs; that is computed once, so a step costs no pass over images.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from hatdet.quantization.ptq.walk import Visit
from hatdet.quantization.qat.quantized_conv import QuantizedConv2d

PIXELS = 256
"""Positions of each image that the Gram matrix counts."""
ITERATIONS = 600
RATE = 0.02
STRENGTH = 0.02
"""Weight of the regularizer, beside an error in which one code at the mean input counts 1."""
WARMUP = 0.2
"""Share of the steps without the regularizer."""
SHARPEST, SOFTEST = 20.0, 2.0
"""Exponent of the regularizer, from the first to the last step."""
_LOW, _HIGH = -0.1, 1.1
"""Ends of the rectified sigmoid."""


@torch.no_grad()
def learn_rounding(visit: Visit, centred: bool) -> float:
    """Replace the weights of a convolution by values on its grid whose rounding was learned.

    Args:
        centred: only the error around its mean counts, as the bias is going to take that (bias correction).

    Returns:
        The squared error of the sums as a share of that with the nearest rounding; what rounded inputs add is in both.
    """
    conv = visit.conv
    target, gram, cross, rest = _problem(visit, centred)
    ends = conv.weight_fake_quant.quant_min, conv.weight_fake_quant.quant_max
    nearest, learned = (codes.clamp(*ends) for codes in (target.round(), _learn(target, gram, cross)))
    before, after = (rest + _error(codes - target, gram, cross) for codes in (nearest, learned))
    better = (after < before).unsqueeze(-1)
    chosen = torch.where(better, learned, nearest)
    codes = chosen.reshape(conv.weight.shape)
    conv.weight.copy_(codes * conv.weight_fake_quant.scale.view(-1, 1, 1, 1))
    return float(torch.minimum(before, after).sum() / before.sum()) if float(before.sum()) > 0 else 1.0


def can_be_learned(visit: Visit) -> bool:
    """Whether the rounding is this convolution's own: levels that share codes, and transposed ones, keep nearest."""
    return type(visit.conv) is QuantizedConv2d and visit.own_weight


def _problem(visit: Visit, centred: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The error of the sums as a quadratic form.

    With d = codes - weights in steps, it is ``d X + r``, where X are the rounded inputs (columns) and r is what their
    rounding leaves, in steps.

    Returns:
        the weights in steps (g, O / g, K), and the means of X X^T (g, K, K), r X^T (g, O / g, K) and r^2 (g, O / g),
        each divided by the mean diagonal of the first.
    """
    conv = visit.conv
    groups, scale = conv.groups, conv.channel_scale().view(-1, 1)
    rows = visit.weight.reshape(groups, conv.out_channels // groups, -1)
    size = rows.shape[-1]
    gram = torch.zeros(groups, size, size, dtype=torch.float64, device=rows.device)
    cross = torch.zeros(rows.shape, dtype=torch.float64, device=rows.device)
    sum_x = torch.zeros(groups, size, dtype=torch.float64, device=rows.device)
    sum_r, rest = (torch.zeros(rows.shape[:2], dtype=torch.float64, device=rows.device) for _ in range(2))
    count = 0
    for exact, rounded in _pairs(visit):
        places = _places(conv, exact)
        x, was = _columns(conv, rounded, places), _columns(conv, exact, places)
        left = rows @ (x - was)  # (g, O / g, n)
        gram += (x @ x.transpose(1, 2)).double()
        cross += (left @ x.transpose(1, 2)).double()
        sum_x += x.sum(-1, dtype=torch.float64)
        sum_r += left.sum(-1, dtype=torch.float64)
        rest += left.double().square().sum(-1)
        count += x.shape[-1]
    gram, cross, rest = gram / count, cross / count, rest / count
    if centred:
        mean_x, mean_r = sum_x / count, sum_r / count
        gram = gram - mean_x.unsqueeze(-1) * mean_x.unsqueeze(1)
        cross = cross - mean_r.unsqueeze(-1) * mean_x.unsqueeze(1)
        rest = rest - mean_r.square()
    level = gram.diagonal(dim1=1, dim2=2).mean(-1).clamp(min=1e-20).view(-1, 1, 1)
    steps = scale.view(groups, -1, 1).double()
    rest = rest / level[..., 0] / steps[..., 0].square()
    return (rows / steps).float(), (gram / level).float(), (cross / level / steps).float(), rest.float()


def _pairs(visit: Visit) -> list[tuple[Tensor, Tensor]]:
    """Float and rounded input of every image (1, C, H, W)."""
    return [
        (exact[i : i + 1], rounded[i : i + 1])
        for exact, rounded in zip(visit.exact, visit.rounded, strict=True)
        for i in range(len(exact))
    ]


def _places(conv: QuantizedConv2d, x: Tensor) -> Tensor:
    """Numbers of the output positions that count, the same for every image of a size."""
    total = 1
    for i in range(2):
        reach = conv.dilation[i] * (conv.kernel_size[i] - 1) + 1
        total *= (x.shape[2 + i] + 2 * int(conv.padding[i]) - reach) // conv.stride[i] + 1
    if total <= PIXELS:
        return torch.arange(total)
    return torch.randperm(total, generator=torch.Generator().manual_seed(total))[:PIXELS]


def _columns(conv: QuantizedConv2d, x: Tensor, places: Tensor) -> Tensor:
    """What the kernel sees at those positions: (1, C, H, W) -> (g, C / g * kh * kw, n)."""
    padding = (int(conv.padding[0]), int(conv.padding[1]))
    columns = F.unfold(x.contiguous(), conv.kernel_size, conv.dilation, padding, conv.stride)[0]
    return columns[:, places].reshape(conv.groups, -1, len(places))


def _error(d: Tensor, gram: Tensor, cross: Tensor) -> Tensor:
    """``mean |d X + r|^2`` less the constant ``mean |r|^2``, by row (g, O / g)."""
    return ((d @ gram + 2.0 * cross) * d).sum(-1)


def _learn(target: Tensor, gram: Tensor, cross: Tensor) -> Tensor:
    """Codes (g, O / g, K), each the whole number below or above its weight."""
    down = target.floor()
    part = target - down
    fixed = (part < 1e-3) | (part > 1.0 - 1e-3)  # on the grid already
    share = (part.clamp(0.01, 0.99) - _LOW) / (_HIGH - _LOW)
    v = torch.log(share / (1.0 - share))
    first, second = torch.zeros_like(v), torch.zeros_like(v)
    for step in range(ITERATIONS):
        sigmoid = torch.sigmoid(v)
        h = (sigmoid * (_HIGH - _LOW) + _LOW).clamp_(0.0, 1.0)
        gradient = 2.0 * ((h - part) @ gram + cross)
        done = step / ITERATIONS
        if done >= WARMUP:
            share_done = (done - WARMUP) / (1.0 - WARMUP)
            beta = SOFTEST + 0.5 * (SHARPEST - SOFTEST) * (1.0 + torch.cos(torch.tensor(share_done * torch.pi)))
            centred = 2.0 * h - 1.0
            gradient -= STRENGTH * 2.0 * beta * centred.abs().pow(beta - 1.0) * centred.sign()
        gradient *= (_HIGH - _LOW) * sigmoid * (1.0 - sigmoid) * ((h > 0.0) & (h < 1.0))
        first.lerp_(gradient, 0.1)
        second.lerp_(gradient.square(), 0.001)
        correction = (1.0 - 0.999 ** (step + 1)) ** 0.5 / (1.0 - 0.9 ** (step + 1))
        v -= RATE * correction * first / (second.sqrt() + 1e-12)
    up = torch.where(fixed, (part > 0.5).float(), (torch.sigmoid(v) >= 0.5).float())
    return down + _polished(up, part, fixed, gram, cross)


def _polished(up: Tensor, part: Tensor, fixed: Tensor, gram: Tensor, cross: Tensor) -> Tensor:
    """Change single decisions, in each row the best first, as long as that lowers the error; equal weights of equal
    inputs are learned alike, and no change of both together helps them."""
    up, size = up.clone(), up.shape[-1]
    slope = 2.0 * ((up - part) @ gram + cross)
    own = gram.diagonal(dim1=1, dim2=2).unsqueeze(1)
    for _ in range(size):
        change = 1.0 - 2.0 * up
        gain = change * slope + own
        best, where = gain.masked_fill(fixed, 0.0).min(-1, keepdim=True)
        better = best < -1e-7
        if not bool(better.any()):
            break
        step = change.gather(-1, where) * better
        up.scatter_add_(-1, where, step)
        slope += 2.0 * step * gram.gather(1, where.expand(-1, -1, size))
    return up
