"""Links of a document, as the site needs them: what lies outside docs/ gets the page that shows it, or no link."""

from __future__ import annotations

import os.path
import re
from collections.abc import Callable, Iterator, Mapping

from sitegen.paths import ROOT

LINK = re.compile(r"(?<!!)\[(?P<text>[^\]\[]*)\]\((?P<target>[^)\s]+)\)")
FENCE = re.compile(r"^\s*(```+|~~~+)")
SCHEME = re.compile(r"^[a-z][a-z0-9+.-]*:", re.IGNORECASE)


def rewrite(markdown: str, source: str, page: str, pages: Mapping[str, str], complain: Callable[[str], object]) -> str:
    """``markdown`` with links that hold where the page is.

    Args:
        source: the document in the checkout, ``docs/recipes.md``.
        page: its page in the site, ``recipes.md``.
        pages: files and folders outside docs/ -> the page (with ``#heading``) that shows them.
        complain: is told of each link to something that is not there.
    """

    def link(match: re.Match[str]) -> str:
        text, target = match["text"], match["target"]
        if SCHEME.match(target) or target.startswith("#"):
            return match[0]
        path, _, heading = target.partition("#")
        place = os.path.normpath(os.path.join(os.path.dirname(source), path))
        if place in pages:
            there = pages[place]
        elif place.startswith("docs/"):
            there = place.removeprefix("docs/")
        elif (ROOT / place).exists():
            return text if text.strip("`").rstrip("/") == place else f"{text} (`{place}`)"
        else:
            complain(f"{source}: a link to {target}, which is not there")
            return match[0]
        there, _, part = there.partition("#")
        end = heading or part
        return f"[{text}]({os.path.relpath(there, os.path.dirname(page) or '.')}{'#' + end if end else ''})"

    return "\n".join(line if inside else LINK.sub(link, line) for line, inside in _lines(markdown))


def _lines(markdown: str) -> Iterator[tuple[str, bool]]:
    """Each line, and whether it is code."""
    fence = ""
    for line in markdown.split("\n"):
        found = FENCE.match(line)
        if fence:
            yield line, True
            if found and found[1].startswith(fence):
                fence = ""
        elif found:
            fence = found[1]
            yield line, True
        else:
            yield line, False
