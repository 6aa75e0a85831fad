"""The documentation site is built without a warning, leads nowhere else, and has every document."""

from __future__ import annotations

import html
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.helpers.browser import _FLAGS, BROWSER, needs_browser

pytest.importorskip("material", reason='mkdocs-material is not installed: pip install -e ".[docs]"')

ROOT = Path(__file__).resolve().parents[2]
FETCHED = {"src", "srcset", "poster", "data", "action"}
"""Attributes whose address a browser fetches by itself; of href those of <link>, but not a reader's click on <a>."""
REMOTE = re.compile(r"^\s*(?:[a-z]+:)?//", re.IGNORECASE)
IN_STYLES = re.compile(r"(?:url\(\s*['\"]?|@import\s+['\"])((?:https?:)?//[^)'\"\s]+)")
CALLS = re.compile(r"(?:fetch|importScripts|[a-zA-Z]{1,2})\(\s*[`'\"]((?:https?:)?//[^`'\"]+)")
ASKED_FOR = (
    "https://unpkg.com/mermaid@",  # for pages with class="mermaid"
    "https://unpkg.com/resize-observer-polyfill",  # for browsers of before 2020
    "https://api.github.com/",  # where repo_url is set
    "/api/v4/projects/",  # the same, GitLab's
)
"""Addresses in the theme's own script, each fetched on one condition, which no page of ours meets."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("site")
    # A network that is not there: what is fetched while building ends the build.
    env = {**os.environ, "NO_MKDOCS_2_WARNING": "1", "http_proxy": "http://127.0.0.1:9", "OMP_NUM_THREADS": "1"}
    env |= {"https_proxy": env["http_proxy"], "PYTHONPATH": str(ROOT)}
    words = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(out)]
    done = subprocess.run(words, cwd=ROOT, env=env, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]
    return out


class Addresses(HTMLParser):
    """What a page makes a browser fetch, and the classes that it has."""

    def __init__(self) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.classes: set[str] = set()
        self.attributes: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            self.attributes.add(name)
            if name == "class":
                self.classes |= set((value or "").split())
            elif name in FETCHED or (name == "href" and tag == "link"):
                self.fetched += [part.split()[0] for part in (value or "").split(",") if part.strip()]
            elif name == "style":
                self.fetched += IN_STYLES.findall(value or "")


def pages(site: Path) -> Iterator[tuple[Path, Addresses]]:
    for path in sorted(site.rglob("*.html")):
        parser = Addresses()
        parser.feed(path.read_text(encoding="utf-8"))
        yield path, parser


@pytest.mark.slow
def test_no_page_fetches_anything_from_elsewhere(site: Path) -> None:
    remote = {str(path.relative_to(site)): [x for x in found.fetched if REMOTE.match(x)] for path, found in pages(site)}
    assert {name: found for name, found in remote.items() if found} == {}
    assert sum(len(found.fetched) for _, found in pages(site)) > 100  # the parser sees them


@pytest.mark.slow
def test_what_the_themes_script_might_fetch_is_never_asked_for(site: Path) -> None:
    for path, found in pages(site):
        assert "mermaid" not in found.classes, path
        assert "md-source" not in found.classes and not any("source" in name for name in found.attributes), path
    for script in site.rglob("*.js"):
        text = script.read_text(encoding="utf-8")
        if script.name == "search_index.js":
            continue
        assert [x for x in CALLS.findall(text) if not any(part in x for part in ASKED_FOR)] == [], script
    for sheet in site.rglob("*.css"):
        assert IN_STYLES.findall(sheet.read_text(encoding="utf-8")) == [], sheet


@pytest.mark.slow
def test_every_document_is_a_page(site: Path) -> None:
    documents = [path.relative_to(ROOT / "docs") for path in (ROOT / "docs").rglob("*.md")]
    assert len(documents) > 10
    assert [str(name) for name in documents if not (site / name.with_suffix(".html")).is_file()] == []


@pytest.mark.slow
def test_every_shipped_config_is_shown(site: Path) -> None:
    shown = "".join(path.read_text(encoding="utf-8") for path in (site / "configs").glob("*.html"))
    names = [path.relative_to(ROOT / "configs").as_posix() for path in (ROOT / "configs").glob("*/**/*.py")]
    assert len(names) > 20 and [name for name in names if f"<code>{name}</code>" not in shown] == []


MEASURE = """<script>addEventListener("load", () => setTimeout(() => {
  const root = document.documentElement, images = [...document.images]
  parent.postMessage(JSON.stringify({
    overflow: root.scrollWidth - root.clientWidth,
    wide: window.innerWidth,
    broken: images.filter(i => !i.complete || i.naturalWidth === 0).map(i => i.src),
    fetched: performance.getEntriesByType("resource").map(e => e.name).filter(name => !name.startsWith("file:")),
    found: [...document.querySelectorAll(".md-search-result__meta")].map(node => node.textContent.trim()),
  }), "*")
}, WAIT))</script></body>"""
FRAME = """<iframe style="width:WIDTHpx;height:800px;border:0" src="ADDRESS"></iframe><p id="said"></p><script>
onmessage = event => { document.getElementById("said").textContent = "JSON" + event.data + "END" }
</script>"""
"""A window may not be as narrow as a phone; a frame may."""


def seen(site: Path, page: str, width: int, folder: Path, query: str = "") -> dict[str, object]:
    """What a browser makes of a page that it reads from the disk; with a query, what the search finds."""
    assert BROWSER is not None
    text = (site / page).read_text(encoding="utf-8")
    probe = (site / page).with_name(f"probe_{width}_{Path(page).name}")
    probe.write_text(text.replace("</body>", MEASURE.replace("WAIT", "3000" if query else "200")), encoding="utf-8")
    address = probe.as_uri() + (f"?q={query}" if query else "")
    frame = folder / "frame.html"
    frame.write_text(FRAME.replace("WIDTH", str(width)).replace("ADDRESS", address), encoding="utf-8")
    flags = [*_FLAGS.split(), "--virtual-time-budget=9000", f"--user-data-dir={folder / 'profile'}"]
    try:
        done = subprocess.run(
            [BROWSER, *flags, frame.as_uri()], capture_output=True, text=True, timeout=60, check=True
        )
    finally:
        probe.unlink()
    found = re.search(r'<p id="said">JSON(\{.*?\})END</p>', done.stdout, re.DOTALL)
    assert found, done.stdout[-500:]
    return json.loads(html.unescape(found[1]))  # type: ignore[no-any-return]


SHOWN = ("index", "four_stages", "integer_model.zh", "from_ultralytics", "commands/export", "reference/options")


@pytest.mark.slow
@needs_browser
@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("page", SHOWN)
def test_a_page_fits_a_phone_and_a_desktop(site: Path, page: str, width: int, tmp_path: Path) -> None:
    found = seen(site, f"{page}.html", width, tmp_path)
    assert found == {"overflow": 0, "wide": width, "broken": [], "fetched": [], "found": found["found"]}


@pytest.mark.slow
@needs_browser
@pytest.mark.parametrize(("query", "at_least"), [("mosaic", 5), ("calibration_observer", 3), ("校准", 2)])
def test_the_search_works_from_the_disk(site: Path, query: str, at_least: int, tmp_path: Path) -> None:
    found = seen(site, "index.html", 1280, tmp_path, query)
    assert found["fetched"] == [] and isinstance(found["found"], list)
    count = re.match(r"(\d+) matching document", found["found"][0])
    assert count and int(count[1]) >= at_least, found
