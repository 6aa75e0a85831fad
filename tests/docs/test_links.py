"""Links of documents in the site: what lies in docs/, what has a page, what has none, what is not there."""

from __future__ import annotations

import pytest
from sitegen.links import rewrite

PAGES = {"configs/rtmdet": "configs/rtmdet.md", "CONTRIBUTING.md": "contributing.md", "configs/a.py": "configs/x.md#a"}


@pytest.mark.parametrize(
    ("source", "page", "text", "made"),
    [
        ("docs/recipes.md", "recipes.md", "[r](results.md#speed)", "[r](results.md#speed)"),
        ("docs/recipes.md", "recipes.md", "[c](../configs/rtmdet/)", "[c](configs/rtmdet.md)"),
        ("docs/recipes.md", "recipes.md", "[c](../configs/a.py)", "[c](configs/x.md#a)"),
        ("docs/recipes.md", "recipes.md", "[a](https://a.org/x) [b](#here)", "[a](https://a.org/x) [b](#here)"),
        ("docs/own/head.md", "own/head.md", "[r](../recipes.md)", "[r](../recipes.md)"),
        ("README.md", "readme.md", "[r](docs/recipes.md#a)", "[r](recipes.md#a)"),
        ("benchmarks/README.md", "benchmarks.md", "[m](../Makefile)", "m (`Makefile`)"),
        ("CONTRIBUTING.md", "contributing.md", "[tests/docs](tests/docs)", "tests/docs"),
        ("README.md", "commands/x.md", "[c](CONTRIBUTING.md)", "[c](../contributing.md)"),
        ("docs/a.md", "a.md", "```\n[c](../configs/rtmdet/)\n```", "```\n[c](../configs/rtmdet/)\n```"),
    ],
)
def test_links(source: str, page: str, text: str, made: str) -> None:
    complaints: list[str] = []
    assert rewrite(text, source, page, PAGES, complaints.append) == made
    assert complaints == []


def test_a_link_to_nothing_is_told() -> None:
    complaints: list[str] = []
    rewrite("see [it](../gone.py)", "docs/a.md", "a.md", {}, complaints.append)
    assert complaints == ["docs/a.md: a link to ../gone.py, which is not there"]
