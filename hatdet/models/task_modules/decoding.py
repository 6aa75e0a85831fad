"""How a dense detector's raw maps become boxes and scores: one value, from which evaluation in torch, the decoding
inside float files and the exported decoders are all made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from hatdet.models.task_modules.coders import BoxCoder, DistancePointBBoxCoder
from hatdet.models.task_modules.encoders import XYWHBBoxEncoder
from hatdet.models.task_modules.priors import PriorGenerator
from hatdet.ops import rounded

ANCHOR_KEYS = ("anchors", "anchor_offset", "reg_mean", "reg_std", "max_log_ratio", "filter_threshold")
POINT_KEYS = ("prior_offset", "exp_on_reg")


@dataclass(frozen=True)
class DecodeRule:
    """Boxes and scores of raw maps.

    A level with A priors at a position has the maps class logits (B, A * K, H, W), box values (B, A * V, H, W) and,
    with ``score_factor``, one logit a prior (B, A, H, W). Channel ``a * K + k`` belongs to prior a. The maps come kind
    after kind: the class logits of all levels, then the boxes of all levels, then the factors.

    Attributes:
        priors: what the positions stand for.
        coder: how box values say a box at a prior.
        num_classes: K.
        score_factor: a score is ``sigmoid(class) * sigmoid(factor)`` (objectness, centerness), not the first alone.
        gate: positions whose best class logit is below it have no score; None: all have.
    """

    priors: PriorGenerator
    coder: BoxCoder
    num_classes: int
    score_factor: bool = False
    gate: float | None = None

    @property
    def columns(self) -> tuple[int, ...]:
        """Values of a prior in the maps of each kind."""
        return (self.num_classes, self.coder.num_values, 1)[: 2 + self.score_factor]

    def rows(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Raw maps (B, A * n, H, W) of all levels, kind after kind -> (B, P, n) of each kind."""
        levels = len(self.priors.strides)
        kinds = [(n, slice(i * levels, (i + 1) * levels)) for i, n in enumerate(self.columns)]
        if self.priors.base_anchors is None:  # one prior a position; in this way, as files of points always had it
            flat = [m.permute(0, 2, 3, 1).flatten(1, 2) for m in maps]
            return [torch.cat(flat[part], dim=1) for _, part in kinds]
        return [
            torch.cat([m.permute(0, 2, 3, 1).reshape(m.shape[0], -1, n) for m in maps[part]], dim=1)
            for n, part in kinds
        ]

    def boxes_and_scores(self, priors: Tensor, rows: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Boxes (B, P, 4), xyxy in network pixels, not clipped, and scores (B, P, K) of what :meth:`rows` gives."""
        boxes, scores = self.coder.decode(priors, rows[1]), rows[0].sigmoid()
        return boxes, scores * rows[2].sigmoid() if self.score_factor else scores

    def open(self, values: Tensor, counts: Sequence[int], scored: bool = False) -> Tensor | None:
        """bool (B, P): priors at positions that pass the gate; None where there is none.

        Args:
            values: logits (B, P, K), or with ``scored`` their sigmoid.
            counts: priors of each level.
        """
        if self.gate is None:
            return None
        gate = torch.tensor(self.gate, dtype=torch.float32)
        gate = (rounded.sigmoid(gate) if scored else gate).to(values.device)
        passing = []
        for level, number in zip(values.split(list(counts), dim=1), self.priors.num_priors, strict=True):
            best = level.reshape(len(level), -1, number * self.num_classes).amax(dim=2)
            passing.append((best >= gate).repeat_interleave(number, dim=1))
        return torch.cat(passing, dim=1)

    def metadata(self) -> dict[str, Any]:
        """Plain values, of which :meth:`of_metadata` makes the rule again, unless they name a ``box_coder``."""
        known = self.coder.metadata()
        if self.score_factor:
            known["score_factor"] = True
        if type(self.coder) not in (DistancePointBBoxCoder, XYWHBBoxEncoder):
            known["box_coder"] = type(self.coder).__name__  # which nobody but itself can undo
        if self.priors.base_anchors is None:
            return {**known, "prior_offset": self.priors.offset, **({} if self.gate is None else self._gate())}
        anchors = [base.tolist() for base in self.priors.base_anchors]
        count = {"num_anchors": self.priors.num_priors[0]}
        return {**known, **count, "anchors": anchors, "anchor_offset": self.priors.offset, **self._gate()}

    def _gate(self) -> dict[str, float | None]:
        return {"filter_threshold": self.gate}

    @classmethod
    def of_metadata(cls, metadata: Mapping[str, Any]) -> DecodeRule:
        """The rule that a detector's metadata tells (:func:`told_keys` says which keys it needs)."""
        anchors: Sequence[Tensor] | None = None
        coder: BoxCoder
        if told_keys(metadata) == ANCHOR_KEYS:
            anchors = [torch.tensor(level, dtype=torch.float32) for level in metadata["anchors"]]
            coder = XYWHBBoxEncoder(**{key: metadata[key] for key in ("reg_mean", "reg_std", "max_log_ratio")})
        else:
            in_strides = not metadata.get("in_pixels", False)
            coder = DistancePointBBoxCoder(exp=bool(metadata["exp_on_reg"]), in_strides=in_strides)
        offset = float(metadata["prior_offset" if anchors is None else "anchor_offset"])
        return cls(
            PriorGenerator([int(stride) for stride in metadata["strides"]], offset, anchors),
            coder,
            int(metadata["num_classes"]),
            bool(metadata.get("score_factor", False)),
            metadata.get("filter_threshold"),
        )


def told_keys(metadata: Mapping[str, Any]) -> tuple[str, ...]:
    """The keys that a rule of the kind that ``metadata`` tells consists of; empty where it tells none."""
    kinds = (keys for keys in (POINT_KEYS, ANCHOR_KEYS) if any(key in metadata for key in keys))
    return next(kinds, ())


class InGraphDecoder(nn.Module):
    """Raw maps of one image size -> boxes (B, P, 4) and scores (B, P, K), traceable: decoding inside a float file.

    Args:
        rule: how.
        priors: float32 (P, 4), of all levels.
    """

    priors: Tensor

    def __init__(self, *, rule: DecodeRule, priors: Tensor) -> None:
        super().__init__()
        self.register_buffer("priors", priors.clone())
        self.rule = rule

    def forward(self, *maps: Tensor) -> tuple[Tensor, Tensor]:
        return self.rule.boxes_and_scores(self.priors, self.rule.rows(maps))
