"""Pages in a real browser (headless Chromium): what a reader would see wrong is measured."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html import escape
from pathlib import Path
from typing import Any

import pytest

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
needs_browser = pytest.mark.skipif(BROWSER is None, reason="no Chromium, chromium-browser or google-chrome on the PATH")
SMALLEST = 9.0
"""Pixels of text that a phone shows; below it nobody reads."""
CONTRAST = 4.5
"""Of text against what is behind it (WCAG AA)."""
_FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --virtual-time-budget=5000 --window-size=1400,900 --dump-dom"
)
# Text in an SVG is as large as the SVG is scaled; what is behind text is the nearest ancestor with a colour.
_MEASURE = """<iframe style="width:{width}px;height:800px;border:0" srcdoc="{page}"></iframe><p id="said"></p><script>
const canvas = document.createElement("canvas").getContext("2d", {{willReadFrequently: true}});
const rgba = text => {{
  canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = text; canvas.fillRect(0, 0, 1, 1);
  return [...canvas.getImageData(0, 0, 1, 1).data];
}};
const light = color => {{
  const [r, g, b] = color.slice(0, 3).map(v => v / 255).map(v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
  return .2126 * r + .7152 * g + .0722 * b;
}};
onload = () => {{
  const inside = document.querySelector("iframe").contentDocument, root = inside.documentElement;
  const style = node => inside.defaultView.getComputedStyle(node);
  const behind = node => {{
    for (let at = node; at; at = at.parentElement) {{
      const color = rgba(style(at).backgroundColor);
      if (color[3] > 250) return color;
    }}
    return [255, 255, 255, 255];
  }};
  const small = [], pale = [];
  const walker = inside.createTreeWalker(inside.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {{
    const node = walker.currentNode.parentElement, text = walker.currentNode.textContent.trim();
    if (!text || ["TITLE", "title", "SCRIPT", "STYLE"].includes(node.tagName)) continue;
    if (!node.getClientRects().length) continue;
    const svg = node.closest("svg"), matrix = svg && node.getScreenCTM ? node.getScreenCTM() : null;
    const size = parseFloat(style(node).fontSize) * (matrix ? Math.hypot(matrix.a, matrix.b) : 1);
    if (size < {smallest}) small.push(text.slice(0, 30) + " " + size.toFixed(1));
    if (node.closest(".shot")) continue;  // on a picture: it has an outline of its own
    const ink = light(rgba(svg ? style(node).fill : style(node).color)), ground = light(behind(node));
    const contrast = (Math.max(ink, ground) + .05) / (Math.min(ink, ground) + .05);
    if (contrast < {contrast}) pale.push(text.slice(0, 30) + " " + contrast.toFixed(1));
  }}
  const columns = inside.querySelector("main") ? style(inside.querySelector("main")).gridTemplateColumns : "none";
  const images = [...inside.images];
  document.getElementById("said").textContent = "JSON" + JSON.stringify({{
    overflow: root.scrollWidth - root.clientWidth,
    columns: columns === "none" ? 1 : columns.split(" ").length,
    cut: [...inside.querySelectorAll("section")].filter(s => s.scrollWidth > s.clientWidth + 1).map(s => s.id),
    pictures: images.length,
    broken: images.filter(i => !i.complete || i.naturalWidth === 0).length,
    small, pale,
    page: style(inside.body).backgroundColor,
  }}) + "END";
}};
</script>"""


def look(page: str, folder: Path, width: int, dark: bool = False) -> dict[str, Any]:
    """A page at a width: how far it is too wide, columns of its grid, sections that are cut, pictures and broken ones,
    too small and too pale texts, colour of the page."""
    assert BROWSER is not None
    file = folder / "frame.html"
    text = _MEASURE.format(width=width, page=escape(page), smallest=SMALLEST, contrast=CONTRAST)
    file.write_text(text, encoding="utf-8")
    flags = ["--force-dark-mode"] if dark else []
    command = [BROWSER, *_FLAGS.split(), f"--user-data-dir={folder / 'profile'}", *flags, f"file://{file}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    found = re.search(r'<p id="said">JSON(\{.*?\})END</p>', done.stdout, re.DOTALL)
    assert found, done.stdout[-500:]
    return json.loads(found[1].replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))  # type: ignore[no-any-return]


def check_readable(page: str, folder: Path, columns: dict[int, int], pictures: int) -> None:
    """Assert that nothing is wrong at any width, light and dark.

    Args:
        columns: of the page's grid by width in pixels. pictures: how many there are.
    """
    for width, expected in columns.items():
        for dark in (False, True):
            assert look(page, folder, width, dark) == {
                "overflow": 0, "columns": expected, "cut": [], "pictures": pictures, "broken": 0, "small": [],
                "pale": [], "page": "rgb(20, 24, 30)" if dark else "rgb(255, 255, 255)",
            }, f"{width} pixels, {'dark' if dark else 'light'}"  # fmt: skip
