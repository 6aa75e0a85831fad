"""``weight_bits="auto"``: which layers' weights get four bits, so that weights and biases fit a budget of flash.

Each layer is judged alone, as :mod:`hatdet.quantization.analysis.sensitivity` judges layers: in the float network its
weights are rounded to four bits, and what that adds to the noise of the outputs is measured on calibration images. The
layers that add least for a saved byte are taken first, until the budget is met. No labels are needed, and one pass over
a few images is enough; the AP of the chosen model is what calibration's validation measures.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from hatdet.integer.operators.windows.weighted import WEIGHT_LIMITS, packed_bytes
from hatdet.quantization.operators.base import Step
from hatdet.quantization.qat.learned_steps import least_squares_scale
from hatdet.quantization.qat.network import QuantizedNetwork
from hatdet.quantization.qat.weight_bits import quantizer_of, weighted_steps
from hatdet.utils.errors import UserError

IMAGES = 8
"""Calibration images on which layers are judged."""
SHARE = 0.55
"""With four bits in all layers about 0.51 are left."""


def check_budget(value: Any) -> None:
    """Refuse what ``flash_budget`` cannot be.

    Raises:
        UserError: with what it can be.
    """
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not (value is None or (number and value > 0)):
        raise UserError(
            f"flash_budget is {value!r}; use a number of bytes of weights and biases, or their share of those with 8 "
            "bits, such as 0.55"
        )


@dataclass(frozen=True)
class Candidate:
    """Layers of one weight (mostly one layer). ``names``: in execution order. ``saved``: bytes that four bits save.
    ``noise``: energy that they add at the outputs, as a share of the signal."""

    names: tuple[str, ...]
    saved: int
    noise: float


@dataclass(frozen=True)
class Choice:
    """``layers``: names of those that get four bits, in execution order. ``before``, ``after``: bytes of weights and
    biases. ``candidates``: all layers, those that cost least for a byte first."""

    layers: list[str]
    before: int
    after: int
    candidates: list[Candidate]

    def text(self) -> str:
        """In one line."""
        names = sum(len(c.names) for c in self.candidates)
        return (
            f"weights of 4 bits in {len(self.layers)} of {names} layers: {self.after} of {self.before} bytes of "
            f"weights and biases ({self.after / max(1, self.before):.1%})"
        )


def first_images(batches: Iterable[Tensor], count: int) -> Tensor:
    """The first ones of batches (b, C, H, W), at most ``count``, at least one; of the first one's size."""
    kept: list[Tensor] = []
    for batch in batches:
        if not kept or batch.shape[1:] == kept[0].shape[1:]:
            kept.append(batch)
        if sum(map(len, kept)) >= count:
            break
    return torch.cat(kept)[:count]


def choose(network: QuantizedNetwork, images: Tensor, budget: float | None) -> Choice:
    """Choose the layers.

    Args:
        network: calibrated; as it was afterwards.
        images: normalized (B, C, H, W).
        budget: bytes; at most 1: a share of those with 8 bits; None: :data:`SHARE`.

    Raises:
        UserError: four bits everywhere are still too many bytes.
    """
    groups = _groups(network)
    before = sum(_bytes(group[0], 8) for group in groups) + 4 * _biases(network)
    share = SHARE if budget is None else budget
    limit = share * before if share <= 1 else share
    saved = [_bytes(group[0], 8) - _bytes(group[0], 4) for group in groups]
    least = before - sum(saved)
    if least > limit:
        raise UserError(
            f"flash_budget={budget!r} means {limit:.0f} bytes of weights and biases, and with 4 bits in all layers "
            f"they are {least} of {before}: raise it, or take a smaller model"
        )
    noise = _noise(network, groups, images)
    candidates = [
        Candidate(tuple(step.name for step in group), won, made)
        for group, won, made in zip(groups, saved, noise, strict=True)
    ]
    candidates.sort(key=lambda c: c.noise / max(1, c.saved))
    after, chosen = before, set[str]()
    for candidate in candidates:
        if after <= limit:
            break
        after -= candidate.saved
        chosen |= set(candidate.names)
    layers = [step.name for step in weighted_steps(network.plan) if step.name in chosen]
    return Choice(layers, before, after, candidates)


def _groups(network: QuantizedNetwork) -> list[list[Step]]:
    """The weighted steps; those that share a weight together."""
    groups: dict[int, list[Step]] = {}
    for step in weighted_steps(network.plan):
        groups.setdefault(id(quantizer_of(step)), []).append(step)
    return list(groups.values())


def _weight(step: Step) -> nn.Parameter:
    weight = step.module.weight  # type: ignore[union-attr]
    assert isinstance(weight, nn.Parameter)
    return weight


def _bytes(step: Step, bits: int) -> int:
    return packed_bytes(_weight(step).numel(), bits)


def _biases(network: QuantizedNetwork) -> int:
    """How many numbers they are; one that steps share counts once. A live batch norm becomes one of its own."""
    modules: list[Any] = [step.module for step in weighted_steps(network.plan)]
    return sum({id(m if m.bias is None else m.bias): m.out_channels for m in modules}.values())


@torch.no_grad()
def _noise(network: QuantizedNetwork, groups: Sequence[Sequence[Step]], images: Tensor) -> list[float]:
    """What each group adds to the outputs alone: mean over the outputs of noise energy by signal energy."""
    quantizing, training = network.quantizing, network.training
    network.set_quantizing(False)
    network.eval()
    try:
        exact = tuple(network.trunk(images))
        found = []
        for group in groups:
            with _rounded(_weight(group[0])):
                found.append(_ratio(exact, tuple(network.trunk(images))))
        return found
    finally:
        network.set_quantizing(quantizing)
        network.train(training)


@contextmanager
def _rounded(weight: nn.Parameter) -> Iterator[None]:
    """A weight as four bits have it, for a while."""
    kept, limit = weight.detach().clone(), WEIGHT_LIMITS[4]
    scale = least_squares_scale(weight, limit).clamp(min=2.0**-24).view(-1, *(1,) * (weight.dim() - 1))
    try:
        weight.data.copy_(torch.round(kept / scale).clamp_(-limit, limit) * scale)
        yield
    finally:
        weight.data.copy_(kept)


def _ratio(exact: Sequence[Tensor], maps: Sequence[Tensor]) -> float:
    pairs = [(float(a.square().sum()), float((b - a).square().sum())) for a, b in zip(exact, maps, strict=True)]
    ratios = [noise / signal for signal, noise in pairs if signal > 0]
    return sum(ratios) / max(1, len(ratios))
