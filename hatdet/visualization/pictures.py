"""Pictures of a run: what the network was fed, and what the data set looks like."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hatdet.visualization.colors import bgr_color
from hatdet.visualization.draw import Image, draw_boxes, grid

SMALLEST_TILE = 320
"""Longer side in pixels below which an image in a picture of many is enlarged."""


def batch_picture(batch: Mapping[str, Any], class_names: Sequence[str], max_images: int = 16) -> Image:
    """The images of a training batch with their boxes, as the network sees them.

    Args:
        batch: `img` (B, 3, H, W) uint8 BGR or (B, 1, H, W) gray, `gt_boxes` (B, M, 4) xyxy, `gt_labels` (B, M) with -1
        for padding.
    """
    images = _numpy(batch["img"])
    if images.ndim != 4 or images.shape[1] not in (1, 3):
        raise ValueError(f"batch['img']: got shape {images.shape}; expected (B, 3, H, W) or (B, 1, H, W)")
    boxes, labels = _numpy(batch["gt_boxes"]), _numpy(batch["gt_labels"])
    drawn = []
    for index in range(min(len(images), max_images)):
        real = labels[index] >= 0
        image = np.ascontiguousarray(images[index].transpose(1, 2, 0)).astype(np.uint8)
        scale = max(1.0, SMALLEST_TILE / max(image.shape[:2]))
        drawn.append(draw_boxes(image, boxes[index][real], labels[index][real], class_names, scale=scale))
    return grid(drawn, columns=int(np.ceil(np.sqrt(len(drawn)))))


def labels_picture(
    boxes: NDArray[np.floating],
    labels: NDArray[np.integer],
    image_sizes: NDArray[np.integer],
    class_names: Sequence[str],
) -> Image:
    """Objects per class, where their centres lie, and how large they are.

    Args:
        boxes: (n, 4) xyxy in pixels; labels: (n,); image_sizes: (n, 2) height and width of each box's image.
    """
    sizes = np.asarray(image_sizes, np.float64)[:, ::-1].reshape(-1, 2)  # width, height
    low, high = np.asarray(boxes, np.float64).reshape(-1, 4)[:, :2], np.asarray(boxes).reshape(-1, 4)[:, 2:]
    centres, extents = (low + high) / 2 / sizes, (high - low) / sizes
    counts = np.bincount(np.asarray(labels, np.int64), minlength=len(class_names))
    panels = [
        _bars(counts, class_names),
        _density(centres, "centres (x, y) in the image"),
        _density(extents, "width, height / image", flip=True),
    ]
    return grid(panels, columns=3, gap=8)


def write_image(path: str | Path, image: Image) -> Path:
    """Write a BGR image; the suffix chooses the format.

    Raises:
        OSError: it cannot be written.
    """
    import cv2

    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    done, data = cv2.imencode(target.suffix, image)
    if not done:
        raise OSError(f"cannot encode an image as {target.suffix!r}")
    target.write_bytes(data.tobytes())  # cv2.imwrite reports a full disk only by returning False
    return target


def save_train_batch(path: str | Path, batch: Mapping[str, Any], class_names: Sequence[str]) -> Path:
    """Write `batch_picture` to a file, e.g. `train_batch0.jpg`."""
    return write_image(path, batch_picture(batch, class_names))


_SIDE = 300


def _panel(title: str) -> Image:
    import cv2

    panel = np.full((_SIDE + 24, _SIDE, 3), 255, np.uint8)
    cv2.putText(panel, title, (6, 16), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (30, 30, 30), 1, cv2.LINE_AA)
    return panel


def _bars(counts: NDArray[np.integer], class_names: Sequence[str]) -> Image:
    import cv2

    panel = _panel(f"objects per class ({int(counts.sum())})")
    height = max(1, min(28, _SIDE // max(1, len(counts))))
    for index, count in enumerate(counts):
        top = 28 + index * height
        length = round((_SIDE - 20) * int(count) / max(1, int(counts.max())))
        cv2.rectangle(panel, (6, top), (6 + length, top + max(1, height - 4)), bgr_color(index), -1)
        if height >= 14:
            name = class_names[index] if index < len(class_names) else str(index)
            place = (10, top + height // 2 + 3)
            cv2.putText(panel, f"{name} {int(count)}", place, cv2.FONT_HERSHEY_SIMPLEX, 0.4, (0, 0, 0), 1, cv2.LINE_AA)
    return panel


def _density(points: NDArray[np.float64], title: str, flip: bool = False) -> Image:
    """A 50 x 50 histogram of points in the unit square; y downwards, or upwards with `flip`."""
    import cv2

    panel = _panel(title)
    table, _, _ = np.histogram2d(points[:, 1], points[:, 0], bins=50, range=[[0, 1], [0, 1]])
    table = table[::-1] if flip else table
    shade = (255 - 215 * np.sqrt(table / max(1.0, table.max()))).astype(np.uint8)
    picture = cv2.resize(shade, (_SIDE, _SIDE), interpolation=cv2.INTER_NEAREST)
    panel[24:] = picture[:, :, None]
    panel[24:, :, 0] = 255  # blue
    cv2.rectangle(panel, (0, 24), (_SIDE - 1, _SIDE + 23), (180, 180, 180), 1)
    return panel


def _numpy(values: Any) -> NDArray[Any]:
    return values.detach().cpu().numpy() if hasattr(values, "detach") else np.asarray(values)
