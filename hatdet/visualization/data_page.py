"""One page on a data set: no script, no network; light or dark as the reader's system is, from 390 pixels up."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from html import escape

import numpy as np
from numpy.typing import NDArray

from hatdet.visualization.draw import Image

_STYLE = """
:root { color-scheme: light dark; --ink: #1d2330; --soft: #5b6473; --line: #dde1e7; --page: #fff; --card: #f6f7f9;
--bar: #2463b8; --bad: #b3261e; --good: #17702f; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ee; --soft: #a3adbb; --line: #333b47; --page: #14181e;
--card: #1c222b; --bar: #6aa5f0; --bad: #ff8a80; --good: #7bd494; } }
* { box-sizing: border-box; } body { font: 15px/1.5 system-ui, sans-serif; margin: 0 auto; padding: 1rem;
max-width: 1600px; color: var(--ink); background: var(--page); overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; margin: .5rem 0; } h2 { font-size: 1.1rem; margin: 0 0 .6rem; } p { margin: .4rem 0; }
main { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, 360px), 1fr)); }
section { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 1rem; min-width: 0; }
section.wide { grid-column: 1 / -1; } .soft { color: var(--soft); } .bad { color: var(--bad); }
.good { color: var(--good); }
.scroll { overflow-x: auto; } table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: 3px 8px; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; }
th:first-child, td:first-child { text-align: left; padding-left: 0; white-space: normal; min-width: 5.5em; }
td.bar { width: 30%; min-width: 60px; text-align: left; } td.bar div { height: 12px; background: var(--bar);
border-radius: 2px; }
svg { display: block; width: 100%; max-width: 360px; height: auto; border: 1px solid var(--line); }
svg rect { fill: var(--bar); } .pictures { display: grid; gap: .8rem;
grid-template-columns: repeat(auto-fill, minmax(min(100%, 270px), 1fr)); } figure { margin: 0; }
figure img { width: 100%; height: 220px; object-fit: contain; background: var(--page); border: 1px solid var(--line);
border-radius: 4px; display: block; } figcaption { font-size: 13px; } ul { margin: .2rem 0; padding-left: 1.1rem; }
@media print { section { break-inside: avoid; } }
"""


class DataPage:
    """Collects sections in order. All text is escaped."""

    def __init__(self, title: str, intro: str) -> None:
        self.title, self.intro = title, intro
        self._sections: list[str] = []

    def section(self, title: str, *blocks: str, wide: bool = False) -> None:
        """A card of blocks, each of which is a function of this module; ``wide``: as wide as the page."""
        css = ' class="wide"' if wide else ""
        self._sections.append(f"<section{css}><h2>{escape(title)}</h2>{''.join(blocks)}</section>")

    def render(self) -> str:
        """The whole page."""
        title = escape(self.title)
        return (
            '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f"<title>{title}</title><style>{_STYLE}</style></head>\n<body><h1>{title}</h1>"
            f'<p class="soft">{escape(self.intro)}</p>\n<main>\n' + "\n".join(self._sections)
            + "\n</main></body></html>\n"
        )


def paragraph(text: str, css: str = "") -> str:
    """Text; ``css``: soft, good or bad."""
    return f'<p class="{css}">{escape(text)}</p>' if css else f"<p>{escape(text)}</p>"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table, which scrolls by itself where it is wider than its card."""
    titles = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{titles}</tr></thead><tbody>{body}</tbody></table></div>'


def bars(values: Sequence[tuple[str, int]], what: str) -> str:
    """Counts with a bar and their share of all."""
    whole, largest = sum(count for _, count in values), max([count for _, count in values], default=0)
    rows = "".join(
        f"<tr><td>{escape(name)}</td>"
        f'<td class="bar"><div style="width:{100 * count / max(1, largest):.1f}%"></div></td>'
        f"<td>{count}</td><td>{count / max(1, whole):.1%}</td></tr>"
        for name, count in values
    )
    titles = f"<th>{escape(what)}</th><th></th><th>count</th><th>share</th>"
    return f'<div class="scroll"><table><thead><tr>{titles}</tr></thead><tbody>{rows}</tbody></table></div>'


def heat(counts: NDArray[np.integer], title: str) -> str:
    """Counts in fields of the picture; the fuller the darker."""
    rows, columns = counts.shape
    top = max(1, int(counts.max(initial=0)))
    fields = "".join(
        f'<rect x="{x}" y="{y}" width="1.02" height="1.02" opacity="{(counts[y, x] / top) ** 0.5:.3f}">'
        f"<title>{int(counts[y, x])}</title></rect>"
        for y in range(rows)
        for x in range(columns)
        if counts[y, x]
    )
    return f'<svg role="img" viewBox="0 0 {columns} {rows}"><title>{escape(title)}</title>{fields}</svg>'


def listing(lines: Iterable[str], css: str = "") -> str:
    """A list of lines."""
    items = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return f'<ul class="{css}">{items}</ul>' if css else f"<ul>{items}</ul>"


def gallery(pictures: Iterable[tuple[Image | None, str, Sequence[str]]]) -> str:
    """Pictures (None: there is nothing to show) with a name and reasons, stored in the page as JPEG."""
    figures = []
    for image, name, reasons in pictures:
        shown = "<p>cannot be shown</p>" if image is None else f'<img alt="{escape(name)}" src="{_data_url(image)}">'
        figures.append(f"<figure>{shown}<figcaption><b>{escape(name)}</b>{listing(reasons)}</figcaption></figure>")
    return f'<div class="pictures">{"".join(figures)}</div>'


def _data_url(image: Image) -> str:
    import cv2

    _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 82])
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode("ascii")
