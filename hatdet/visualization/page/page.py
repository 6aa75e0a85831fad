"""A page in one HTML file: cards in a grid, no script, no network."""

from __future__ import annotations

import os
import re
from html import escape
from pathlib import Path

from hatdet.visualization.page.style import STYLE


class Page:
    """Collects sections in order. All text is escaped; blocks are what :mod:`hatdet.visualization.page.blocks` makes.

    Args:
        title: of the page. intro: a line below it.
    """

    def __init__(self, title: str, intro: str = "") -> None:
        self.title, self.intro = title, intro
        self._sections: list[tuple[str, str]] = []

    def section(self, title: str, *blocks: str, wide: bool = False, double: bool = False) -> None:
        """A card of blocks; ``wide``: as wide as the page; ``double``: as wide as two, where two have room."""
        css = ' class="wide"' if wide else ' class="double"' if double else ""
        name = self._anchor(title)
        text = f'<section{css} id="{name}"><h2>{escape(title)}</h2>{"".join(blocks)}</section>'
        self._sections.append((title, text))

    def render(self) -> str:
        """The whole page."""
        links = "".join(f'<a href="#{_slug(title)}">{escape(title)}</a>' for title, _ in self._sections)
        menu = f'<nav aria-label="contents">{links}</nav>' if len(self._sections) > 1 else ""
        intro = f'<p class="soft">{escape(self.intro)}</p>' if self.intro else ""
        body = "\n".join(text for _, text in self._sections)
        return document(self.title, f"{intro}{menu}\n<main>\n{body}\n</main>")

    def write(self, path: str | Path) -> Path:
        """Write the page; an older one is replaced only when the new one is complete."""
        return write_page(path, self.render())

    def _anchor(self, title: str) -> str:
        name = _slug(title)
        if name in {_slug(other) for other, _ in self._sections}:
            raise ValueError(f"two sections {title!r} on one page")
        return name


def document(title: str, body: str) -> str:
    """The frame of a page: head with the style, heading, ``body`` as it is."""
    name = escape(title)
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{name}</title><style>{STYLE}</style></head>\n<body><h1>{name}</h1>\n{body}\n</body></html>\n"
    )


def write_page(path: str | Path, text: str) -> Path:
    """Write a page whole or not at all; its folder is made."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(target.name + ".part")
    try:
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return target


def _slug(title: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-") or "section"
