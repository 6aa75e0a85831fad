"""Colours that stay apart: one per class or curve."""

from __future__ import annotations

import colorsys

# A hand-picked start: distinct in hue and brightness, readable on white.
_FIRST = ("#2463b8", "#d9541e", "#2f8f4e", "#8e44ad", "#b8860b", "#0e8c94", "#c2286b", "#5d6d7e")


def hex_color(index: int) -> str:
    """The colour of class or series `index` as "#rrggbb"; beyond eight, hues by the golden ratio."""
    if index < len(_FIRST):
        return _FIRST[index]
    hue = (0.11 + (index - len(_FIRST)) * 0.618034) % 1.0
    red, green, blue = colorsys.hls_to_rgb(hue, 0.42 if index % 2 else 0.55, 0.65)
    return f"#{round(red * 255):02x}{round(green * 255):02x}{round(blue * 255):02x}"


def bgr_color(index: int) -> tuple[int, int, int]:
    """The same colour as a BGR triple of 0..255, as OpenCV draws."""
    text = hex_color(index)
    return int(text[5:7], 16), int(text[3:5], 16), int(text[1:3], 16)
