"""What the numbers of a layer mean, and what to do about it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from hatdet.quantization.analysis.layers import LayerRecord, WeightRecord

LOW_SQNR = 30.0
"""dB. Ideal rounding of a full range gives about 40; a layer whose own error is worse has a reason."""
CLIPPED_SHARE = 0.01
CLIPPING_OF_NOISE = 0.5
"""Clipping is the layer's problem where it makes at least half of the layer's own error."""
NARROW_SPAN = 64
"""Codes from the lowest to the highest used one: a quarter of the range or less wastes two bits."""
WEIGHT_SQNR = 25.0
WEIGHTS_OF_NOISE = 0.5
CHANNEL_SPREAD = 16.0
"""The median channel has at most a sixteenth of the range: 16 codes."""
DEAD_SHARE = 0.1
SENSITIVE_SHARE = 0.1
SENSITIVE_DROP = 0.002


@dataclass(frozen=True)
class Advice:
    """One finding. ``kind`` is stable, for programs; ``text`` is for people."""

    kind: str
    text: str


def advise(
    layer: LayerRecord,
    weights: WeightRecord | None = None,
    share: float = math.nan,
    ap_drop: float = math.nan,
) -> list[Advice]:
    """Findings about one layer, the gravest first; empty where nothing is wrong with it.

    Kinds: ``not_finite, constant, clipped, too_wide, weights, channel_spread, dead_channels, sensitive``.

    Args:
        share: of the noise at the outputs. ap_drop: AP lost when only this layer is quantized.
    """
    found = [*_broken(layer)]
    if not found:
        found += _range(layer)
        found += _channels(layer, weights)
        found += _sensitive(layer, share, ap_drop)
    return found


def severity(advice: Sequence[Advice]) -> int:
    """2: values that are no numbers; 1: a constant output; 0: anything else. What sorts before all numbers."""
    kinds = {a.kind for a in advice}
    return 2 if "not_finite" in kinds else 1 if "constant" in kinds else 0


def _broken(layer: LayerRecord) -> list[Advice]:
    if any(layer.not_finite):
        where = " and ".join(n for n, c in zip(("reference", "tested stage"), layer.not_finite, strict=True) if c)
        text = f"NaN or infinite values in the {where}: find the first layer that has them; retrain with NanGuard"
        return [Advice("not_finite", text)]
    if not layer.constant or layer.kind == "input":
        return []
    if layer.low == layer.high:
        text = f"constant output ({layer.low:.4g} everywhere), in the float network already: dead layer, remove it"
    else:
        text = (
            f"constant output after quantization, while the float values span {layer.low:.4g} to {layer.high:.4g}: "
            "its scale does not fit, calibrate again"
        )
    return [Advice("constant", text)]


def _range(layer: LayerRecord) -> list[Advice]:
    q = layer.qparams
    if q is None or layer.kind == "input":
        return []
    share = sum(layer.clipped)
    clipping = layer.clipping / layer.own.noise if layer.own.noise > 0 else 0.0
    if (share > 0 and layer.own.sqnr < LOW_SQNR and clipping > CLIPPING_OF_NOISE) or share > CLIPPED_SHARE:
        bottom, top = (q.lowest - q.zero_point) * q.scale, (q.highest - q.zero_point) * q.scale
        text = (
            f"range clipped: {share:.2%} of the values lie outside [{bottom:.4g}, {top:.4g}] "
            f"(they span {layer.low:.4g} to {layer.high:.4g}): calibrate with min_max, with more images, or train QAT "
            "longer"
        )
        return [Advice("clipped", text)]
    if layer.code_span <= NARROW_SPAN and q.bits == 8 and layer.kind not in ("activation", "requantize"):
        bits = math.log2(256 / max(1, layer.code_span))
        text = (
            f"range too wide: the values use {layer.code_span} of 256 codes, {bits:.1f} bits are wasted: calibrate "
            "with percentile or mse; a tensor that shares its scale with others (concatenation) may need a "
            "convolution or normalization of its own"
        )
        return [Advice("too_wide", text)]
    return []


def _channels(layer: LayerRecord, weights: WeightRecord | None) -> list[Advice]:
    found = []
    if weights is not None and layer.weight_noise_share > WEIGHTS_OF_NOISE and layer.own.sqnr < LOW_SQNR + 5:
        text = (
            f"{layer.weight_noise_share:.0%} of its own error come of rounding its weights ({weights.sqnr:.1f} dB), "
            "not its output: inputs far from zero that nearly cancel in its sums magnify it. QAT learns around that, "
            "an input that is centred around zero avoids it"
        )
        found.append(Advice("weights", text))
    elif weights is not None and weights.worst_sqnr < WEIGHT_SQNR:
        text = (
            f"weights of channel {weights.worst_channel} reach {weights.worst_sqnr:.1f} dB only (all: "
            f"{weights.sqnr:.1f} dB): an outlier in that channel, or a bias far larger than the weights; QAT or weight "
            "decay evens it out"
        )
        found.append(Advice("weights", text))
    if layer.channel_spread > CHANNEL_SPREAD and layer.own.sqnr < LOW_SQNR + 10:
        text = (
            f"the largest channel has {layer.channel_spread:.0f} times the range of the median one, and they share one "
            "scale: even the channels out (weight decay on batch norms, cross-layer equalization) or keep it float"
        )
        found.append(Advice("channel_spread", text))
    dead = layer.dead_channels
    if layer.channel_low is not None and len(dead) >= max(1.0, DEAD_SHARE * len(layer.channel_low)):
        shown = ", ".join(map(str, dead[:8])) + (", ..." if len(dead) > 8 else "")
        text = f"{len(dead)} of {len(layer.channel_low)} channels are constant ({shown}): they could be pruned"
        found.append(Advice("dead_channels", text))
    return found


def _sensitive(layer: LayerRecord, share: float, ap_drop: float) -> list[Advice]:
    if not (share > SENSITIVE_SHARE or ap_drop > SENSITIVE_DROP):
        return []
    reasons = [f"{share:.0%} of the noise at the outputs"] if share > SENSITIVE_SHARE else []
    if ap_drop > SENSITIVE_DROP:
        reasons.append(f"{100 * ap_drop:.2f} points of AP")
    narrow = layer.is_output and layer.qparams is not None and layer.qparams.bits == 8
    what = "give this output 16 bits (int16_output) or keep it float" if narrow else "keep it float"
    return [Advice("sensitive", f"{' and '.join(reasons)} come from it: {what}, or train QAT longer")]
