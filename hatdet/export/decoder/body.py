"""Raw integer outputs to boxes, with numpy alone: the text of this file becomes part of every exported decoder.

It imports nothing of hatdet and must not. Every step is the toolbox's own, in the same precision: real values, boxes
and scores are float32, overlaps are float64 rounded to float32 as OpenCV does, ties go by level, position and class.
"""

from __future__ import annotations

from typing import Any

import numpy as np

_f32 = np.float32
_COEFFICIENT = 2048  # bilinear weights are whole multiples of 1 / 2048


class Decoder:
    """What stands between a camera picture and boxes, around the integer network.

    Args:
        model: plain values: input, levels, thresholds (``MODEL`` of an exported decoder).
    """

    def __init__(self, model: dict[str, Any]) -> None:
        self.model = model
        self.classes: list[str] = list(model["classes"])
        self.size: tuple[int, int] = (model["input"]["height"], model["input"]["width"])

    # ------------------------------------------------------------------------------------------- before the network
    def picture_size(self, file_size: tuple[int, int]) -> tuple[int, int]:
        """(h, w) that a picture of ``file_size`` (h, w) gets inside the network's input; the rest is padding."""
        height, width = file_size
        limit_h, limit_w = self.model["input"]["resize"]
        if not self.model["input"]["keep_ratio"]:
            return limit_h, limit_w
        if limit_h * width <= limit_w * height:
            return limit_h, max(1, int(width * limit_h / height + 0.5))
        return max(1, int(height * limit_w / width + 0.5)), limit_w

    def preprocess(self, image: np.ndarray) -> np.ndarray:
        """uint8 (h, w, 3) BGR -> int8 codes (1, H, W, C): resized, padded, in the network's channel order, minus 128.

        A network for gray pictures takes them as (h, w) or (h, w, 1); of a BGR picture it takes the luma.

        Raises:
            ValueError: not such an image.
        """
        order = self.model["input"]["channels"]
        if order == "GRAY" and image.ndim == 2:
            image = image[:, :, None]
        allowed = (1, 3) if order == "GRAY" else (3,)
        if image.ndim != 3 or image.shape[2] not in allowed or image.dtype != np.uint8 or 0 in image.shape:
            wanted = "(height, width) or (height, width, 3)" if order == "GRAY" else "(height, width, 3)"
            raise ValueError(f"an image is uint8 {wanted}, got {image.dtype} {image.shape}")
        if order == "GRAY" and image.shape[2] == 3:
            image = bgr_to_gray(image)
        height, width = self.picture_size(image.shape[:2])
        canvas = np.full((*self.size, image.shape[2]), self.model["input"]["fill"], np.uint8)
        canvas[:height, :width] = resize(image, height, width)
        canvas = bgr_to_yuv(canvas) if order == "YUV" else canvas[:, :, ::-1] if order == "RGB" else canvas
        return (canvas.astype(np.int16) - 128).astype(np.int8)[None]

    # [if not tabled]
    # -------------------------------------------------------------------------------------------- after the network
    def decode(self, outputs: Any, file_size: tuple[int, int]) -> dict[str, np.ndarray]:
        """Detections of one image.

        Args:
            outputs: the raw outputs of the network in the order of the file (or a dict by name), each an array of
                codes (1, h, w, c) or (h, w, c).
            file_size: (h, w) of the picture that was given to :meth:`preprocess`.

        Returns:
            ``boxes`` float32 (n, 4) xyxy in pixels of the picture, ``scores`` float32 (n,), ``labels`` int64 (n,),
            best first.

        Raises:
            ValueError: outputs of another number, shape or type.
        """
        maps = self._checked(outputs)
        parts = [self._level(level, maps) for level in self.model["levels"]]
        boxes, scores, labels = (np.concatenate(values) for values in zip(*parts))
        boxes = self._to_file(boxes, file_size)
        solid = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
        boxes, scores, labels = boxes[solid], scores[solid], labels[solid]
        order = np.argsort(-scores, kind="stable")
        boxes, scores, labels = boxes[order], scores[order], labels[order]
        keep = suppress(boxes, labels, _f32(self.model["iou_threshold"]), self.model["max_per_img"])
        return {"boxes": boxes[keep], "scores": scores[keep], "labels": labels[keep]}

    # [end]
    def _checked(self, outputs: Any) -> list[np.ndarray]:
        known = self.model["outputs"]
        if isinstance(outputs, dict):
            missing = [o["name"] for o in known if o["name"] not in outputs]
            if missing:
                raise ValueError(f"outputs {missing} are missing; there are {sorted(outputs)}")
            outputs = [outputs[o["name"]] for o in known]
        if len(outputs) != len(known):
            raise ValueError(f"the network has {len(known)} outputs, got {len(outputs)}")
        maps = []
        for info, values in zip(known, outputs):
            values = np.asarray(values)
            shape = (info["height"], info["width"], info["channels"])
            if values.shape not in (shape, (1, *shape)) or values.dtype != np.dtype(info["dtype"]):
                raise ValueError(f"{info['name']} is {info['dtype']} {shape}, got {values.dtype} {values.shape}")
            maps.append(values.reshape(shape))
        return maps

    # [if not tabled]
    def _level(self, level: dict[str, Any], maps: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Boxes in network pixels, scores and labels of a level's candidates, by position, anchor and class."""
        codes = maps[level["cls"]].reshape(-1, self.model["num_anchors"] * self.model["num_classes"])
        above = codes >= level["threshold"]  # the score threshold, on integers
        if level["gate"] > level["threshold"]:  # a filter of positions, on integers too
            above &= codes.max(axis=1, keepdims=True) >= level["gate"]
        codes, above = (values.reshape(-1, self.model["num_classes"]) for values in (codes, above))
        # [if score_factor]
        factor = self._factor(level, maps[level["factor"]].reshape(-1))
        # [end]
        if self.model["multi_label"]:
            prior, label = above.nonzero()
            scores = self._scores(level, codes[prior, label])
            # [if score_factor]
            scores = scores * factor[prior]
            # [end]
        else:
            prior = above.any(axis=1).nonzero()[0]
            known = self._scores(level, np.where(above[prior], codes[prior], level["threshold"]))
            # [if score_factor]
            known = known * factor[prior, None]
            # [end]
            known = np.where(above[prior], known, _f32(-1))
            label = known.argmax(axis=1)  # of equal scores the first class
            scores = known[np.arange(len(prior)), label]
        # [if score_factor]
        passing = scores > _f32(self.model["score_thr"])
        prior, label, scores = prior[passing], label[passing], scores[passing]
        # [end]
        if len(scores) > self.model["nms_pre"]:
            chosen = np.sort(np.argsort(-scores, kind="stable")[: self.model["nms_pre"]])
            prior, label, scores = prior[chosen], label[chosen], scores[chosen]
        return self._boxes(level, maps, prior), scores, label.astype(np.int64)

    def _scores(self, level: dict[str, Any], codes: np.ndarray) -> np.ndarray:
        """float32 scores of codes that reach the threshold: a table, or the float64 sigmoid rounded to float32."""
        if level["scores"] is not None:
            return np.asarray(level["scores"], _f32)[codes.astype(np.int64) - level["threshold"]]
        with np.errstate(over="ignore"):
            return (1 / (1 + np.exp(-self._real(level["cls"], codes).astype(np.float64)))).astype(_f32)

    # [if score_factor]
    def _factor(self, level: dict[str, Any], codes: np.ndarray) -> np.ndarray:
        """float32 factors of the scores of all priors: a table, or the float64 sigmoid rounded to float32."""
        if level["factors"] is not None:
            return np.asarray(level["factors"], _f32)[codes.astype(np.int64) + 128]
        with np.errstate(over="ignore"):
            return (1 / (1 + np.exp(-self._real(level["factor"], codes).astype(np.float64)))).astype(_f32)

    # [end]
    def _real(self, output: int, codes: np.ndarray) -> np.ndarray:
        info = self.model["outputs"][output]
        return (codes.astype(_f32) - _f32(info["zero_point"])) * _f32(info["scale"])

    def _boxes(self, level: dict[str, Any], maps: list[np.ndarray], prior: np.ndarray) -> np.ndarray:
        """float32 (n, 4) xyxy in network pixels of the regression outputs of some priors."""
        width = maps[level["box"]].shape[1]
        real = self._real(level["box"], maps[level["box"]].reshape(-1, 4)[prior])
        position, anchor = prior // self.model["num_anchors"], prior % self.model["num_anchors"]
        place = np.stack((position % width, position // width), axis=1).astype(_f32)
        point = (place + _f32(self.model["prior_offset"])) * _f32(level["stride"])
        if self.model["boxes"] == "deltas":
            return self._of_deltas(point, np.asarray(level["anchors"], _f32)[anchor], real)
        distance = (_exp(real) if self.model["exp_on_reg"] else real) * _f32(level["stride"])
        # [if in_pixels]
        distance = _exp(real) if self.model["exp_on_reg"] else real
        # [end]
        return np.concatenate((point - distance[:, :2], point + distance[:, 2:]), axis=1)

    def _of_deltas(self, point: np.ndarray, anchor: np.ndarray, delta: np.ndarray) -> np.ndarray:
        """Boxes of deltas (dx, dy, dw, dh) of anchors, xyxy around their points."""
        delta = delta * np.asarray(self.model["reg_std"], _f32) + np.asarray(self.model["reg_mean"], _f32)
        anchor = np.concatenate((point, point), axis=1) + anchor
        size = anchor[:, 2:] - anchor[:, :2]
        centre = (anchor[:, :2] + anchor[:, 2:]) * _f32(0.5) + delta[:, :2] * size
        half = _exp(np.minimum(delta[:, 2:], _f32(self.model["max_log_ratio"]))) * size * _f32(0.5)
        return np.concatenate((centre - half, centre + half), axis=1)

    def _to_file(self, boxes: np.ndarray, file_size: tuple[int, int]) -> np.ndarray:
        """Clip to the picture inside the padding, then divide by its scale: pixels of the file."""
        height, width = self.picture_size(file_size)
        sides = np.array([width, height, width, height], _f32)
        scale = np.array([width / file_size[1], height / file_size[0]] * 2, _f32)
        return np.minimum(np.maximum(boxes, _f32(0)), sides) / scale


def _exp(values: np.ndarray) -> np.ndarray:
    """float32 exp, computed in float64 and rounded once."""
    with np.errstate(over="ignore"):
        return np.exp(values.astype(np.float64)).astype(_f32)


# [end]
# [if not cells]
def suppress(boxes: np.ndarray, labels: np.ndarray, threshold: np.floating, limit: int) -> np.ndarray:
    """Indices of the boxes kept by greedy suppression inside each class, at most ``limit``; the boxes are in order."""
    wide = boxes.astype(np.float64)
    sizes = wide[:, 2:] - wide[:, :2]
    areas = sizes[:, 0] * sizes[:, 1]
    alive = np.ones(len(boxes), bool)
    keep: list[int] = []
    for i in range(len(boxes)):
        if not alive[i]:
            continue
        keep.append(i)
        if len(keep) == limit:
            break
        if areas[i] > 1e-12:
            rest = i + 1 + ((labels[i + 1 :] == labels[i]) & alive[i + 1 :] & (areas[i + 1 :] > 1e-12)).nonzero()[0]
            low = np.maximum(wide[i, :2], wide[rest, :2])
            high = np.minimum(wide[i, 2:], wide[rest, 2:])
            inside = np.maximum(high - low, 0).prod(axis=1)
            distance = 1 - inside / (areas[i] + areas[rest] - inside)
            alive[rest[_f32(1) - distance.astype(_f32) > threshold]] = False
    return np.array(keep, np.int64)


# [end]
def resize(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Bilinear, as ``cv2.resize`` with INTER_LINEAR has it for bytes: fixed point, exactly half the size by means."""
    if image.shape[:2] == (height, width):
        return image
    wide = image.astype(np.int32)
    if image.shape[:2] == (2 * height, 2 * width):
        return ((wide[::2, ::2] + wide[::2, 1::2] + wide[1::2, ::2] + wide[1::2, 1::2] + 2) >> 2).astype(np.uint8)
    x, x_weights = _taps(image.shape[1], width, True)
    y, y_weights = _taps(image.shape[0], height, False)

    def rows(at: np.ndarray) -> np.ndarray:
        row = wide[np.clip(at, 0, image.shape[0] - 1)]
        right = np.minimum(x + 1, image.shape[1] - 1)
        return (row[:, x] * x_weights[0][None, :, None] + row[:, right] * x_weights[1][None, :, None]) >> 4

    upper = (rows(y) * y_weights[0][:, None, None]) >> 16
    lower = (rows(y + 1) * y_weights[1][:, None, None]) >> 16
    return ((upper + lower + 2) >> 2).astype(np.uint8)


def _taps(source: int, target: int, clamp: bool) -> tuple[np.ndarray, np.ndarray]:
    """First source index of every target pixel, and the (2, target) weights of it and of the next one."""
    centre = ((np.arange(target) + 0.5) * (1.0 / (target / source)) - 0.5).astype(_f32)
    first = np.floor(centre).astype(np.int64)
    part = centre - first.astype(_f32)
    if clamp:
        part = np.where((first < 0) | (first >= source - 1), _f32(0), part)
        first = np.clip(first, 0, source - 1)
    weights = np.stack((_f32(1) - part, part)) * _f32(_COEFFICIENT)
    return first, np.rint(weights).astype(np.int32)


def bgr_to_gray(image: np.ndarray) -> np.ndarray:
    """(h, w, 3) -> (h, w, 1): BT.601's luma in 15-bit fixed point, as OpenCV's COLOR_BGR2GRAY has it."""
    blue, green, red = (image[:, :, i : i + 1].astype(np.int32) for i in range(3))
    return ((3735 * blue + 19235 * green + 9798 * red + 16384) >> 15).astype(np.uint8)


def bgr_to_yuv(image: np.ndarray) -> np.ndarray:
    """Full-range BT.601 YUV444 in 14-bit fixed point, as OpenCV's conversion rounds it (its Cr is V, its Cb is U)."""
    blue, green, red = (image[:, :, i].astype(np.int32) for i in range(3))
    luma = (4899 * red + 9617 * green + 1868 * blue + 8192) >> 14
    u = (9241 * (blue - luma) + (128 << 14) + 8192) >> 14
    v = (11682 * (red - luma) + (128 << 14) + 8192) >> 14
    return np.clip(np.stack((luma, u, v), axis=2), 0, 255).astype(np.uint8)
