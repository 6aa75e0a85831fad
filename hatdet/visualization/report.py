"""An HTML report in one file: text, tables, SVG charts and pictures; no script, no network."""

from __future__ import annotations

import base64
import os
from collections.abc import Sequence
from html import escape
from pathlib import Path

from hatdet.visualization.draw import Image

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1100px; margin: 2em auto; padding: 0 1em; color: #222;
} h1 { font-size: 1.6em; } h2 { margin-top: 2em; border-bottom: 1px solid #ddd; font-size: 1.2em; } table {
border-collapse: collapse; margin: 1em 0; } th, td { padding: 4px 12px; border-bottom: 1px solid #e4e4e4;
text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; } th { background: #f6f6f6; }
figure { display: inline-block; margin: 6px; vertical-align: top; } figcaption { font-size: 13px; color: #555;
} img, svg { max-width: 100%; height: auto; } pre { background: #f6f6f6; padding: 8px; overflow-x: auto;
font-size: 13px; } .good { color: #17702f; font-weight: 600; } .bad { color: #b3261e; font-weight: 600; }
table.bars { font-size: 13px; } table.bars th, table.bars td { padding: 2px 8px; }
table.bars td:first-child { white-space: normal; overflow-wrap: anywhere; min-width: 20em; }
td.bar div { height: 11px; background: #2463b8; }
"""


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
        self._blocks.append(f"<pre>{escape(text)}</pre>")

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
        self._blocks.append(f"<table{css}><thead><tr>{''.join(titles)}</tr></thead><tbody>{body}</tbody></table>")

    def chart(self, svg: str) -> None:
        """A chart of `hatdet.visualization.charts`."""
        self._blocks.append(f"<figure>{svg}</figure>")

    def picture(self, image: Image, caption: str = "", quality: int = 88) -> None:
        """A BGR image, stored in the page itself as JPEG."""
        import cv2

        done, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
        if not done:
            raise ValueError(f"cannot encode an image of {image.dtype} {image.shape}")
        encoded = base64.b64encode(data.tobytes()).decode("ascii")
        height, width = image.shape[:2]
        source = f'<img src="data:image/jpeg;base64,{encoded}" width="{width}" height="{height}"'
        note = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
        self._blocks.append(f'<figure>{source} alt="{escape(caption)}">{note}</figure>')

    def render(self) -> str:
        """The whole page."""
        title = escape(self.title)
        return (
            '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
            f"<title>{title}</title><style>{_STYLE}</style></head>\n<body><h1>{title}</h1>\n"
            + "\n".join(self._blocks)
            + "\n</body></html>\n"
        )

    def write(self, path: str | Path) -> Path:
        """Write the page; an older one is replaced only when the new one is complete."""
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(target.name + ".part")
        temporary.write_text(self.render(), encoding="utf-8")
        os.replace(temporary, target)
        return target
