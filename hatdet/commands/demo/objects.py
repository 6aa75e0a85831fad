"""Four kinds of objects as small pictures with transparency, each drawn anew from random numbers.

An object is drawn four times too large on a square patch and shrunk, so that its edges are smooth. A `Sprite` is
`color` (S, S, 3) float32 BGR 0..255 and `alpha` (S, S) float32 0..1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatImage = NDArray[np.float32]
Color = tuple[float, float, float]

_OVERSAMPLING = 4


@dataclass(frozen=True)
class Sprite:
    color: FloatImage
    alpha: FloatImage


def _color(rng: np.random.Generator, hue: float, spread: float = 0.06) -> Color:
    """A BGR colour near a hue (0..1); every tenth object takes any hue, so that colour alone does not decide."""
    import cv2

    chosen = rng.random() if rng.random() < 0.1 else hue + rng.normal(0, spread)
    hsv = np.array([[[chosen % 1 * 179, rng.integers(110, 230), rng.integers(130, 245)]]]).astype(np.uint8)
    blue, green, red = cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR)[0, 0].tolist()
    return float(blue), float(green), float(red)


def _scaled(color: Color, factor: float) -> Color:
    blue, green, red = (min(255.0, c * factor) for c in color)
    return blue, green, red


class _Canvas:
    """A large patch with coordinates -1..1; `turn` rotates all that is drawn."""

    def __init__(self, size: int, turn: float) -> None:
        self.size = size * _OVERSAMPLING
        self.color = np.zeros((self.size, self.size, 3), np.float32)
        self.alpha = np.zeros((self.size, self.size), np.float32)
        self._rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])

    def polygon(self, points: NDArray[np.float64], color: Color, where: FloatImage | None = None) -> None:
        """Fill a polygon (n, 2); with `where`, only inside that mask."""
        import cv2

        pixels = ((points @ self._rotation.T + 1) / 2 * (self.size - 1)).round().astype(np.int32)
        mask = np.zeros((self.size, self.size), np.uint8)
        cv2.fillPoly(mask, [pixels], 1)
        inside = mask > 0 if where is None else (mask > 0) & (where > 0)
        self.color[inside] = color
        self.alpha[inside] = 1.0

    def ellipse(
        self, centre: tuple[float, float], radii: tuple[float, float], color: Color, where: FloatImage | None = None
    ) -> None:
        angle = np.linspace(0, 2 * np.pi, 64, endpoint=False)
        ring = np.stack([np.cos(angle) * radii[0] + centre[0], np.sin(angle) * radii[1] + centre[1]], axis=1)
        self.polygon(ring, color, where)

    def erase(self, centre: tuple[float, float], radii: tuple[float, float]) -> None:
        color, alpha = self.color.copy(), self.alpha.copy()
        self.ellipse(centre, radii, (0, 0, 0))
        hole = (self.color != color).any(axis=2) | (self.alpha != alpha)
        self.color, self.alpha = color, alpha
        self.alpha[hole] = 0.0

    def shade(self, direction: float, strength: float) -> None:
        """Lighter on the side the light comes from."""
        axis = np.linspace(-1, 1, self.size, dtype=np.float32)
        slope = np.cos(direction) * axis[None, :] + np.sin(direction) * axis[:, None]
        self.color *= 1 + np.float32(strength) * slope[:, :, None]

    def sprite(self, size: int) -> Sprite:
        import cv2

        premultiplied = self.color * self.alpha[:, :, None]
        color = cv2.resize(premultiplied, (size, size), interpolation=cv2.INTER_AREA)
        alpha = cv2.resize(self.alpha, (size, size), interpolation=cv2.INTER_AREA)
        return Sprite(np.clip(color / np.maximum(alpha, 1e-3)[:, :, None], 0, 255), alpha)


def ball(rng: np.random.Generator, size: int, light: float) -> Sprite:
    """A ball with one band and a highlight."""
    canvas = _Canvas(size, rng.uniform(0, 2 * np.pi))
    color = _color(rng, 0.98, 0.04)
    canvas.ellipse((0, 0), (0.96, 0.96), color)
    inside = canvas.alpha.copy()
    half = rng.uniform(0.12, 0.25)
    band = np.array([[-1, -half], [1, -half], [1, half], [-1, half]])
    canvas.polygon(band, (235.0, 235.0, 235.0), inside)
    axis = np.linspace(-1, 1, canvas.size, dtype=np.float32)
    offset = 0.35 * np.array([np.cos(light), np.sin(light)])
    distance = np.hypot(axis[None, :] - offset[0], axis[:, None] - offset[1])
    canvas.color *= np.clip(1.25 - 0.55 * distance, 0.35, 1.3).astype(np.float32)[:, :, None]
    return canvas.sprite(size)


def mug(rng: np.random.Generator, size: int, light: float) -> Sprite:
    """A mug with a handle on one side, a dark opening and a stripe."""
    canvas = _Canvas(size, rng.normal(0, 0.2))
    color = _color(rng, 0.58)
    side = 1.0 if rng.random() < 0.5 else -1.0
    canvas.ellipse((0.55 * side, 0.08), (0.4, 0.42), _scaled(color, 0.85))
    canvas.erase((0.55 * side, 0.08), (0.23, 0.25))
    left, right = -0.72 * (side > 0) - 0.55 * (side < 0), 0.55 * (side > 0) + 0.72 * (side < 0)
    middle, half = (left + right) / 2, (right - left) / 2
    bottom = rng.uniform(0.78, 0.94)
    canvas.ellipse((middle, 0.78), (half * 0.9, 0.17), color)
    body = np.array([[left, -0.65], [right, -0.65], [middle + half * 0.9, 0.8], [middle - half * 0.9, 0.8]])
    canvas.polygon(body, color)
    stripe = rng.uniform(-0.2, 0.3)
    bar = [[left + 0.03, stripe], [right - 0.03, stripe], [right - 0.05, stripe + 0.22], [left + 0.05, stripe + 0.22]]
    canvas.polygon(np.array(bar), _scaled(_color(rng, 0.58, 0.3), bottom))
    canvas.shade(light, 0.3)
    canvas.ellipse((middle, -0.65), (half, 0.2), _scaled(color, 1.15))
    canvas.ellipse((middle, -0.65), (half * 0.85, 0.14), _scaled(color, 0.3))
    return canvas.sprite(size)


def star(rng: np.random.Generator, size: int, light: float) -> Sprite:
    """A five-pointed star, folded: one half of each point is darker."""
    canvas = _Canvas(size, rng.uniform(0, 2 * np.pi))
    color = _color(rng, 0.16, 0.03)
    inner = rng.uniform(0.45, 0.58)
    angles = np.arange(10) * np.pi / 5
    radii = np.where(np.arange(10) % 2 == 0, 0.97, inner)
    tips = np.stack([np.cos(angles) * radii, np.sin(angles) * radii], axis=1)
    canvas.polygon(tips, color)
    for index in range(0, 10, 2):
        fold = np.array([[0, 0], tips[index], tips[(index + 1) % 10]])
        canvas.polygon(fold, _scaled(color, 0.7))
    canvas.shade(light, 0.2)
    return canvas.sprite(size)


def crate(rng: np.random.Generator, size: int, light: float) -> Sprite:
    """A box seen from above a corner: three faces of different brightness, with planks on the front ones."""
    canvas = _Canvas(size, rng.normal(0, 0.12))
    color = _color(rng, 0.33)
    corner, height = rng.uniform(-0.3, 0.3), rng.uniform(0.25, 0.45)
    top = np.array([[corner, -0.2 + height * 0.2], [0.95, -0.5], [-corner, -0.95], [-0.95, -0.5]])
    front_left = np.array([top[3], top[0], [corner, 0.95], [-0.95, 0.55]])
    front_right = np.array([top[0], top[1], [0.95, 0.55], [corner, 0.95]])
    bright = 1.1 if np.cos(light) > 0 else 0.7
    canvas.polygon(top, _scaled(color, 1.25))
    for face, factor in ((front_left, 1.8 - bright), (front_right, bright)):
        canvas.polygon(face, _scaled(color, factor))
        for low in (0.28, 0.62):
            a, b = face[0] + (face[3] - face[0]) * low, face[1] + (face[2] - face[1]) * low
            down = np.array([0, 0.08])
            canvas.polygon(np.array([a, b, b + down, a + down]), _scaled(color, factor * 0.55))
    return canvas.sprite(size)


@dataclass(frozen=True)
class Kind:
    """A class of the data set: its COCO category id, its name and its painter."""

    category_id: int
    name: str
    paint: Callable[[np.random.Generator, int, float], Sprite]


# Ids as a user's own data has them: not from 1, with gaps, not in order.
KINDS = (Kind(17, "mug", mug), Kind(3, "ball", ball), Kind(8, "star", star), Kind(42, "crate", crate))
