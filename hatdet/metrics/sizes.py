"""Ground truth of a json whose pixels are not those of the pictures."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

logger = logging.getLogger("hatdet")
Sizes = Mapping[int, tuple[int, int]]
"""(width, height) by image id."""


def picture_sizes(dataset: Any) -> Sizes:
    """The sizes of a data set's pictures; none where it does not tell."""
    annotations = getattr(dataset, "coco_annotations", None)
    images = annotations()["images"] if callable(annotations) else []
    return {int(i["id"]): (int(i["width"]), int(i["height"])) for i in images if i.get("width") and i.get("height")}


def in_pictures(truth: dict[str, Any], sizes: Sizes, source: Path) -> dict[str, Any]:
    """``truth`` in pixels of the pictures: boxes of images that the json lists in another size are scaled.

    Detections count in the data set's pixels (packing scales boxes, or shrinks pictures); ground truth that is
    read from the json apart from it has to follow.
    """
    scales: dict[int, tuple[float, float]] = {}
    images = []
    for image in truth["images"]:
        width, height = sizes.get(image["id"], (0, 0))
        if width and image["width"] and image["height"] and (width, height) != (image["width"], image["height"]):
            scales[image["id"]] = (width / image["width"], height / image["height"])
            image = {**image, "width": width, "height": height}
        images.append(image)
    if not scales:
        return truth
    logger.warning(
        "%s lists %d images in another size than the data set has them: their boxes are scaled for scoring",
        source,
        len(scales),
    )
    annotations = []
    for annotation in truth["annotations"]:
        sx, sy = scales.get(annotation["image_id"], (1.0, 1.0))
        x, y, w, h = annotation["bbox"]
        box = [x * sx, y * sy, w * sx, h * sy]
        annotations.append({**annotation, "bbox": box, "area": annotation["area"] * sx * sy})
    return {**truth, "images": images, "annotations": annotations}
