"""A few shapes of SVG, as strings."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

INK, SOFT, TEAL, ORANGE, PALE = "#263238", "#78909c", "#00796b", "#e65100", "#e0f2f1"


def drawing(width: int, height: int, shapes: Sequence[str], title: str) -> str:
    """A picture on white, so that it can be read on dark pages too."""
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
        f'font-family="system-ui, sans-serif" font-size="14"><title>{escape(title)}</title>'
    )
    return "\n".join([head, f'<rect width="{width}" height="{height}" rx="6" fill="#fff"/>', *shapes, "</svg>", ""])


def text(
    x: float, y: float, words: str, *, size: int = 14, fill: str = INK, anchor: str = "middle", bold: bool = False
) -> str:
    look = f'font-size="{size}" fill="{fill}" text-anchor="{anchor}"' + (' font-weight="bold"' if bold else "")
    return f'<text x="{x:g}" y="{y:g}" {look}>{escape(words)}</text>'


def box(x: float, y: float, width: float, height: float, *, fill: str = PALE, stroke: str = TEAL) -> str:
    return (
        f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="5" fill="{fill}" stroke="{stroke}" '
        'stroke-width="1.5"/>'
    )


def bar(x: float, y: float, width: float, height: float, fill: str) -> str:
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" fill="{fill}"/>'


def line(points: Sequence[tuple[float, float]], *, stroke: str = INK, width: float = 1.5, dash: str = "") -> str:
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    dashed = f' stroke-dasharray="{dash}"' if dash else ""
    return f'<polyline points="{path}" fill="none" stroke="{stroke}" stroke-width="{width:g}"{dashed}/>'


def arrow(x1: float, y1: float, x2: float, y2: float, stroke: str = INK) -> str:
    """Along one of the axes."""
    dx, dy = (x2 > x1) - (x2 < x1), (y2 > y1) - (y2 < y1)
    head = [(x2 - 7 * dx - 4 * dy, y2 - 7 * dy - 4 * dx), (x2, y2), (x2 - 7 * dx + 4 * dy, y2 - 7 * dy + 4 * dx)]
    return line([(x1, y1), (x2, y2)], stroke=stroke) + line(head, stroke=stroke)
