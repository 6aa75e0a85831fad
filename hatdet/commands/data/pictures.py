"""Boxes in small pictures: named where there is room, else by their colours alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from hatdet.visualization.draw import Image

MOST_NAMES = 6
"""Boxes of a picture that are drawn with their names: more names would hide the objects."""


def draw_small(image: Image, boxes: np.ndarray, labels: np.ndarray, names: Sequence[str]) -> Image:
    """A copy of a BGR picture with its boxes (n, 4) xyxy."""
    import cv2

    from hatdet.visualization.colors import bgr_color
    from hatdet.visualization.draw import draw_boxes

    if len(boxes) <= MOST_NAMES:
        return draw_boxes(image, boxes, labels, names)
    drawn = image.copy()
    for box, label in zip(boxes.round().astype(int).tolist(), labels.tolist()):
        cv2.rectangle(drawn, box[:2], box[2:], bgr_color(label), 1, cv2.LINE_AA)
    return drawn


def legend(names: Sequence[str], width: int) -> Image:
    """A strip with the names in their colours, in as many lines as they need."""
    import cv2
    import numpy as np

    from hatdet.visualization.colors import bgr_color

    places, x, line = [], 6, 0
    for number, name in enumerate(names):
        text = name.encode("ascii", "replace").decode()  # OpenCV's font has no others
        length = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 0.5, 1)[0][0] + 30
        if x > 6 and x + length > width:
            x, line = 6, line + 1
        places.append((text, x, 18 * line, number))
        x += length
    strip = np.full((18 * (line + 1) + 4, width, 3), 255, np.uint8)
    for text, x, y, number in places:
        cv2.rectangle(strip, (x, y + 5), (x + 12, y + 17), bgr_color(number), -1)
        cv2.putText(strip, text, (x + 16, y + 16), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (30, 30, 30), 1, cv2.LINE_AA)
    return strip
