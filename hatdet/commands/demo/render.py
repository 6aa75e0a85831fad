"""Renders the demo's data set: photographs of nothing, in COCO layout, the same for the same seed.

A scene has a textured background with clutter, up to nine objects from small to large that may hide each other, a few
occluders in front, one light with soft shadows, and a camera (gain, tint, blur, noise, JPEG). Boxes are those of the
visible pixels; an object that is nearly hidden is not annotated.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hatdet.commands.demo.objects import KINDS, FloatImage

MIN_VISIBLE = 0.35  # share of an object's pixels that must be visible for an annotation
MIN_PIXELS = 40
_SPLIT_SEEDS = {"train": 1, "val": 2}


@dataclass(frozen=True)
class Instance:
    """One visible object: index into KINDS, box xywh in pixels, visible pixels."""

    kind: int
    box: tuple[int, int, int, int]
    area: int


def render_scene(rng: np.random.Generator, height: int, width: int) -> tuple[NDArray[np.uint8], list[Instance]]:
    """One picture (H, W, 3) uint8 BGR and its visible objects."""
    picture = _background(rng, height, width)
    light = float(rng.uniform(0, 2 * np.pi))
    owner = np.full((height, width), -1, np.int16)  # which object a pixel shows
    kinds: list[int] = []
    full_areas: list[int] = []
    for _ in range(_number_of_objects(rng)):
        kind = int(rng.integers(len(KINDS)))
        size = int(np.exp(rng.uniform(np.log(40), np.log(170))))
        placed = _paste(rng, picture, owner, kind, size, light, len(kinds))
        kinds.append(kind)
        full_areas.append(placed)
    for _ in range(int(rng.integers(0, 3))):
        _occlude(rng, picture, owner)
    return _camera(rng, picture, light), _instances(owner, kinds, full_areas)


def _number_of_objects(rng: np.random.Generator) -> int:
    return 0 if rng.random() < 0.03 else int(rng.integers(3, 10))


def _background(rng: np.random.Generator, height: int, width: int) -> FloatImage:
    """Soft colour patches, fine grain, and clutter of shapes that belong to no class."""
    import cv2

    picture = np.full((height, width, 3), rng.uniform(70, 170), np.float32)
    for cells, strength in ((3, 30.0), (9, 12.0), (30, 6.0)):
        noise = rng.normal(0, strength, (cells, cells, 3)).astype(np.float32)
        noise = 0.7 * noise.mean(axis=2, keepdims=True) + 0.3 * noise
        picture += cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)
    if rng.random() < 0.4:  # a table cloth, a floor: regular stripes
        axis = np.arange(width)[None, :] * rng.uniform(-1, 1) + np.arange(height)[:, None] * rng.uniform(-1, 1)
        picture += (7 * np.sign(np.sin(axis * rng.uniform(0.15, 0.6))))[:, :, None].astype(np.float32)
    for _ in range(int(rng.integers(2, 9))):
        _clutter(rng, picture)
    return np.clip(picture, 0, 255)


def _clutter(rng: np.random.Generator, picture: FloatImage) -> NDArray[np.bool_]:
    """A quadrilateral, a line or a half-open arc of any muted colour; gives its mask."""
    import cv2

    height, width = picture.shape[:2]
    mask = np.zeros((height, width), np.uint8)
    centre = rng.uniform(0, 1, 2) * [width, height]
    extent = np.exp(rng.uniform(np.log(8), np.log(60)))
    if rng.random() < 0.4:
        points = (centre + rng.normal(0, extent, (4, 2))).astype(np.int32)
        cv2.fillConvexPoly(mask, cv2.convexHull(points), 1)
    elif rng.random() < 0.5:
        ends = (centre + rng.normal(0, 2 * extent, (2, 2))).astype(int).tolist()
        cv2.line(mask, ends[0], ends[1], 1, int(rng.integers(1, 8)))
    else:
        axes = (int(extent), int(extent * rng.uniform(0.4, 1)))
        start = int(rng.integers(0, 360))
        place = (int(centre[0]), int(centre[1]))
        cv2.ellipse(mask, place, axes, start, 0, int(rng.integers(90, 240)), 1, int(rng.integers(1, 7)))
    inside = mask > 0
    tone = rng.uniform(40, 210) + rng.normal(0, 18, 3)
    picture[inside] = 0.25 * picture[inside] + 0.75 * tone
    return inside


def _paste(
    rng: np.random.Generator,
    picture: FloatImage,
    owner: NDArray[np.int16],
    kind: int,
    size: int,
    light: float,
    index: int,
) -> int:
    """Draw one object with its shadow, up to a fifth of it outside; gives the pixels it would have unhidden."""
    import cv2

    height, width = picture.shape[:2]
    sprite = KINDS[kind].paint(rng, size, light)
    aspect = rng.uniform(0.8, 1.25)
    shape = (max(4, round(size * min(1, aspect))), max(4, round(size * min(1, 1 / aspect))))  # width, height
    color = cv2.resize(sprite.color, shape, interpolation=cv2.INTER_AREA)
    alpha = cv2.resize(sprite.alpha, shape, interpolation=cv2.INTER_AREA)
    left = int(rng.uniform(-0.2 * shape[0], width - 0.8 * shape[0]))
    top = int(rng.uniform(-0.2 * shape[1], height - 0.8 * shape[1]))
    color *= np.float32(rng.uniform(0.75, 1.1))
    distance = 0.08 * size
    margin = 3 + size // 6
    padded = cv2.copyMakeBorder(alpha, margin, margin, margin, margin, cv2.BORDER_CONSTANT)
    shadow = cv2.GaussianBlur(padded, (0, 0), max(1.0, 0.05 * size)) * np.float32(rng.uniform(0.2, 0.5))
    shift_x, shift_y = int(np.cos(light) * distance), int(np.sin(light) * distance)
    _blend(picture, None, shadow, left - margin - shift_x, top - margin - shift_y)
    region = _blend(picture, color, alpha, left, top)
    owner[region] = index
    return int((alpha > 0.5).sum())


def _blend(picture: FloatImage, color: FloatImage | None, alpha: FloatImage, left: int, top: int) -> NDArray[np.bool_]:
    """Blend a patch in place (darken where `color` is None); gives the mask of pixels it covers for the most part."""
    height, width = picture.shape[:2]
    covered = np.zeros((height, width), bool)
    x1, y1 = max(left, 0), max(top, 0)
    x2, y2 = min(left + alpha.shape[1], width), min(top + alpha.shape[0], height)
    if x1 >= x2 or y1 >= y2:
        return covered
    source = (slice(y1 - top, y2 - top), slice(x1 - left, x2 - left))
    weight = alpha[source][:, :, None]
    target = picture[y1:y2, x1:x2]
    target *= 1 - weight
    if color is not None:
        target += weight * color[source]
    covered[y1:y2, x1:x2] = alpha[source] > 0.5
    return covered


def _occlude(rng: np.random.Generator, picture: FloatImage, owner: NDArray[np.int16]) -> None:
    """Clutter in front of the objects."""
    owner[_clutter(rng, picture)] = -1


def _camera(rng: np.random.Generator, picture: FloatImage, light: float) -> NDArray[np.uint8]:
    """Fall-off of the light, gain, tint, blur and noise."""
    import cv2

    height, width = picture.shape[:2]
    x, y = np.linspace(-1, 1, width, dtype=np.float32), np.linspace(-1, 1, height, dtype=np.float32)
    slope = np.cos(light) * x[None, :] + np.sin(light) * y[:, None]
    gain = rng.uniform(0.65, 1.15) * (1 + rng.uniform(0, 0.25) * slope)
    result = picture * gain[:, :, None] * rng.uniform(0.9, 1.1, 3)
    if rng.random() < 0.5:
        result = cv2.GaussianBlur(result, (0, 0), rng.uniform(0.3, 0.9))
    result += rng.normal(0, rng.uniform(1, 6), result.shape)
    return np.clip(result, 0, 255).astype(np.uint8)


def _instances(owner: NDArray[np.int16], kinds: list[int], full_areas: list[int]) -> list[Instance]:
    found = []
    for index, (kind, full) in enumerate(zip(kinds, full_areas, strict=True)):
        rows, columns = np.nonzero(owner == index)
        if len(rows) < max(MIN_PIXELS, MIN_VISIBLE * full):
            continue
        left, top = int(columns.min()), int(rows.min())
        box = (left, top, int(columns.max()) + 1 - left, int(rows.max()) + 1 - top)
        found.append(Instance(kind, box, len(rows)))
    return found


def render_dataset(root: str | Path, train: int = 320, val: int = 80, seed: int = 0) -> dict[str, int]:
    """Write `{split}2017/*.jpg` and `annotations/instances_{split}2017.json` under `root`.

    Returns:
        The number of annotated objects by split.
    """
    import cv2

    counts = {}
    for split, number in (("train", train), ("val", val)):
        folder = Path(root) / f"{split}2017"
        folder.mkdir(parents=True, exist_ok=True)
        content = _empty_coco()
        for index in range(number):
            rng = np.random.default_rng([seed, _SPLIT_SEEDS[split], index])
            # Landscape and portrait, a few of odd size: what a folder of photographs looks like.
            height, width = [(240, 320), (240, 320), (320, 240), (239, 317)][int(rng.integers(4))]
            picture, instances = render_scene(rng, height, width)
            name = f"{split}_{index:04d}.jpg"
            quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(80, 96))]
            done, data = cv2.imencode(".jpg", picture, quality)
            assert done
            (folder / name).write_bytes(data.tobytes())
            image_id = 1000 * _SPLIT_SEEDS[split] + 3 * index + 5
            _add_image(content, image_id, name, height, width, instances)
        annotations = Path(root) / "annotations" / f"instances_{split}2017.json"
        annotations.parent.mkdir(parents=True, exist_ok=True)
        annotations.write_text(json.dumps(content))
        counts[split] = len(content["annotations"])
    return counts


def _empty_coco() -> dict[str, Any]:
    categories = [{"id": kind.category_id, "name": kind.name, "supercategory": "thing"} for kind in KINDS]
    return {"info": {"description": "rendered demo"}, "images": [], "annotations": [], "categories": categories}


def _add_image(
    content: dict[str, Any], image_id: int, name: str, height: int, width: int, instances: list[Instance]
) -> None:
    content["images"].append({"id": image_id, "file_name": name, "height": height, "width": width})
    for instance in instances:
        content["annotations"].append(
            {
                "id": len(content["annotations"]) + 1,
                "image_id": image_id,
                "category_id": KINDS[instance.kind].category_id,
                "bbox": list(instance.box),
                "area": instance.area,
                "iscrowd": 0,
            }
        )
