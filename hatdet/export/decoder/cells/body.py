"""Raw integer codes to cells, with numpy alone: the text of this file stands after that of ``../body.py``.

It imports nothing of hatdet and must not; ``Decoder`` and ``_f32`` are those of the text before it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from hatdet.export.decoder.body import Decoder, _f32

# --- the text that is taken begins here


class CellDecoder(Decoder):
    """A decoder whose detections are cells of one map: points, and the squares around them."""

    def decode(self, outputs: Any, file_size: tuple[int, int]) -> dict[str, np.ndarray]:
        """Detections of one image.

        Args:
            outputs: the raw output of the network in a list (or a dict by name), codes (1, h, w, c) or (h, w, c).
            file_size: (h, w) of the picture that was given to :meth:`preprocess`.

        Returns:
            ``points`` float32 (n, 2) x, y and ``boxes`` float32 (n, 4) xyxy in pixels of the picture, ``scores``
            float32 (n,), ``labels`` int64 (n,), best first.

        Raises:
            ValueError: an output of another shape or type.
        """
        (codes,) = self._checked(outputs)
        scores = self._shares(codes)
        labels = scores.argmax(axis=1)  # of equal scores the first class
        best = scores[np.arange(len(scores)), labels]
        boxes = self._squares(codes.shape[0], codes.shape[1], file_size)
        solid = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
        cells = ((best > _f32(self.model["score_thr"])) & solid).nonzero()[0]
        cells = cells[np.argsort(-best[cells], kind="stable")]
        keep = self._fused(cells, labels, codes.shape[1])
        found = boxes[keep]
        points = (found[:, :2] + found[:, 2:]) * _f32(0.5)
        return {"points": points, "boxes": found, "scores": best[keep], "labels": labels[keep].astype(np.int64)}

    def _shares(self, codes: np.ndarray) -> np.ndarray:
        """float32 (cells, classes): a softmax over background, which comes first, and the classes, in float64."""
        parts = np.asarray(self.model["exponentials"], np.float64)[codes.reshape(-1, codes.shape[2]).astype(int) + 128]
        total = parts[:, 0].copy()
        for number in range(1, parts.shape[1]):
            total += parts[:, number]
        return (parts[:, 1:] / total[:, None]).astype(_f32)

    def _squares(self, rows: int, columns: int, file_size: tuple[int, int]) -> np.ndarray:
        """float32 (cells, 4) xyxy in pixels of the file, cut at the picture's edge."""
        stride = _f32(self.model["stride"])
        x, y = (np.arange(count, dtype=_f32) * stride for count in (columns, rows))
        low = np.stack((np.tile(x, rows), np.repeat(y, columns)), axis=1)
        boxes = np.concatenate((low, low + stride), axis=1)
        height, width = self.picture_size(file_size)
        sides = np.array([width, height, width, height], _f32)
        scale = np.array([width / file_size[1], height / file_size[0]] * 2, _f32)
        return np.minimum(np.maximum(boxes, _f32(0)), sides) / scale

    def _fused(self, cells: np.ndarray, labels: np.ndarray, columns: int) -> np.ndarray:
        """The cells that are no neighbours of a better one of their class."""
        kept: list[tuple[int, int, int, int]] = []
        reach = self.model["fuse"]
        for cell in cells.tolist():
            row, column, label = cell // columns, cell % columns, int(labels[cell])
            near = (k == label and max(abs(r - row), abs(c - column)) <= reach for r, c, k, _ in kept)
            if not any(near):
                kept.append((row, column, label, cell))
                if len(kept) == self.model["max_per_img"]:
                    break
        return np.array([one[3] for one in kept], np.int64)
