"""An HTML report in one file: text, tables, SVG charts and pictures; no script, no network."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

from hatdet.visualization.draw import Image
from hatdet.visualization.page.blocks import data_url
from hatdet.visualization.page.page import document, write_page

_STYLE = """<style>
main.flow h2 { margin-top: 2em; border-bottom: 1px solid var(--line); } main.flow table { width: auto; margin: 1em 0; }
table.bars { font-size: 13px; } table.bars th, table.bars td { padding: 2px 8px; }
table.bars td:first-child { white-space: normal; overflow-wrap: anywhere; min-width: 20em; }
td.bar div { height: 11px; margin-top: 4px; }
</style>"""


def _bar(share: float) -> str:
    """A horizontal bar, ``share`` (0..1) of 100 pixels long."""
    return f'<div style="width: {100 * min(max(share, 0.0), 1.0):.1f}px"></div>'


class HtmlReport:
    """Collects blocks in order; `write` makes the file. All text is escaped."""

    def __init__(self, title: str) -> None:
        self.title = title
        self._blocks: list[str] = []

    def heading(self, text: str) -> None:
        """A section heading."""
        self._blocks.append(f"<h2>{escape(text)}</h2>")

    def text(self, text: str, verdict: bool | None = None) -> None:
        """A paragraph; `verdict` colours it as passed or failed."""
        css = "" if verdict is None else f' class="{"good" if verdict else "bad"}"'
        self._blocks.append(f"<p{css}>{escape(text)}</p>")

    def preformatted(self, text: str) -> None:
        """Text with its line breaks, e.g. the printed numbers or a command."""
        self._blocks.append(f'<pre class="wide">{escape(text)}</pre>')

    def table(self, header: Sequence[str], rows: Sequence[Sequence[str]], bars: Sequence[float] | None = None) -> None:
        """A table; the first column is aligned left, the others right. ``bars``: after it a bar in each row, of so much
        (0..1) of the full length."""
        for row in rows:
            if len(row) != len(header):
                raise ValueError(f"table: a row of {len(row)} cells under {len(header)} headings: {list(row)}")
        if bars is not None and len(bars) != len(rows):
            raise ValueError(f"table: {len(bars)} bars beside {len(rows)} rows")
        titles = [f"<th>{escape(cell)}</th>" for cell in header]
        lines = [[f"<td>{escape(cell)}</td>" for cell in row] for row in rows]
        if bars is not None:
            titles.insert(1, "<th></th>")
            for line, share in zip(lines, bars):
                line[0] = line[0].replace(".", ".<wbr>")  # module paths may break after a dot
                line.insert(1, f'<td class="bar">{_bar(share)}</td>')
        body = "".join(f"<tr>{''.join(line)}</tr>" for line in lines)
        css = "" if bars is None else ' class="bars"'
        head = f"<thead><tr>{''.join(titles)}</tr></thead>"
        self._blocks.append(f'<div class="scroll"><table{css}>{head}<tbody>{body}</tbody></table></div>')

    def chart(self, svg: str) -> None:
        """A chart of `hatdet.visualization.charts`."""
        self._blocks.append(f"<figure>{svg}</figure>")

    def picture(self, image: Image, caption: str = "", quality: int = 88) -> None:
        """A BGR image, stored in the page itself as JPEG."""
        height, width = image.shape[:2]
        source = f'<img src="{data_url(image, quality)}" width="{width}" height="{height}"'
        note = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
        self._blocks.append(f'<figure>{source} alt="{escape(caption)}">{note}</figure>')

    def render(self) -> str:
        """The whole page."""
        blocks = "\n".join(self._blocks)
        return document(self.title, f'{_STYLE}\n<main class="flow">\n{blocks}\n</main>')

    def write(self, path: str | Path) -> Path:
        """Write the page; an older one is replaced only when the new one is complete."""
        return write_page(path, self.render())
