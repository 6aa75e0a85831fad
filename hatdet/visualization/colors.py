"""Colours that stay apart: one per class or curve."""

from __future__ import annotations

import colorsys

# A hand-picked start: distinct in hue and brightness, readable on white; the same hues readable on a dark page.
LIGHT = ("#2463b8", "#d9541e", "#2f8f4e", "#8e44ad", "#b8860b", "#0e8c94", "#c2286b", "#5d6d7e")
DARK = ("#6aa5f0", "#ff9060", "#6cc98b", "#c58be0", "#dcb23c", "#45c4cc", "#f272a8", "#9fb0c2")


def hex_color(index: int) -> str:
    """The colour of class or series `index` as "#rrggbb"; beyond eight, hues by the golden ratio."""
    if index < len(LIGHT):
        return LIGHT[index]
    hue = (0.11 + (index - len(LIGHT)) * 0.618034) % 1.0
    red, green, blue = colorsys.hls_to_rgb(hue, 0.42 if index % 2 else 0.55, 0.65)
    return f"#{round(red * 255):02x}{round(green * 255):02x}{round(blue * 255):02x}"


def bgr_color(index: int) -> tuple[int, int, int]:
    """The same colour as a BGR triple of 0..255, as OpenCV draws."""
    text = hex_color(index)
    return int(text[5:7], 16), int(text[3:5], 16), int(text[1:3], 16)
