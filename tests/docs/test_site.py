"""The documentation site is built without a warning, leads nowhere else, and has every document."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest

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
