"""docs/from_mmdetection.md is what its generator makes, and every name is where the page says it is."""

from __future__ import annotations

import importlib

import pytest

from hatdet.config.mmdetection.network.translate import check_detector, detectors
from hatdet.registry import registered_names, resolve, shipped_names
from hatdet.utils.errors import ConfigError
from tests.helpers import from_mmdetection_page as generator
from tests.helpers.from_mmdetection_page import ELSEWHERE, INSTEAD, REMARKS, ROOT, TOOL_NOTES, names, row
from tests.helpers.mmdetection_names import FAMILIES, MISSING, TOOLS

ALL = [name for family in FAMILIES for name in names(family)]
SCOPE = "mmdet."


def test_the_page_is_what_the_tables_say() -> None:
    page = generator.PAGE.read_text(encoding="utf-8")
    assert page == generator.page(), "run: python -m tests.helpers.from_mmdetection_page --write"
    assert "## What runs" in generator.by_hand()


def test_each_name_stands_once_and_all_are_used() -> None:
    assert len(set(ALL)) == len(ALL)
    assert set(ELSEWHERE) | set(MISSING) | set(REMARKS) <= set(ALL)
    assert set(TOOL_NOTES) | set(INSTEAD) <= set(TOOLS.split())


@pytest.mark.slow
def test_what_is_said_to_be_here_resolves() -> None:
    """It imports most of the package."""
    wrong = []
    for found in map(row, ALL):
        if found.attribute:
            if not hasattr(importlib.import_module(found.module), found.attribute):
                wrong.append(found)
        elif found.module:
            made = resolve(f"{SCOPE}{found.name}")
            if made.__module__ != found.module:
                wrong.append(found)
    assert wrong == []


def test_what_is_said_to_be_missing_does_not_resolve() -> None:
    assert not set(MISSING) & {name.removeprefix(SCOPE) for name in registered_names()}
    assert not set(MISSING) & set(ELSEWHERE)


def test_missing_detectors_are_refused_by_name() -> None:
    names_of_detectors = names(FAMILIES[0])
    for name in names_of_detectors:
        if name in MISSING:
            with pytest.raises(ConfigError, match=rf"model.type: '{name}' is not supported"):
                check_detector({"type": name})
        else:
            check_detector({"type": name})
    assert set(detectors()) <= set(names_of_detectors)


def test_every_part_of_models_is_on_the_page() -> None:
    """But for convolutions under second names, and parts that translations put in."""
    own = {"NeckSequence", "NonLocal", "Conv2dAdaptivePadding", "deconv", "deconv2d", "ConvWS2d", "ConvAWS2d",
           "SAConv2d", "DeformConv2d", "DeformConv2dPack", "ModulatedDeformConv2d",
           "ModulatedDeformConv2dPack"}  # fmt: skip
    parts = {name.removeprefix(SCOPE) for name in shipped_names("hatdet.models.mmdet") if name.startswith(SCOPE)}
    assert parts - own <= set(ALL)


def test_every_tool_is_here_or_has_another() -> None:
    for name in TOOLS.split():
        assert (ROOT / "tools" / name).is_file() is not (name in INSTEAD), name
