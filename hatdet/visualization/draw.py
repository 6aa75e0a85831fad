"""Boxes with class and score drawn into images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hatdet.visualization.colors import bgr_color

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
) -> Image:
    """A copy of the image, enlarged by `scale`, with boxes, class names and scores.

    Args:
        image: (H, W, 3) uint8 BGR, or (H, W, 1) gray.
        boxes: (n, 4) xyxy in pixels of `image`; parts outside are cut off.
        labels: (n,) indices into `class_names` (an index beyond it is shown as a number).
        scores: (n,); boxes below `min_score` are left out. The surest is drawn last, on top.
        ids: (n,) numbers of objects that are followed, shown behind the names.
    """
    import cv2

    if image.ndim == 3 and image.shape[2] == 1:
        image = np.repeat(image, 3, axis=2)
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ValueError(f"image: got {image.dtype} {image.shape}; expected uint8 (height, width, 3)")
    height, width = round(image.shape[0] * scale), round(image.shape[1] * scale)
    canvas = np.ascontiguousarray(image if scale == 1 else cv2.resize(image, (width, height)))
    canvas = canvas.copy() if canvas is image else canvas
    order = range(len(boxes)) if scores is None else np.argsort(scores, kind="stable")
    for i in order:
        if scores is not None and scores[i] < min_score:
            continue
        label = int(labels[i])
        name = class_names[label] if 0 <= label < len(class_names) else str(label)
        name = name if ids is None else f"{name} #{ids[i]}"
        text = name if scores is None else f"{name} {float(scores[i]):.2f}"
        _draw_box(canvas, np.asarray(boxes[i], np.float64) * scale, text, bgr_color(max(label, 0)))
    return canvas


def _draw_box(canvas: Image, box: NDArray[np.float64], text: str, color: tuple[int, int, int]) -> None:
    import cv2

    height, width = canvas.shape[:2]
    if not np.isfinite(box).all():
        return
    limit = np.array([width, height, width, height]) - 1
    x1, y1, x2, y2 = (int(v) for v in np.clip(np.round(box), 0, limit))
    thickness = 1 if max(height, width) < 500 else 2
    cv2.rectangle(canvas, (x1, y1), (x2, y2), color, thickness)
    if not text:
        return
    font, size = cv2.FONT_HERSHEY_SIMPLEX, 0.36 if thickness == 1 else 0.45
    (text_width, text_height), _ = cv2.getTextSize(text, font, size, 1)
    top = y1 - text_height - 4 if y1 > text_height + 4 else y1  # above the box, inside where there is no room
    left = max(0, min(x1, width - text_width - 2))
    cv2.rectangle(canvas, (left, top), (left + text_width + 2, top + text_height + 4), color, -1)
    cv2.putText(canvas, text, (left + 1, top + text_height + 1), font, size, (255, 255, 255), 1, cv2.LINE_AA)


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
    """Ground truth (boxes, labels) left, detections (boxes, labels, scores) right."""
    left = draw_boxes(image, *truth, class_names, scale=scale)
    right = draw_boxes(image, found[0], found[1], class_names, found[2], min_score, scale)
    return side_by_side([caption(left, "ground truth"), caption(right, f"detections >= {min_score:.2f}")])
