"""Charts as SVG text, written by hand: no plotting library, sharp at any size, readable by screen readers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from html import escape

import numpy as np
from numpy.typing import NDArray

from hatdet.visualization.colors import LIGHT, hex_color

Points = Sequence[tuple[float, float]]
Place = Callable[[float, float], tuple[float, float]]

_LEFT, _RIGHT, _TOP, _BOTTOM, _BARE_TOP = 58, 14, 30, 42, 10


def nice_ticks(low: float, high: float, count: int = 5) -> list[float]:
    """About `count` round values (1, 2 or 5 times a power of ten) that span low..high."""
    if not (math.isfinite(low) and math.isfinite(high)) or high < low:
        raise ValueError(f"nice_ticks: got the range {low}..{high}")
    if high == low:
        low, high = low - (abs(low) or 1.0) * 0.5, high + (abs(high) or 1.0) * 0.5
    rough = (high - low) / max(1, count)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(float(index * step), 12) for index in range(first, last + 1)]


def line_chart(
    series: Mapping[str, Points],
    title: str,
    x_label: str = "",
    y_label: str = "",
    x_range: tuple[float, float] | None = None,
    y_range: tuple[float, float] | None = None,
    width: int = 520,
    height: int = 300,
    bare: bool = False,
    mark: float | None = None,
) -> str:
    """Lines over common axes, with a legend on the right.

    Args:
        series: name -> points (x, y); points that are not finite break the line. A single point becomes a dot.
        x_range: fixed axis; default: what the points need.
        y_range: the same for y.
        width: of the plot with its axes, in pixels; the legend comes on top.
        height: of the whole.
        bare: for a page, which writes title and legend around it (:func:`hatdet.visualization.page.blocks.chart`).
        mark: an x at which a vertical line is drawn.
    """
    points = [p for line in series.values() for p in line if math.isfinite(p[0]) and math.isfinite(p[1])]
    if not points:
        return _empty(title, width, height)
    xs = nice_ticks(*(x_range or (min(p[0] for p in points), max(p[0] for p in points))), 6)
    if all(float(p[0]).is_integer() for p in points):
        whole = [x for x in xs if x.is_integer()]  # there is no epoch 1.5; whole ends are ticks at every step
        xs = whole if len(whole) > 1 else [whole[0] - 1, whole[0], whole[0] + 1] if whole else xs
    ys = nice_ticks(*(y_range or (min(p[1] for p in points), max(p[1] for p in points))), 5)
    top = _BARE_TOP if bare else _TOP
    plot_width, plot_height = width - _LEFT - _RIGHT, height - top - _BOTTOM

    def place(x: float, y: float) -> tuple[float, float]:
        return (
            _LEFT + (x - xs[0]) / (xs[-1] - xs[0]) * plot_width,
            top + plot_height - (y - ys[0]) / (ys[-1] - ys[0]) * plot_height,
        )

    parts = _axes(xs, ys, place, width, height, x_label, y_label)
    if mark is not None and xs[0] <= mark <= xs[-1]:
        x, foot, head = place(mark, ys[0])[0], place(mark, ys[0])[1], place(mark, ys[-1])[1]
        line = f'x1="{x:.1f}" y1="{foot:.1f}" x2="{x:.1f}" y2="{head:.1f}"'
        parts.append(f'<line class="mark" {line} stroke="#888" stroke-dasharray="4 3"/>')
    for index, (name, points_of) in enumerate(series.items()):
        parts += _polyline(points_of, place, index, name)
    if bare:
        return _svg(title, width, height, parts, heading=False)
    if list(series) == [title]:
        return _svg(title, width, height, parts)
    return _svg(title, width + _legend_width(list(series)), height, parts + _legend(list(series), width))


def bar_chart(values: Mapping[str, float], title: str, digits: int = 3, width: int = 520) -> str:
    """Horizontal bars from 0, with their value; a negative or undefined value gets a dash."""
    height = _TOP + 26 * len(values) + 12
    label_width = min(200, 8 + 7 * max((len(name) for name in values), default=0))
    finite = [v for v in values.values() if math.isfinite(v)]
    top = max([*finite, 0.0]) or 1.0
    parts = []
    for index, (name, value) in enumerate(values.items()):
        y = _TOP + 26 * index
        known = math.isfinite(value) and value >= 0
        length = (width - label_width - 70) * (value / top) if known else 0.0
        text = f"{value:.{digits}f}" if known else "–"
        parts.append(f'<text x="{label_width - 6}" y="{y + 14}" text-anchor="end">{escape(name)}</text>')
        parts.append(
            f'<rect x="{label_width}" y="{y + 2}" width="{length:.1f}" height="16" fill="{hex_color(index)}"/>'
        )
        parts.append(f'<text x="{label_width + length + 6:.1f}" y="{y + 14}">{text}</text>')
    return _svg(title, width, height, parts)


def matrix_chart(matrix: NDArray[np.integer], names: Sequence[str], title: str, cell: int = 46) -> str:
    """A confusion matrix: rows are the truth, columns what was detected; shaded by the share of its row."""
    if matrix.shape != (len(names), len(names)):
        raise ValueError(f"matrix_chart: got a matrix of {matrix.shape} for {len(names)} names")
    left = 20 + 7 * max((len(name) for name in names), default=0)
    parts = []
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    for row, name in enumerate(names):
        y = _TOP + 20 + row * cell
        parts.append(f'<text x="{left - 6}" y="{y + cell / 2 + 4}" text-anchor="end">{escape(name)}</text>')
        middle = left + (row + 0.5) * cell
        parts.append(f'<text x="{middle}" y="{_TOP + 14}" text-anchor="middle">{escape(_short(name, 7))}</text>')
        for column in range(len(names)):
            share, x = float(shares[row, column]), left + column * cell
            ink = "#fff" if share > 0.5 else "#222"
            parts.append(
                f'<rect x="{x}" y="{y}" width="{cell}" height="{cell}" stroke="#fff" fill="{_shade(share)}"/>'
                f'<text x="{x + cell / 2}" y="{y + cell / 2 + 4}" text-anchor="middle" fill="{ink}">'
                f"{int(matrix[row, column])}</text>"
            )
    width, height = left + cell * len(names) + 10, _TOP + 30 + cell * len(names)
    return _svg(title, max(width, 8 * len(title)), height, parts)


def _shade(share: float) -> str:
    """White to blue."""
    return "#" + "".join(f"{round(255 + (end - 255) * share):02x}" for end in (0x24, 0x63, 0xB8))


def _short(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"


def _number(value: float) -> str:
    return f"{value:.6g}"


def _axes(
    xs: Sequence[float],
    ys: Sequence[float],
    place: Place,
    width: int,
    height: int,
    x_label: str,
    y_label: str,
) -> list[str]:
    parts = []
    for y in ys:
        _, py = place(xs[0], y)
        ends = f'x1="{_LEFT}" y1="{py:.1f}" x2="{width - _RIGHT}" y2="{py:.1f}"'
        parts.append(f'<line class="grid" {ends} stroke="#e4e4e4"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{py + 4:.1f}" text-anchor="end">{_number(y)}</text>')
    for x in xs:
        px, py = place(x, ys[0])
        high = place(x, ys[-1])[1]
        ends = f'x1="{px:.1f}" y1="{high:.1f}" x2="{px:.1f}" y2="{py:.1f}"'
        parts.append(f'<line class="grid" {ends} stroke="#f0f0f0"/>')
        parts.append(f'<text x="{px:.1f}" y="{py + 15:.1f}" text-anchor="middle">{_number(x)}</text>')
    middle_x, middle_y = (_LEFT + width - _RIGHT) / 2, (place(xs[0], ys[-1])[1] + height - _BOTTOM) / 2
    parts.append(f'<text x="{middle_x}" y="{height - 8}" text-anchor="middle">{escape(x_label)}</text>')
    parts.append(
        f'<text x="13" y="{middle_y}" text-anchor="middle" transform="rotate(-90 13 {middle_y})">'
        f"{escape(y_label)}</text>"
    )
    return parts


def _polyline(points: Points, place: Place, index: int, name: str) -> list[str]:
    runs: list[list[tuple[float, float]]] = [[]]
    for x, y in points:
        if math.isfinite(x) and math.isfinite(y):
            runs[-1].append(place(x, y))
        elif runs[-1]:
            runs.append([])
    color, title, parts = hex_color(index), f"<title>{escape(name)}</title>", []
    own = f"s{index}" if index < len(LIGHT) else f'" style="--c:{color}'
    for run in runs:
        if len(run) == 1:
            place_ = f'cx="{run[0][0]:.1f}" cy="{run[0][1]:.1f}"'
            parts.append(f'<circle class="dot {own}" {place_} r="3" fill="{color}">{title}</circle>')
        elif run:
            path = " ".join(f"{x:.1f},{y:.1f}" for x, y in run)
            line = f'points="{path}" fill="none" stroke="{color}" stroke-width="1.8"'
            parts.append(f'<polyline class="line {own}" {line}>{title}</polyline>')
    return parts


def _legend_width(names: Sequence[str]) -> float:
    return 36 + 6.6 * min(24, max(len(name) for name in names))


def _legend(names: Sequence[str], left: int) -> list[str]:
    """A column beside the plot, where it covers no line."""
    parts = []
    for index, name in enumerate(names):
        y = _TOP + 14 + 16 * index
        parts.append(
            f'<line x1="{left + 5:.1f}" y1="{y}" x2="{left + 20:.1f}" y2="{y}" stroke="{hex_color(index)}" '
            f'stroke-width="3"/><text x="{left + 25:.1f}" y="{y + 4}">{escape(_short(name, 24))}</text>'
        )
    return parts


def _empty(title: str, width: int, height: int) -> str:
    return _svg(title, width, height, [f'<text x="{width / 2}" y="{height / 2}" text-anchor="middle">no data</text>'])


def _svg(title: str, width: float, height: float, parts: Sequence[str], heading: bool = True) -> str:
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="chart" role="img" viewBox="0 0 {width:.0f} {height:.0f}" '
        f'width="{width:.0f}" height="{height:.0f}" font-family="sans-serif" font-size="11" fill="#333">'
    )
    name = escape(title)
    line = f'<text x="{width / 2:.0f}" y="18" text-anchor="middle" font-size="13">{name}</text>' if heading else ""
    return head + f"<title>{name}</title>" + line + "".join(parts) + "</svg>"
