"""Raw integer codes to boxes by tables, with numpy alone: the text of this file stands after that of ``../body.py``.

It imports nothing of hatdet and must not; ``Decoder``, ``suppress`` and ``_f32`` are those of the text before it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from hatdet.export.decoder.body import Decoder, _f32, suppress
from hatdet.export.decoder.tabled.steps import _in_order, boxes_of_buckets, buckets_of, soften, vote

# --- the text that is taken begins here


class TableDecoder(Decoder):
    """A decoder whose scores and box values are looked up by code."""

    def decode(self, outputs: Any, file_size: tuple[int, int]) -> dict[str, np.ndarray]:
        """See :meth:`Decoder.decode`."""
        maps, model = self._checked(outputs), self.model
        parts = [self._found(number, level, maps) for number, level in enumerate(model["levels"])]
        scores, labels, factors, priors, levels = (np.concatenate(values) for values in zip(*parts))
        if model["whole"]:
            best = self._best(scores)
            scores, labels, factors, priors, levels = (v[best] for v in (scores, labels, factors, priors, levels))
        boxes = np.concatenate(
            [self._made(level, maps, priors[levels == number]) for number, level in enumerate(model["levels"])]
        )
        boxes = self._in_file(boxes, file_size)
        scores = scores * factors
        if model["min_size"] is not None:
            large = (boxes[:, 2:] - boxes[:, :2] > _f32(model["min_size"])).all(axis=1)
            boxes, scores, labels, levels = boxes[large], scores[large], labels[large], levels[large]
        order = np.argsort(-scores, kind="stable")
        boxes, scores, labels, levels = boxes[order], scores[order], labels[order], levels[order]
        groups = np.zeros_like(labels) if model["class_agnostic"] else levels if model["by_level"] else labels
        lowered = scores
        if not model["suppresses"]:
            keep = np.arange(len(boxes))[: model["max_per_img"]]
        # [if soft]
        elif model["soft"]:
            keep, lowered = soften(boxes, scores, groups, model)
        # [end]
        else:
            keep = suppress(boxes, groups, _f32(model["iou_threshold"]), model["max_per_img"])
        found = boxes[keep]
        # [if vote]
        if model["vote"]:
            found = vote(found, labels[keep], boxes, scores, labels)
        # [end]
        return {"boxes": found, "scores": lowered[keep], "labels": labels[keep]}

    def _found(self, number: int, level: dict[str, Any], maps: list[np.ndarray]) -> tuple[np.ndarray, ...]:
        """Scores, labels, factors still to come, priors and level of the candidates, by prior and class."""
        model = self.model
        scores = self._scores_of(level, maps)
        factor = np.ones(len(scores), _f32)
        sure = np.ones(len(scores), bool)
        if model["has_factor"]:
            codes = self._columns(level["factor"], maps, level, 1)[:, 0].astype(np.int64)
            factor = np.asarray(level["factors"], _f32)[codes + 128]
            sure = codes >= level["factor_gate"]
        # [if num_buckets]
        factor = buckets_of(model, level, *self._bucket_codes(level, maps))[2] if model["num_buckets"] else factor
        # [end]
        if not model["multi_label"]:
            labels = scores.argmax(axis=1)  # of equal scores the first class
            scores = scores[np.arange(len(scores)), labels][:, None]
        if model["early"]:
            scores = scores * factor[:, None]
            scores = np.sqrt(scores) if model["root"] else scores
            factor = np.ones_like(factor)
        threshold = _f32(model["score_thr"])
        # [if by_prior]
        if model["by_prior"]:
            best = self._best(scores.max(axis=1))
            sure = np.zeros(len(scores), bool)
            sure[best] = True
        # [end]
        passing = (scores >= threshold if model["reaches"] else scores > threshold) & sure[:, None]
        prior, label = passing.nonzero()
        found = scores[prior, label]
        if not model["whole"] and not model["by_prior"]:
            best = self._best(found)
            prior, label, found = prior[best], label[best], found[best]
        if not model["multi_label"]:
            label = labels[prior]
        return found, label.astype(np.int64), factor[prior], prior, np.full(len(prior), number)

    def _best(self, scores: np.ndarray) -> np.ndarray:
        """Indices of the best candidates, in their order."""
        if len(scores) <= self.model["nms_pre"]:
            return np.arange(len(scores))
        return np.sort(np.argsort(-scores, kind="stable")[: self.model["nms_pre"]])

    def _columns(self, where: dict[str, int], maps: list[np.ndarray], level: dict[str, Any], count: int) -> np.ndarray:
        """Codes (priors, count) at an address."""
        codes, anchors = maps[where["output"]], len(level["anchors"])
        codes = codes.reshape(-1, codes.shape[2])
        parts = [codes[:, where["first"] + a * where["step"] :][:, :count] for a in range(anchors)]
        return np.stack(parts, axis=1).reshape(-1, count)

    def _scores_of(self, level: dict[str, Any], maps: list[np.ndarray]) -> np.ndarray:
        """float32 (priors, classes)."""
        classes = self.model["num_classes"]
        if not self.model["softmax"]:
            codes = self._columns(level["cls"], maps, level, classes).astype(np.int64)
            scores = np.asarray(level["scores"], _f32)[codes + 128]
            return self._peaks(level, scores) if self.model["peaks"] else scores
        codes = self._columns(level["cls"], maps, level, classes + 1).astype(np.int64)
        parts = np.asarray(level["exponentials"], np.float64)[codes + 128]
        return (parts[:, :classes] / _in_order(parts)[:, None]).astype(_f32)

    def _peaks(self, level: dict[str, Any], scores: np.ndarray) -> np.ndarray:
        """Scores (positions, classes), 0 where a neighbour's is higher."""
        reach, height, width = self.model["peaks"] // 2, level["height"], level["width"]
        maps = scores.reshape(height, width, -1)
        padded = np.pad(maps, ((reach, reach), (reach, reach), (0, 0)), constant_values=-1)
        highest = maps
        for down in range(2 * reach + 1):
            for right in range(2 * reach + 1):
                highest = np.maximum(highest, padded[down : down + height, right : right + width])
        return np.where(highest == maps, maps, _f32(0)).reshape(scores.shape)

    # [if aligned]
    def _read_between(self, level: dict[str, Any], maps: list[np.ndarray], prior: np.ndarray) -> np.ndarray:
        """float32 (n, 4) boxes whose sides are read some positions away, in pixels."""
        height, width = level["height"], level["width"]
        boxes = self._at(level, maps, np.arange(height * width))
        codes = self._columns(level["shift"], maps, level, 8)[prior].astype(np.int64)
        shifts = np.asarray(level["shifts"], _f32)[codes + 128].reshape(-1, 4, 2)
        row, column = ((values[:, None]).astype(_f32) for values in (prior // width, prior % width))
        y, x = shifts[..., 0] + row, shifts[..., 1] + column
        top, left = np.floor(y), np.floor(x)
        wy, wx, side = y - top, x - left, np.arange(4)[None]

        def at(row: np.ndarray, column: np.ndarray) -> np.ndarray:
            inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
            index = np.clip(row, 0, height - 1) * width + np.clip(column, 0, width - 1)
            return np.where(inside, boxes[index.astype(np.int64), side], _f32(0))

        one = _f32(1)
        upper = at(top, left) * (one - wx) + at(top, left + one) * wx
        lower = at(top + one, left) * (one - wx) + at(top + one, left + one) * wx
        read = upper * (one - wy) + lower * wy
        wrong = (read[:, :2] > read[:, 2:]).any(axis=1, keepdims=True)
        return np.where(wrong, boxes[prior], read) * _f32(level["unit"])

    # [end]
    def _made(self, level: dict[str, Any], maps: list[np.ndarray], prior: np.ndarray) -> np.ndarray:
        """float32 (n, 4) xyxy in network pixels of some priors."""
        # [if aligned]
        if self.model["aligned"]:
            return self._read_between(level, maps, prior)
        # [end]
        return self._at(level, maps, prior)

    def _at(self, level: dict[str, Any], maps: list[np.ndarray], prior: np.ndarray) -> np.ndarray:
        """The same without reading elsewhere; for that, in strides."""
        anchors, width = len(level["anchors"]), level["width"]
        position, anchor = prior // anchors, prior % anchors
        cell = np.stack((position % width, position // width), axis=1).astype(_f32)
        stride = np.asarray(level["stride"], _f32)
        if level["point"]:  # a share of the cell
            place = (cell + np.asarray(level["anchors"], _f32)[0, :2]) * stride
            sides = np.concatenate((place, place), axis=1)
        else:
            sides = np.asarray(level["anchors"], _f32)[anchor] + np.tile(cell * stride, 2)
        more, less, form = _f32(self.model["more"]), _f32(self.model["centre_less"]), self.model["boxes"]
        centre, size = (sides[:, :2] + sides[:, 2:] - less) * _f32(0.5), sides[:, 2:] - sides[:, :2] + more
        # [if num_buckets]
        if self.model["num_buckets"]:
            codes = [values[prior] for values in self._bucket_codes(level, maps)]
            return boxes_of_buckets(self.model, level, centre, size, *codes)
        # [end]
        values = self._values(level, maps, prior, stride)
        # [if aligned]
        if self.model["aligned"] and form == "sides":
            centre = centre / _f32(level["unit"])
        # [end]
        if form == "peaks":
            centre, half = cell + values[:, :2], values[:, 2:] / _f32(2)
            return np.concatenate((centre - half, centre + half), axis=1) * np.tile(stride, 2)
        if form in ("sides", "bins"):
            return np.concatenate((centre - values[:, :2], centre + values[:, 2:]), axis=1)
        if form == "deltas":
            shift = size * values[:, :2]
            if self.model["shift_limit"] is not None:
                shift = np.clip(shift, _f32(-self.model["shift_limit"]), _f32(self.model["shift_limit"]))
            centre, half = centre + shift, _f32(0.5) * (size * values[:, 2:] - less)
        elif form == "cells":
            centre, half = centre + values[:, :2], size * _f32(0.5) * values[:, 2:]
        else:
            centre, half = values[:, :2] + centre, values[:, 2:] / _f32(2)
        boxes = np.concatenate((centre - half, centre + half), axis=1)
        return boxes / _f32(level["unit"]) if self.model["aligned"] else boxes

    # [if num_buckets]
    def _bucket_codes(self, level: dict[str, Any], maps: list[np.ndarray]) -> list[np.ndarray]:
        """Codes (priors, 4, strips) of the strips' logits and offsets."""
        count = -(-self.model["num_buckets"] // 2)
        kinds = [self._columns(level[name], maps, level, 4 * count) for name in ("box", "shift")]
        return [codes.astype(np.int64).reshape(-1, 4, count) for codes in kinds]

    # [end]
    def _values(
        self, level: dict[str, Any], maps: list[np.ndarray], prior: np.ndarray, stride: np.ndarray
    ) -> np.ndarray:
        """float32 (n, 4) box values."""
        if self.model["boxes"] == "bins":
            bins = self.model["num_bins"]
            codes = self._columns(level["box"], maps, level, 4 * bins)[prior].astype(np.int64).reshape(-1, 4, bins)
            parts = np.asarray(level["bins"], np.float64)[codes + 128]
            mean = _in_order(parts * np.arange(bins, dtype=np.float64)) / _in_order(parts)
            return mean.astype(_f32) * np.tile(stride, 2)
        if self.model["peaks"]:
            parts = [self._columns(level[name], maps, level, 2)[prior] for name in ("shift", "box")]
            codes = np.concatenate(parts, axis=1).astype(np.int64)
        else:
            codes = self._columns(level["box"], maps, level, 4)[prior].astype(np.int64)
        tables = np.asarray(level["values"], _f32)
        return np.stack([tables[i][codes[:, level["order"][i]] + 128] for i in range(4)], axis=1)

    def _in_file(self, boxes: np.ndarray, file_size: tuple[int, int]) -> np.ndarray:
        """Cut to the picture inside the padding where the head does that, then pixels of the file."""
        height, width = self.picture_size(file_size)
        if self.model["clips"]:
            edge = np.array([width, height, width, height], _f32) - _f32(self.model["clip_less"])
            boxes = np.minimum(np.maximum(boxes, _f32(0)), edge)
        scale = np.array([width / file_size[1], height / file_size[0]] * 2, _f32)
        return boxes * (1.0 / scale.astype(np.float64)).astype(_f32)
