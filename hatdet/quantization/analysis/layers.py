"""Numbers that say how far two versions of one network are apart, layer by layer, on real images.

Two errors of a layer are told apart. The *accumulated* one is what flows through the network: it holds the errors of
all layers before. The layer's *own* one is made by this layer alone: both versions get the same inputs (those of the
reference, rounded as the layer would get them), so a bad scale shows in the layer that has it and in no other.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from hatdet.integer.tensors import QuantParams
from hatdet.quantization.analysis.stage import StageNetwork

CODES = 256


def decibels(signal: float, noise: float) -> float:
    """10 * log10(signal / noise) of two energies: inf without noise, -inf without signal, nan without either."""
    if noise > 0 and signal > 0:
        return 10.0 * math.log10(signal / noise)
    if math.isnan(noise) or math.isnan(signal) or (noise == 0 and signal == 0):
        return math.nan
    return math.inf if noise == 0 else -math.inf


@dataclass
class ErrorSums:
    """Sums over pairs (reference, tested) of values; pairs with a value that is not finite are only counted."""

    count: int = 0
    not_finite: int = 0
    reference: float = 0.0
    tested: float = 0.0
    product: float = 0.0
    noise: float = 0.0
    error: float = 0.0
    largest: float = 0.0

    def update(self, reference: Tensor, tested: Tensor) -> None:
        """Add tensors of one shape."""
        finite = torch.isfinite(reference) & torch.isfinite(tested)
        if not bool(finite.all()):
            self.not_finite += int((~finite).sum())
            reference, tested = reference[finite], tested[finite]
        if reference.numel() == 0:
            return
        difference = tested - reference
        self.count += reference.numel()
        self.reference += _energy(reference)
        self.tested += _energy(tested)
        self.product += float((reference * tested).sum(dtype=torch.float64))
        self.noise += _energy(difference)
        self.error += float(difference.sum(dtype=torch.float64))
        self.largest = max(self.largest, float(difference.abs().max()))

    @property
    def sqnr(self) -> float:
        """Signal to quantization noise in dB: 10 * log10(sum of reference**2 / sum of (tested - reference)**2)."""
        return decibels(self.reference, self.noise) if self.reference or self.noise else self._of_nothing()

    def _of_nothing(self) -> float:
        return math.inf if self.count else math.nan  # zeros that stayed zeros

    @property
    def cosine(self) -> float:
        """Cosine of the angle between the two as vectors; two vectors of zeros point the same way."""
        if not self.count:
            return math.nan
        if not self.reference or not self.tested:
            return 1.0 if self.reference == self.tested else 0.0
        return max(-1.0, min(1.0, self.product / math.sqrt(self.reference * self.tested)))

    @property
    def mean(self) -> float:
        """Mean of tested - reference: a bias that averaging does not remove."""
        return self.error / self.count if self.count else math.nan


def _energy(x: Tensor) -> float:
    return float(x.square().sum(dtype=torch.float64))


def count_codes(x: Tensor, q: QuantParams) -> Tensor:
    """How often each of the 256 codes stands for a value of ``x`` (index code + 128), int64 on the CPU.

    Of 16 bits the upper 8 are counted.
    """
    codes = torch.round(x / q.scale) + (q.zero_point - q.lowest)
    codes = (codes / (1 << (q.bits - 8))).floor_().clamp_(0, CODES - 1).to(torch.int64)
    return torch.bincount(codes.flatten(), minlength=CODES).cpu()


@dataclass
class LayerRecord:
    """What was seen of one layer (or of the network's input).

    Attributes:
        index: position in the order of execution; 0 is the input. name: module path. kind: conv, add, ...
        value: name of the output tensor. qparams: its quantization in the tested stage, if it has one there.
        total, own: errors, accumulated and the layer's own. low, high: range of the reference's values.
        below, above: how many of the reference's values lie outside the representable range, at either end.
        clipping: energy of what is lost by that. codes: how often each of the 256 codes was used (index code + 128).
        tested_low, tested_high: range of the tested values. not_finite: values that are no number, (reference, tested).
        channel_low, channel_high: ranges of the reference's channels.
        weight_noise: energy of the own error that the rounding of the weights alone makes.
        made_low, made_high, made_codes: the same of what the layer makes of the reference's inputs.
        is_output: whether the tensor is an output of the network.
    """

    index: int
    name: str
    kind: str
    value: str
    qparams: QuantParams | None
    is_output: bool = False
    total: ErrorSums = field(default_factory=ErrorSums)
    own: ErrorSums = field(default_factory=ErrorSums)
    low: float = math.inf
    high: float = -math.inf
    tested_low: float = math.inf
    tested_high: float = -math.inf
    weight_noise: float = 0.0
    made_low: float = math.inf
    made_high: float = -math.inf
    below: int = 0
    above: int = 0
    clipping: float = 0.0
    count: int = 0
    not_finite: tuple[int, int] = (0, 0)
    codes: Tensor = field(default_factory=lambda: torch.zeros(CODES, dtype=torch.int64))
    made_codes: Tensor = field(default_factory=lambda: torch.zeros(CODES, dtype=torch.int64))
    channel_low: Tensor | None = None
    channel_high: Tensor | None = None

    def update(self, reference: Tensor, tested: Tensor) -> None:
        """Add the values (B, C, H, W) of some images."""
        self.total.update(reference, tested)
        bad = (int((~torch.isfinite(reference)).sum()), int((~torch.isfinite(tested)).sum()))
        self.not_finite = (self.not_finite[0] + bad[0], self.not_finite[1] + bad[1])
        self.count += reference.numel()
        if any(bad):
            reference, tested = reference.nan_to_num(0.0, 0.0, 0.0), tested.nan_to_num(0.0, 0.0, 0.0)
        lows, highs = reference.amin((0, 2, 3)), reference.amax((0, 2, 3))
        self.channel_low = lows if self.channel_low is None else torch.minimum(self.channel_low, lows)
        self.channel_high = highs if self.channel_high is None else torch.maximum(self.channel_high, highs)
        self.low, self.high = min(self.low, float(lows.min())), max(self.high, float(highs.max()))
        self.tested_low = min(self.tested_low, float(tested.min()))
        self.tested_high = max(self.tested_high, float(tested.max()))
        if self.qparams is not None:
            q = self.qparams
            self.codes += count_codes(tested, q)
            bottom, top = ((limit - q.zero_point) * q.scale for limit in (q.lowest - 0.5, q.highest + 0.5))
            below, above = reference < bottom, reference > top
            self.below, self.above = self.below + int(below.sum()), self.above + int(above.sum())
            self.clipping += _energy((reference - reference.clamp(bottom, top))[below | above])

    def update_own(self, wanted: Tensor, made: Tensor) -> None:
        """Add what the two stages make of the same inputs."""
        self.own.update(wanted, made)
        made = made.nan_to_num(0.0, 0.0, 0.0)
        self.made_low, self.made_high = min(self.made_low, float(made.min())), max(self.made_high, float(made.max()))
        if self.qparams is not None:
            self.made_codes += count_codes(made, self.qparams)

    @property
    def clipped(self) -> tuple[float, float]:
        """Shares of the reference's values below and above the representable range."""
        return (self.below / self.count, self.above / self.count) if self.count else (0.0, 0.0)

    @property
    def distinct_codes(self) -> int:
        """How many of the 256 codes were used."""
        return int((self.codes > 0).sum())

    @property
    def code_span(self) -> int:
        """Codes from the lowest to the highest that the layer uses on the reference's inputs; 0 without codes."""
        used = self.made_codes.nonzero()
        return int(used[-1] - used[0]) + 1 if len(used) else 0

    @property
    def constant(self) -> bool:
        """One value everywhere in all images, in the reference, or in what the tested layer makes of its inputs."""
        return self.count > 0 and (self.low == self.high or self.made_low == self.made_high)

    @property
    def dead_channels(self) -> list[int]:
        """Channels of the reference that are one value everywhere in all images."""
        if self.channel_low is None or self.channel_high is None:
            return []
        return [int(i) for i in (self.channel_low == self.channel_high).nonzero().flatten()]

    @property
    def channel_spread(self) -> float:
        """Largest magnitude of all channels over that of the median living channel: what one scale has to bridge."""
        if self.channel_low is None or self.channel_high is None:
            return math.nan
        largest = torch.maximum(self.channel_low.abs(), self.channel_high.abs())
        living = largest[self.channel_low != self.channel_high]
        return float(living.max() / living.median()) if len(living) and float(living.median()) > 0 else math.nan

    @property
    def weight_noise_share(self) -> float:
        """Part of the own error that rounding the weights makes; the rest is rounding and clipping of the output."""
        return min(1.0, self.weight_noise / self.own.noise) if self.own.noise > 0 else math.nan

    @property
    def max_lsb(self) -> float:
        """Largest accumulated error in units of the scale."""
        return self.total.largest / self.qparams.scale if self.qparams is not None else math.nan

    @property
    def own_max_lsb(self) -> float:
        """Largest own error in units of the scale."""
        return self.own.largest / self.qparams.scale if self.qparams is not None else math.nan


class LayerComparison:
    """Compares every tensor of two stages of one network.

    Args:
        reference: usually the float network. tested: e.g. the integer one.

    Raises:
        ValueError: the two are different networks.
    """

    def __init__(self, reference: StageNetwork, tested: StageNetwork) -> None:
        if [s.output for s in reference.plan.steps] != [s.output for s in tested.plan.steps]:
            raise ValueError(f"{reference.name} and {tested.name} are different networks and cannot be compared")
        self.reference, self.tested = reference, tested
        outputs = set(tested.plan.outputs)
        source = tested.plan.input
        self.layers = [LayerRecord(0, "(input)", "input", source, tested.qparams(source))]
        for index, step in enumerate(tested.plan.steps, 1):
            params = tested.qparams(step.output)
            self.layers.append(LayerRecord(index, step.name, step.kind, step.output, params, step.output in outputs))

    @torch.no_grad()
    def update(self, reference_input: Tensor, tested_input: Tensor) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Run both stages on normalized images (B, 3, H, W); returns the maps of both."""
        there, here = self.reference.values(reference_input), self.tested.values(tested_input)
        for layer in self.layers:
            layer.update(there[layer.value], here[layer.value])
            if layer.kind != "input":
                made, seen = self.tested.layer(layer.value, there)
                wanted, _ = self.reference.layer(layer.value, seen)
                layer.update_own(wanted, made)
                rounded = self.tested.layer_of_rounded_weights(layer.value, seen)
                layer.weight_noise += _energy(rounded - wanted) if rounded is not None else 0.0
        return self._maps(there), self._maps(here)

    def _maps(self, values: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        return tuple(values[name] for name in self.tested.plan.outputs)


@dataclass
class OutputNoise:
    """Noise of the network's outputs: every output counts the same, whatever its unit or size.

    Attributes:
        signal, noise: energies by output.
    """

    signal: list[float] = field(default_factory=list)
    noise: list[float] = field(default_factory=list)

    def update(self, reference: Sequence[Tensor], tested: Sequence[Tensor]) -> None:
        """Add the outputs of some images."""
        sums = [ErrorSums() for _ in reference]
        for total, a, b in zip(sums, reference, tested, strict=True):
            total.update(a, b)
            if total.not_finite:
                total.noise = math.inf
        if not self.signal:
            self.signal, self.noise = [0.0] * len(sums), [0.0] * len(sums)
        self.signal = [s + total.reference for s, total in zip(self.signal, sums, strict=True)]
        self.noise = [n + total.noise for n, total in zip(self.noise, sums, strict=True)]

    @property
    def ratio(self) -> float:
        """Mean over the outputs of noise energy / signal energy; outputs without signal are left out."""
        ratios = [n / s for s, n in zip(self.signal, self.noise, strict=True) if s > 0]
        return sum(ratios) / len(ratios) if ratios else math.nan

    @property
    def sqnr(self) -> float:
        """The same in dB."""
        return decibels(1.0, self.ratio)


@dataclass(frozen=True)
class WeightRecord:
    """The weights of a convolution in two stages.

    Attributes:
        sqnr: of all of them, dB. worst_sqnr, worst_channel: of the output channel that suffers most.
        spread: largest magnitude over that of the median channel. zero_channels: channels whose weights are all 0.
    """

    sqnr: float
    worst_sqnr: float
    worst_channel: int
    spread: float
    zero_channels: int


def compare_weights(reference: Tensor, tested: Tensor) -> WeightRecord:
    """Compare weights (O, I, kh, kw) with what the tested stage multiplies with instead."""
    a, b = reference.double().flatten(1), tested.double().flatten(1)
    signal, noise = a.square().sum(1), (b - a).square().sum(1)
    channels = [decibels(float(s), float(n)) for s, n in zip(signal, noise, strict=True)]
    known = [(value, i) for i, value in enumerate(channels) if not math.isnan(value)]
    worst, channel = min(known, default=(math.nan, -1))
    largest = a.abs().amax(1)
    living = largest[largest > 0]
    spread = float(living.max() / living.median()) if len(living) else math.nan
    total = decibels(float(signal.sum()), float(noise.sum()))
    return WeightRecord(total, worst, channel, spread, int((largest == 0).sum()))
