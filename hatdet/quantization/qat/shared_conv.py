"""Convolutions that use one weight and differ in a gain for each channel: what batch norms of their own leave of a
convolution that several levels share (SepBN, RTMDet's ``share_conv``).

Level l computes ``gain_l * (w * x) + bias_l``. In integers the codes of ``w`` are one tensor, and the gain is in the
scale of each channel, ``Sw_l = Sw * |gain_l|``, where it costs nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

logger = logging.getLogger("hatdet")
COARSEST = 4.0
"""How much coarser a channel's codes may become by sharing them, as a factor of the scale."""

_DEAD = 254.0
"""A scale so many times the finest rounds all codes to 0."""


class WeightGroup:
    """The convolutions that may use one weight, and who uses whose.

    ``members[i].weight_owner`` is the index of the member whose weight member i uses; owners own themselves. It is
    in the state dict, and loading follows it, because which levels can share depends on the weights.
    """

    def __init__(self) -> None:
        self.members: list[Any] = []
        self._weights: dict[int, nn.Parameter] = {}
        self._quantizers: dict[int, nn.Module] = {}

    def join(self, member: nn.Module, weight: nn.Parameter, owner: int) -> None:
        """Add the next member, which uses ``owner``'s weight."""
        index = len(self.members)
        self.members.append(member)
        member.weight_group, member.weight_index = self, index  # type: ignore[assignment]
        member.register_buffer("weight_owner", torch.tensor(owner, device=weight.device))
        member.weight = self._weights.setdefault(owner, weight)
        member.register_load_state_dict_pre_hook(_follow_state)

    def replace(self, index: int, member: nn.Module) -> None:
        """Let another module stand in for member ``index``, with its weight and owner."""
        old = self.members[index]
        self.members[index] = member
        member.weight_group, member.weight_index = self, index  # type: ignore[assignment]
        member.register_buffer("weight_owner", old.weight_owner)
        member.register_load_state_dict_pre_hook(_follow_state)

    def users(self, owner: int) -> list[Any]:
        """Members with the weight of ``owner``."""
        return [m for m in self.members if int(m.weight_owner) == owner]

    def assign(self, index: int, owner: int) -> None:
        """Let member ``index`` use the weight (and the weight quantizer) of ``owner``."""
        member = self.members[index]
        if int(member.weight_owner) == owner:
            return
        if owner not in self._weights:
            self._weights[owner] = nn.Parameter(member.weight.detach().clone())
        quantizer = getattr(member, "weight_fake_quant", None)
        if quantizer is not None:
            self._quantizers = {int(m.weight_owner): m.weight_fake_quant for m in self.members} | self._quantizers
            if owner not in self._quantizers:
                self._quantizers[owner] = quantizer.like()
            member.weight_fake_quant = self._quantizers[owner]
        member.weight = self._weights[owner]
        member.weight_owner.fill_(owner)
        member.gain.requires_grad_(len(self.users(owner)) > 1)


def _follow_state(module: Any, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Before loading: share as the checkpoint's model did."""
    owner = state.get(f"{prefix}weight_owner")
    if owner is not None and 0 <= int(owner) < len(module.weight_group.members):
        module.weight_group.assign(module.weight_index, int(owner))


class LeafConv2d(nn.Conv2d):
    """A convolution of ours that tracing sees as one operator."""

    @classmethod
    def like_geometry(cls, conv: nn.Conv2d, bias: bool) -> LeafConv2d:
        """With the geometry of ``conv`` and no storage: weight and bias are to be set."""
        size, stride, padding, dilation = conv.kernel_size, conv.stride, conv.padding, conv.dilation
        return cls(
            conv.in_channels, conv.out_channels, cast(Any, size), cast(Any, stride), cast(Any, padding),
            cast(Any, dilation), conv.groups, bias=bias, padding_mode=conv.padding_mode, device="meta",
        )  # fmt: skip


class SharedConv2d(LeafConv2d):
    """A convolution with ``weight * |gain|``; ``weight`` may be other convolutions' too (see :class:`WeightGroup`).

    The gain is stored with either sign and used without: a gain that training moves through zero comes out positive.
    """

    gain: nn.Parameter
    weight_group: WeightGroup
    weight_index: int
    weight_owner: Tensor

    @classmethod
    def like(cls, conv: nn.Conv2d, gain: Tensor, bias: Tensor) -> SharedConv2d:
        """With the geometry of ``conv``; the weight is the group's (:meth:`WeightGroup.join`)."""
        new = cast(SharedConv2d, cls.like_geometry(conv, bias=True))
        new.gain, new.bias = nn.Parameter(gain.detach()), nn.Parameter(bias.detach())
        return new.train(conv.training)

    def forward(self, x: Tensor) -> Tensor:
        return self._conv_forward(x, with_gain(self.weight, self.gain.abs()), self.bias)


def with_gain(weight: Tensor, gain: Tensor) -> Tensor:
    """``weight`` (O, ...) times ``gain`` (O,)."""
    return weight * gain.view(-1, *(1 for _ in weight.shape[1:]))


@dataclass
class FoldedLevel:
    """One level's share of a folded group: y_c = factor_c * (w * x)_c + bias_c, both float64 (O,)."""

    factor: Tensor
    bias: Tensor


def coarseness(peak: Tensor, gain: Tensor, bias: Tensor, bias_to_weight: float) -> Tensor:
    """By what factor a channel's bias makes its weight scale coarser than max|w| / 127: (O,), in [1, 254].

    The scale of a level is at least ``|bias| / bias_to_weight`` (see ``WeightFakeQuantize``).

    Args:
        peak: max|w| of each channel, without gain.
    """
    needed = bias.abs() * (127.0 / bias_to_weight) / (gain.abs() * peak)
    return torch.nan_to_num(needed, nan=1.0, posinf=_DEAD).clamp(1.0, _DEAD)  # nan: 0 / 0, nothing is needed


def can_share(peak: Tensor, levels: Sequence[FoldedLevel], bias_to_weight: float) -> str:
    """Why these levels cannot use one weight with max|w| of ``peak`` (O,); '' where they can.

    Every channel must have one sign in all levels, and a level must not force codes on the others that are more than
    ``COARSEST`` times coarser. Channels whose codes are 0 anyway, or whose factor and bias are 0, ask for nothing.
    """
    coarse, idle, dead = _needs(peak, levels, bias_to_weight)
    sign = torch.stack([v.factor.sign() for v in levels])
    mixed = (sign.amax(0) > 0) & (sign.amin(0) < 0) & ~dead
    if bool(mixed.any()):
        return f"the signs of their batch norms' weights differ in {int(mixed.sum())} of {len(mixed)} channels"
    most, least = coarse.masked_fill(idle, 1.0).amax(0), coarse.masked_fill(idle, _DEAD).amin(0)
    apart = (most > COARSEST * least) & ~dead
    if bool(apart.any()):
        return (
            f"in {int(apart.sum())} of {len(apart)} channels the batch norm of a level leaves almost nothing but its "
            "bias"
        )
    return ""


def channel_peak(weight: Tensor) -> Tensor:
    """max|w| of each output channel, float64 (O,)."""
    return weight.detach().reshape(len(weight), -1).abs().amax(1).double()


def _needs(peak: Tensor, levels: Sequence[FoldedLevel], bias_to_weight: float) -> tuple[Tensor, Tensor, Tensor]:
    """Coarseness (L, O); where a level is 0 whatever the weight is (L, O); channels whose codes all are 0 (O,)."""
    coarse = torch.stack([coarseness(peak, v.factor, v.bias, bias_to_weight) for v in levels])
    idle = torch.stack([(v.factor == 0) & (v.bias == 0) for v in levels])
    return coarse, idle, ((coarse >= _DEAD) | idle).all(0) | (peak == 0)


def common_weight(weight: Tensor, levels: Sequence[FoldedLevel], bias_to_weight: float) -> tuple[Tensor, list[Tensor]]:
    """One weight (O, ...) and each level's gain (O,) >= 0, for levels that can share; float64.

    The common sign and the geometric mean of the factors go into the weight, so that gains are about 1 and the weight
    is of the size that it has on a level. A channel that is dead on all levels has a weight of 0.
    """
    factors = torch.stack([v.factor for v in levels])
    present = factors != 0
    count = present.sum(0).clamp(min=1)
    mean = (torch.where(present, factors.abs(), 1.0).log().sum(0) / count).exp()
    sign = torch.where(factors.amin(0) < 0, -1.0, 1.0).to(factors.dtype)
    dead = _needs(channel_peak(weight), levels, bias_to_weight)[2]
    scale = torch.where(dead, 0.0, mean * sign)
    gains = [torch.where(dead, 1.0, v.factor.abs() / mean) for v in levels]
    return with_gain(weight.detach().double(), scale), gains


def share_weights(
    convs: Mapping[str, nn.Conv2d], levels: Sequence[FoldedLevel], bias_to_weight: float
) -> list[SharedConv2d]:
    """One convolution for each level of one weight, which they go on sharing where they can.

    Args:
        convs: with that weight, by what to call them in the log; ``levels`` in their order.
    """
    group, weight = WeightGroup(), next(iter(convs.values())).weight
    owners = _partition(weight, levels, list(convs), bias_to_weight)
    made: dict[int, tuple[nn.Parameter, dict[int, Tensor]]] = {}
    for owner in sorted(set(owners)):
        users = [i for i, o in enumerate(owners) if o == owner]
        common, gains = common_weight(weight, [levels[i] for i in users], bias_to_weight)
        made[owner] = nn.Parameter(common.to(weight.dtype)), dict(zip(users, gains, strict=True))
    found = []
    for i, conv in enumerate(convs.values()):
        parameter, by_level = made[owners[i]]
        shared = SharedConv2d.like(conv, by_level[i].to(weight.dtype), levels[i].bias.to(weight.dtype))
        shared.gain.requires_grad_(len(by_level) > 1)
        group.join(shared, parameter, owners[i])
        found.append(shared)
    return found


def _partition(
    weight: Tensor, levels: Sequence[FoldedLevel], names: Sequence[str], bias_to_weight: float
) -> list[int]:
    """For each level the first level whose weight it can use, which may be its own."""
    peak = channel_peak(weight)
    users: dict[int, list[int]] = {}
    for i, level in enumerate(levels):
        reason = ""
        for owner, others in users.items():
            why = can_share(peak, [*(levels[j] for j in others), level], bias_to_weight)
            if not why:
                others.append(i)
                break
            reason = reason or f"{names[i]} cannot share the weight of {names[owner]}: {why}"
        else:
            users[i] = [i]
            if reason:
                logger.info("%s; it gets its own", reason)
    return [next(owner for owner, members in users.items() if i in members) for i in range(len(levels))]
