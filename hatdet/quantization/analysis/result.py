"""What an analysis found, as plain values: for the table, the CSV, the JSON and the page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from hatdet.quantization.analysis.advice import SENSITIVE_DROP, Advice, advise, severity
from hatdet.quantization.analysis.layers import LayerComparison, LayerRecord, WeightRecord, compare_weights
from hatdet.quantization.analysis.sensitivity import Sensitivity

NAN = math.nan


@dataclass(frozen=True)
class LayerRow:
    """One layer; the fields that are not written into the CSV come last.

    Attributes:
        rank: 1 is the layer that matters most. index: position in the network.
        sqnr, cosine, max_lsb, mean_error: accumulated. own_sqnr, own_max_lsb: of this layer alone.
        low, high: of the reference's values. clipped_low, clipped_high: shares outside the range.
        alone_sqnr: of the outputs when only this layer is quantized, dB. noise_share: its part in all such noise.
        kept_gain: dB of the outputs won when only this layer is kept float. ap_drop, ap_gain: the same in AP.
    """

    rank: int
    index: int
    name: str
    kind: str
    is_output: bool
    own_sqnr: float
    sqnr: float
    cosine: float
    own_max_lsb: float
    max_lsb: float
    mean_error: float
    low: float
    high: float
    scale: float
    zero_point: int | None
    clipped_low: float
    clipped_high: float
    distinct_codes: int
    code_span: int
    dead_channels: int
    channel_spread: float
    weight_sqnr: float
    weight_worst_sqnr: float
    weight_worst_channel: int | None
    weight_spread: float
    weight_noise_share: float
    noise_share: float
    alone_sqnr: float
    kept_gain: float
    ap_drop: float
    ap_gain: float
    advice: tuple[Advice, ...] = ()
    codes: tuple[int, ...] = ()

    @property
    def advice_text(self) -> str:
        """All findings in one line."""
        return "; ".join(a.text for a in self.advice)

    def plain(self) -> dict[str, Any]:
        """The numbers by column; ``advice`` as the kinds, ``advice_text`` as the sentences."""
        skipped = ("advice", "codes")
        row: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in skipped}
        return {**row, "advice": " ".join(a.kind for a in self.advice), "advice_text": self.advice_text}


@dataclass(frozen=True)
class ImageRow:
    """One image: SQNR of its outputs in dB, and how much its detections changed (sum over boxes of |score change|).

    Attributes:
        reference_boxes, tested_boxes: detections with at least the score of ``detections.MIN_SCORE``.
    """

    img_id: int
    file_name: str
    sqnr: float
    score_change: float
    reference_boxes: int
    tested_boxes: int

    def plain(self) -> dict[str, Any]:
        return {f.name: getattr(self, f.name) for f in fields(self)}


@dataclass
class AnalysisResult:
    """Everything that is shown.

    Attributes:
        layers: the layers that matter on top. source: the network's input, as a layer.
        outputs_sqnr: of the outputs together (every output counts the same); output_sqnr: of each.
        curve: (number of layers kept float, SQNR of the outputs), the most sensitive layers first; 0: none.
        metrics: AP and the like by stage, where AP was asked for. notes: what a reader must know.
        arithmetic: name of the profile that the integers follow; "" where neither stage has any.
    """

    reference: str
    tested: str
    images: int
    measure: str
    layers: list[LayerRow]
    source: LayerRow
    outputs_sqnr: float
    output_sqnr: dict[str, float]
    worst_images: list[ImageRow] = field(default_factory=list)
    curve: list[tuple[int, float]] = field(default_factory=list)
    metrics: dict[str, Mapping[str, float]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    arithmetic: str = ""

    def mixed_precision(self) -> list[LayerRow]:
        """Layers in the order in which to give them more bits: those without effect at the outputs are left out."""
        return [row for row in self.layers if row.noise_share > 0 or row.ap_drop > 0]


def build_rows(
    comparison: LayerComparison,
    sensitivity: Sensitivity | None = None,
    ap: Mapping[str, tuple[float, float]] | None = None,
) -> tuple[list[LayerRow], LayerRow]:
    """The layers, those that matter most first, and the row of the input.

    Order: values that are no numbers, constant outputs, then by AP lost (where it was measured and is more than
    chance), by the share in the noise at the outputs, by the layer's own SQNR.

    Args:
        sensitivity: what each layer does to the outputs. ap: output of the layer -> (AP lost, AP won).
    """
    shares = sensitivity.shares() if sensitivity is not None else {}
    rows = []
    for layer in comparison.layers:
        weights = _weights(comparison, layer)
        lost, won = (ap or {}).get(layer.value, (NAN, NAN))
        share = shares.get(layer.value, NAN)
        alone = sensitivity.alone[layer.value].sqnr if sensitivity is not None and layer.value in shares else NAN
        gain = sensitivity.gain(layer.value) if sensitivity is not None and layer.value in shares else NAN
        advice = advise(layer, weights, share, lost)
        numbers = dict(noise_share=share, alone_sqnr=alone, kept_gain=gain, ap_drop=lost, ap_gain=won)
        rows.append(_row(layer, weights, advice, numbers))
    ordered = sorted(rows[1:], key=_order)
    return [_ranked(row, rank) for rank, row in enumerate(ordered, 1)], rows[0]


def _order(row: LayerRow) -> tuple[float, ...]:
    grave = severity(row.advice)
    own = row.own_sqnr if not math.isnan(row.own_sqnr) else math.inf
    lost = row.ap_drop if row.ap_drop > SENSITIVE_DROP else 0.0  # less is chance; nan is not measured
    share = 0.0 if math.isnan(row.noise_share) else row.noise_share
    return (-grave, row.index if grave else 0, -lost, -share, own, row.index)


def _ranked(row: LayerRow, rank: int) -> LayerRow:
    return LayerRow(**{**{f.name: getattr(row, f.name) for f in fields(row)}, "rank": rank})


def _weights(comparison: LayerComparison, layer: LayerRecord) -> WeightRecord | None:
    if layer.kind == "input":
        return None
    a, b = comparison.reference.weight(layer.value), comparison.tested.weight(layer.value)
    return compare_weights(a, b) if a is not None and b is not None else None


def _row(
    layer: LayerRecord, weights: WeightRecord | None, advice: Sequence[Advice], numbers: dict[str, float]
) -> LayerRow:
    q, w = layer.qparams, weights
    return LayerRow(
        rank=0, index=layer.index, name=layer.name, kind=layer.kind, is_output=layer.is_output,
        own_sqnr=layer.own.sqnr, sqnr=layer.total.sqnr, cosine=layer.total.cosine, own_max_lsb=layer.own_max_lsb,
        max_lsb=layer.max_lsb, mean_error=layer.total.mean, low=layer.low, high=layer.high,
        scale=q.scale if q else NAN, zero_point=q.zero_point if q else None,
        clipped_low=layer.clipped[0], clipped_high=layer.clipped[1], distinct_codes=layer.distinct_codes,
        code_span=layer.code_span, dead_channels=len(layer.dead_channels), channel_spread=layer.channel_spread,
        weight_sqnr=w.sqnr if w else NAN, weight_worst_sqnr=w.worst_sqnr if w else NAN,
        weight_worst_channel=w.worst_channel if w and w.worst_channel >= 0 else None,
        weight_spread=w.spread if w else NAN, weight_noise_share=layer.weight_noise_share if w else NAN,
        advice=tuple(advice), codes=tuple(layer.codes.tolist()), **numbers,
    )  # fmt: skip
