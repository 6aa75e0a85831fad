"""The page on a data set in a real browser: nothing is wider than a phone, light and dark differ."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hatdet.visualization.data_page import DataPage, bars, gallery, heat, listing, paragraph, table

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --virtual-time-budget=3000 --window-size=1400,900 --dump-dom"
)
MEASURE = """<iframe style="width:{width}px;height:800px;border:0" srcdoc="{page}"></iframe><p id="said"></p><script>
onload = () => {{
  const inside = document.querySelector("iframe").contentDocument, root = inside.documentElement;
  const images = [...inside.images];
  document.getElementById("said").textContent = JSON.stringify({{
    overflow: root.scrollWidth - root.clientWidth,
    columns: getComputedStyle(inside.querySelector("main")).gridTemplateColumns.split(" ").length,
    cut: [...inside.querySelectorAll("section")].filter(s => s.scrollWidth > s.clientWidth + 1).length,
    shown: images.filter(i => i.complete && i.naturalWidth > 0).length,
    page: getComputedStyle(inside.body).backgroundColor,
  }});
}};
</script>"""


def page() -> str:
    """Long names, many columns, every block."""
    long = "a_class_with_a_name_that_does_not_end_" * 4
    made = DataPage("Data set " + "x" * 90, "/a/very/long/path/" * 12)
    made.section("table", table(["", *(f"split {i}" for i in range(9))], [[long, *["123456 (100%)"] * 9]] * 3))
    made.section("bars", bars([(long, 12345678), ("b", 1)], "class"), paragraph(long, "bad"))
    made.section("heat", heat(np.arange(256).reshape(16, 16), "places"), listing([long] * 3))
    image = np.full((40, 360, 3), 90, np.uint8)
    made.section("pictures", gallery([(image, f"{i}_{long}.jpg", [long]) for i in range(10)]), wide=True)
    return made.render()


def measured(tmp_path: Path, width: int, *flags: str) -> dict[str, Any]:
    assert BROWSER is not None
    file = tmp_path / "frame.html"
    file.write_text(MEASURE.format(width=width, page=escape(page())), encoding="utf-8")
    command = [BROWSER, *FLAGS.split(), f"--user-data-dir={tmp_path / 'profile'}", *flags, f"file://{file}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    found = re.search(r'<p id="said">(\{.*?\})</p>', done.stdout)
    assert found, done.stdout[-500:]
    return json.loads(found[1])  # type: ignore[no-any-return]


@pytest.mark.skipif(BROWSER is None, reason="no Chromium here")
@pytest.mark.slow
@pytest.mark.parametrize(("width", "columns"), [(390, 1), (1280, 3)])
def test_it_fits(tmp_path: Path, width: int, columns: int) -> None:
    light = measured(tmp_path, width)
    assert light == {"overflow": 0, "columns": columns, "cut": 0, "shown": 10, "page": "rgb(255, 255, 255)"}
    dark = measured(tmp_path, width, "--force-dark-mode")
    assert dark == {**light, "page": "rgb(20, 24, 30)"}
