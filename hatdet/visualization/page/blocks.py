"""What stands in the cards of a page. Each function gives HTML; all text is escaped."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape

import numpy as np
from numpy.typing import NDArray

from hatdet.visualization.colors import LIGHT, hex_color
from hatdet.visualization.draw import Image


def paragraph(text: str, css: str = "") -> str:
    """Text; ``css``: soft, good, bad or warn."""
    return f'<p class="{css}">{escape(text)}</p>' if css else f"<p>{escape(text)}</p>"


def heading(text: str) -> str:
    """A heading inside a card."""
    return f"<h3>{escape(text)}</h3>"


def missing(text: str, command: str = "") -> str:
    """That something is not there, and the command that makes it."""
    return f'<div class="missing"><p>{escape(text)}</p>{preformatted(command) if command else ""}</div>'


def preformatted(text: str, wide: bool = False) -> str:
    """Text as it is, such as a command; ``wide``: lines are not broken, the block scrolls."""
    return f'<pre class="wide">{escape(text)}</pre>' if wide else f"<pre>{escape(text)}</pre>"


def table(header: Sequence[str], rows: Iterable[Sequence[str]], css: str = "") -> str:
    """A table, which scrolls by itself where it is wider than its card.

    Args:
        css: "text": cells are sentences, aligned left and broken.

    Raises:
        ValueError: a row has more or fewer cells than there are headings.
    """
    lines = [list(row) for row in rows]
    for row in lines:
        if len(row) != len(header):
            raise ValueError(f"table: a row of {len(row)} cells under {len(header)} headings: {row}")
    titles = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in lines)
    kind = f' class="{css}"' if css else ""
    return f'<div class="scroll"><table{kind}><thead><tr>{titles}</tr></thead><tbody>{body}</tbody></table></div>'


def facts(values: Mapping[str, str]) -> str:
    """Names and what is known of them."""
    return "<dl>" + "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in values.items()) + "</dl>"


def bars(values: Sequence[tuple[str, int]], what: str) -> str:
    """Counts with a bar and their share of all."""
    whole, largest = sum(count for _, count in values), max([count for _, count in values], default=0)
    rows = [(name, count / max(1, largest), str(count), f"{count / max(1, whole):.1%}") for name, count in values]
    return bar_table([what, "", "count", "share"], rows)


def bar_table(header: Sequence[str], rows: Iterable[tuple[str, float, *tuple[str, ...]]]) -> str:
    """Rows of a name, a bar of so much (0..1) of the full length, and further cells."""
    body = "".join(
        f'<tr><td>{_breakable(name)}</td><td class="bar"><div style="width:{100 * min(max(share, 0.0), 1.0):.1f}%">'
        f"</div></td>{''.join(f'<td>{escape(cell)}</td>' for cell in cells)}</tr>"
        for name, share, *cells in rows
    )
    titles = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    table = f'<table class="named"><thead><tr>{titles}</tr></thead><tbody>{body}</tbody></table>'
    return f'<div class="scroll">{table}</div>'


def _breakable(name: str) -> str:
    """A name that may be broken after a dot or an underscore, as module paths are."""
    return re.sub(r"([._])(?=[^._])", r"\1<wbr>", escape(name))


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
    return f'<svg class="heat" role="img" viewBox="0 0 {columns} {rows}"><title>{escape(title)}</title>{fields}</svg>'


def listing(lines: Iterable[str], css: str = "") -> str:
    """A list of lines."""
    items = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return f'<ul class="{css}">{items}</ul>' if css else f"<ul>{items}</ul>"


def gallery(pictures: Iterable[tuple[Image | None, str, Sequence[str]]]) -> str:
    """Pictures (None: there is nothing to show) with a name and reasons, stored in the page as JPEG."""
    figures = []
    for image, name, reasons in pictures:
        shown = "<p>cannot be shown</p>" if image is None else f'<img alt="{escape(name)}" src="{data_url(image)}">'
        figures.append(f"<figure>{shown}<figcaption><b>{escape(name)}</b>{listing(reasons)}</figcaption></figure>")
    return f'<div class="pictures">{"".join(figures)}</div>'


def charts(*blocks: str) -> str:
    """Charts beside each other where there is room."""
    return f'<div class="charts">{"".join(blocks)}</div>'


def chart(svg: str, title: str, names: Sequence[str] = (), note: str = "") -> str:
    """A chart of :mod:`hatdet.visualization.charts` made with ``bare``: its title, and a legend where it has lines of
    several names."""
    legend = series_legend(names) if len(names) > 1 else ""
    under = f'<p class="soft">{escape(note)}</p>' if note else ""
    return f'<figure class="chart"><figcaption>{escape(title)}</figcaption>{svg}{legend}{under}</figure>'


def series_legend(names: Sequence[str]) -> str:
    """The names of lines in their colours."""
    items = "".join(f"<li{_colored(i)}><i></i>{escape(name)}</li>" for i, name in enumerate(names))
    return f'<ul class="legend">{items}</ul>'


def _colored(index: int) -> str:
    return f' class="s{index}"' if index < len(LIGHT) else f' style="--c:{hex_color(index)}"'


def matrix(counts: NDArray[np.integer], names: Sequence[str], corner: str = "truth ↓ found →") -> str:
    """A confusion matrix: rows are the truth, columns what was found, the last of both is nothing; shaded by the share
    of its row, blue where right and red where not."""
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    titles = f"<th>{escape(corner)}</th>" + "".join(f"<th>{escape(name)}</th>" for name in names)
    rows = []
    for row, name in enumerate(names):
        cells = "".join(
            f'<td{"" if row == column else " class=wrong"} style="--v:{shares[row, column]:.2f}">'
            f"{int(counts[row, column]) or ('' if row == column == len(names) - 1 else 0)}</td>"
            for column in range(len(names))
        )
        rows.append(f"<tr><th>{escape(name)}</th>{cells}</tr>")
    body = f"<thead><tr>{titles}</tr></thead><tbody>{''.join(rows)}</tbody>"
    return f'<div class="scroll"><table class="matrix">{body}</table></div>'


def data_url(image: Image, quality: int = 82) -> str:
    """A BGR or gray image as JPEG in a URL.

    Raises:
        ValueError: it cannot be encoded.
    """
    import cv2

    done, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise ValueError(f"cannot encode an image of {image.dtype} {image.shape}")
    return jpeg_url(data.tobytes())


def jpeg_url(data: bytes) -> str:
    """The bytes of a JPEG file in a URL."""
    return "data:image/jpeg;base64," + base64.b64encode(data).decode("ascii")
