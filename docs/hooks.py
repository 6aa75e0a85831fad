"""What mkdocs calls while it builds the site: pages that are made, not written, and links that leave docs/."""

from __future__ import annotations

import logging
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from sitegen import commands, configs, notebook, parts
from sitegen.links import rewrite
from sitegen.paths import ROOT, ROOT_PAGES
from sitegen.pictures import stages

log = logging.getLogger("mkdocs.hooks.hatdet")
FOLDERS: dict[str, Any] = {"commands/": commands, "reference/": parts, "configs/": configs}
"""Entries of the navigation that stand for pages that a module makes."""
SHOWN = {**ROOT_PAGES, **configs.shown()}


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    config.nav = _filled(config.nav)
    return config


def _filled(entry: Any) -> Any:
    """The navigation with the pages of :data:`FOLDERS`."""
    if isinstance(entry, list):
        return [_filled(each) for each in entry]
    if isinstance(entry, dict):
        return {name: _filled(each) for name, each in entry.items()}
    return FOLDERS[entry].nav() if entry in FOLDERS else entry


def on_files(files: Files, config: MkDocsConfig) -> Files:
    for source, page in ROOT_PAGES.items():
        text = rewrite((ROOT / source).read_text(encoding="utf-8"), source, page, SHOWN, log.warning)
        files.append(File.generated(config, page, content=text))
    for place, drawing in stages.files().items():
        files.append(File.generated(config, place, content=drawing))
    for module in (notebook, *FOLDERS.values()):
        for page, text in module.pages().items():
            files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    if page.file.generated_by:
        return markdown
    return rewrite(markdown, f"docs/{page.file.src_uri}", page.file.src_uri, SHOWN, log.warning)
