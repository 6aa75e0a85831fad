"""Boxes with class and score drawn into images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hatdet.visualization.colors import bgr_color
from hatdet.visualization.labels import place_labels

Image = NDArray[np.uint8]


def draw_boxes(
    image: Image,
    boxes: NDArray[np.floating],
    labels: NDArray[np.integer],
    class_names: Sequence[str],
    scores: NDArray[np.floating] | None = None,
    min_score: float = 0.0,
    scale: float = 1.0,
    ids: NDArray[np.integer] | None = None,
    points: bool = False,
) -> Image:
    """A copy of the image, enlarged by `scale`, with boxes, class names and scores.

    Args:
        image: (H, W, 3) uint8 BGR, or (H, W, 1) gray.
        boxes: (n, 4) xyxy in pixels of `image`; parts outside are cut off.
        labels: (n,) indices into `class_names` (an index beyond it is shown as a number).
        scores: (n,); boxes below `min_score` are left out. The surest is drawn last, on top.
        ids: (n,) numbers of objects that are followed, shown behind the names.
        points: a disc stands in the middle of each box, whose own lines are thin.

    Labels hide no object: they stand beside the boxes, or in a corner of a large one; where there is no such place, a
    box has none, unless objects are followed by their numbers. Enlarging (`scale`) makes room.
    """
    import cv2

    if image.ndim == 3 and image.shape[2] == 1:
        image = np.repeat(image, 3, axis=2)
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ValueError(f"image: got {image.dtype} {image.shape}; expected uint8 (height, width, 3)")
    height, width = round(image.shape[0] * scale), round(image.shape[1] * scale)
    canvas = np.ascontiguousarray(image if scale == 1 else cv2.resize(image, (width, height)))
    canvas = canvas.copy() if canvas is image else canvas
    order = list(range(len(boxes)) if scores is None else np.argsort(scores, kind="stable"))
    shown = [i for i in order if (scores is None or scores[i] >= min_score) and np.isfinite(boxes[i]).all()]
    corners = _corners(np.array([boxes[i] for i in shown], np.float64).reshape(-1, 4) * scale, canvas)
    colors = [bgr_color(max(int(labels[i]), 0)) for i in shown]
    texts = [
        _label(int(labels[i]), class_names, None if ids is None else int(ids[i]), None if scores is None else scores[i])
        for i in shown
    ]
    for box, color in zip(corners.tolist(), colors, strict=True):
        cv2.rectangle(canvas, (box[0], box[1]), (box[2], box[3]), color, 1 if points else _thickness(canvas))
        if points:
            middle = ((box[0] + box[2]) // 2, (box[1] + box[3]) // 2)
            cv2.circle(canvas, middle, 2 + _thickness(canvas), color, -1, cv2.LINE_AA)
    _write(canvas, corners[::-1], texts[::-1], colors[::-1], always=ids is not None)  # the surest gets its place first
    return canvas


def _label(label: int, class_names: Sequence[str], number: int | None, score: float | None) -> str:
    name = class_names[label] if 0 <= label < len(class_names) else str(label)
    name = name if number is None else f"{name} #{number}"
    return name if score is None else f"{name} {score:.2f}"


def _thickness(canvas: Image) -> int:
    return 1 if max(canvas.shape[:2]) < 500 else 2


def _corners(boxes: NDArray[np.float64], canvas: Image) -> NDArray[np.int64]:
    height, width = canvas.shape[:2]
    return np.clip(np.round(boxes), 0, np.array([width, height, width, height]) - 1).astype(np.int64)


def _write(
    canvas: Image, boxes: NDArray[np.int64], texts: Sequence[str], colors: Sequence[tuple[int, int, int]], always: bool
) -> None:
    """Labels where they hide no object; one without such a place is left out, the box's colour tells its class; or it
    stands at the top of its box all the same (``always``)."""
    import cv2

    font, size = cv2.FONT_HERSHEY_SIMPLEX, 0.36 if _thickness(canvas) == 1 else 0.45
    sizes = [cv2.getTextSize(text, font, size, 1)[0] for text in texts]
    wanted = [(float(width + 3), float(height + 5)) if text else (0.0, 0.0) for text, (width, height) in
              zip(texts, sizes, strict=True)]  # fmt: skip
    places = place_labels(boxes.astype(np.float64), wanted, (canvas.shape[1], canvas.shape[0]), gap=1.0)
    for box, place, text, (width, height), color in zip(boxes.tolist(), places, texts, sizes, colors, strict=True):
        if place is None and not (always and text):
            continue
        left, top = (box[0], box[1]) if place is None else (round(place[0]), round(place[1]))
        cv2.rectangle(canvas, (left, top), (left + width + 2, top + height + 4), color, -1)
        cv2.putText(canvas, text, (left + 1, top + height + 1), font, size, (255, 255, 255), 1, cv2.LINE_AA)


def caption(image: Image, text: str) -> Image:
    """The image under a dark line with a caption."""
    import cv2

    bar = np.full((18, image.shape[1], 3), 40, np.uint8)
    cv2.putText(bar, text, (4, 13), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (255, 255, 255), 1, cv2.LINE_AA)
    return np.concatenate([bar, image])


def side_by_side(images: Sequence[Image], gap: int = 4) -> Image:
    """Images in a row on white, aligned at the top."""
    if not images:
        raise ValueError("side_by_side: no images")
    height = max(image.shape[0] for image in images)
    parts: list[Image] = []
    for index, image in enumerate(images):
        if index:
            parts.append(np.full((height, gap, 3), 255, np.uint8))
        below = np.full((height - image.shape[0], image.shape[1], 3), 255, np.uint8)
        parts.append(np.concatenate([image, below]))
    return np.concatenate(parts, axis=1)


def grid(images: Sequence[Image], columns: int, gap: int = 4) -> Image:
    """Images in rows of `columns`, each cell as large as the largest image, on white."""
    if not images or columns < 1:
        raise ValueError(f"grid: got {len(images)} images and {columns} columns; both must be at least 1")
    columns = min(columns, len(images))
    cell_height, cell_width = (max(image.shape[axis] for image in images) for axis in (0, 1))
    rows = -(-len(images) // columns)
    shape = (rows * (cell_height + gap) - gap, columns * (cell_width + gap) - gap, 3)
    canvas = np.full(shape, 255, np.uint8)
    for index, image in enumerate(images):
        top, left = (index // columns) * (cell_height + gap), (index % columns) * (cell_width + gap)
        canvas[top : top + image.shape[0], left : left + image.shape[1]] = image
    return canvas


def compare_with_truth(
    image: Image,
    truth: tuple[NDArray[np.floating], NDArray[np.integer]],
    found: tuple[NDArray[np.floating], NDArray[np.integer], NDArray[np.floating]],
    class_names: Sequence[str],
    min_score: float = 0.3,
    scale: float = 1.0,
) -> Image:
    """Ground truth (boxes, labels) left, detections (boxes, labels, scores) right; captions say how many, and the
    threshold."""
    left = draw_boxes(image, *truth, class_names, scale=scale)
    right = draw_boxes(image, found[0], found[1], class_names, found[2], min_score, scale)
    there = "ground truth" if len(truth[0]) else "ground truth: nothing"
    return side_by_side([caption(left, there), caption(right, found_text(found[2], min_score))])


def found_text(scores: NDArray[np.floating], min_score: float) -> str:
    """How many detections are drawn, and the threshold; an empty picture says it too."""
    count = int((np.asarray(scores) >= min_score).sum())
    return f"{count or 'no'} detection{'' if count == 1 else 's'} >= {min_score:.2f}"
