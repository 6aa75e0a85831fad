"""Pages that are made: commands out of parsers, the config reference out of signatures, options out of comments."""

from __future__ import annotations

import re

import pytest
from sitegen import commands, configs, options, parts, text
from sitegen.paths import ROOT

from hatdet.commands.program.names import commands as all_commands
from hatdet.registry import registered_names, shipped_names
from tests.docs.parsers import flags


@pytest.mark.parametrize("name", list(all_commands()))
def test_a_commands_page_has_every_flag(name: str) -> None:
    page = commands.page(name)
    with commands.as_hatdet(name):
        wanted = flags(commands.parser_of(name))
    rows = "\n".join(line for line in page.split("\n") if line.startswith("| `"))
    assert sorted(flag for flag in wanted if not re.search(rf"`{re.escape(flag)}[` ]", rows)) == []
    assert page.startswith(f"# hatdet {name}\n") and f"\nhatdet {name}" in page
    assert "tools/" not in page and "%(" not in page


def test_the_commands_are_on_the_first_page_and_in_the_navigation() -> None:
    made = commands.pages()
    index, nav = made.pop("commands/index.md"), repr(commands.nav())
    assert len(made) == len(all_commands()) > 30
    for name in all_commands():
        assert f"[`hatdet {name}`]({commands.page_name(name).removeprefix('commands/')})" in index
        assert f"'{commands.page_name(name)}'" in nav


@pytest.mark.slow
def test_every_name_of_the_registry_has_its_place_in_the_reference() -> None:
    """It imports the whole package."""
    made = parts.pages()
    everything = "\n".join(made.values())
    shipped = shipped_names()
    assert len(shipped) > 300 and set(shipped) <= set(registered_names())
    assert [name for name in shipped if f"`{name}`" not in everything] == []
    page = made["reference/transforms.md"]
    assert "## `RandomFlip` {#randomflip}" in page and "| `px` | `float` | `0.5` |" in page
    assert "mmdet.RandomFlip" not in page and "## `mmdet.RandomFlip`" in made["reference/mmdet_transforms.md"]
    rows = [line for line in everything.split("\n") if re.match(r"\| `\w+` \| .* \| .* \| .*\|$", line)]
    unsaid = sum(line.endswith("|  |") for line in rows)
    assert len(rows) > 2000 and unsaid < 0.1 * len(rows)


def test_a_part_without_a_page_is_an_error() -> None:
    assert parts.kind_of("ResNet", "hatdet.models.backbones.resnet").page == "backbones"
    assert parts.kind_of("mmdet.ResNet", "hatdet.models.mmdet.backbones.resnet").page == "mmdet_backbones"
    with pytest.raises(LookupError, match="New of hatdet.visualization.new has no page"):
        parts.kind_of("New", "hatdet.visualization.new")


def test_arguments_of_a_docstring() -> None:
    docs = text.parse(
        "What it is.\n\nArgs:\n    a, b: the sizes of :class:`~hatdet.x.Thing`,\n        in ``pixels``.\n"
        "    c: one. d: two | three.\n\nRaises:\n    ValueError: a < b.\n\nThe rest.",
        ["a", "b", "c", "d"],
    )
    sizes = "the sizes of `Thing`, in `pixels`."
    assert docs.arguments == {"a": sizes, "b": sizes, "c": "one.", "d": "two \\| three."}
    assert docs.text == "What it is.\n\n\nThe rest." and docs.rest == {"Raises": "ValueError: a &lt; b."}


def test_a_block_of_code_in_a_docstring() -> None:
    assert text.markdown("With *t*::\n\n    m = t * 2\n\nand so on.") == (
        "With \\*t\\*:\n\n```python\nm = t * 2\n```\n\nand so on."
    )


def test_options_of_a_config() -> None:
    source = '''"""A."""
import torch
_aliases_ = {}
# ---- schedule: of all stages ----------
epochs = 3  # of float training
# above
lr = 1e-3
parts = dict(a=1)
model = dict()
after = 1
'''
    assert options.options(source) == [
        ("epochs", "3", "of float training", "schedule: of all stages"),
        ("lr", "0.001", "above", "schedule: of all stages"),
    ]


def test_the_options_of_rtmdet_say_what_they_are() -> None:
    found = options.options((ROOT / options.FILES["RTMDet"]).read_text(encoding="utf-8"))
    plain = {"train_img_prefix", "val_ann_file", "val_img_prefix", "base_batch_size"}
    assert len(found) > 60 and {option.name for option in found if not option.comment} <= plain


def test_what_a_recipe_stands_for_is_on_the_page() -> None:
    page = options.pages()["reference/options.md"]
    assert "`recipe=small`: `lr=0.002`, `clip_grad_norm=35.0`, `amp='auto'`" in page
    assert "`recipe=large`: the defaults below" in page and page.count("`recipe=") == 2


def test_every_shipped_config_says_what_it_is() -> None:
    index = configs.index()
    rows = [line for line in index.split("\n") if line.startswith("| [")]
    assert len(rows) > 20 and [line for line in rows if line.endswith("|  |")] == []
