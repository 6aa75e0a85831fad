"""Profiles that self-tests are made with here."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hatdet.export.bundle import expected
from hatdet.integer.profiles.table import PROFILES


@pytest.fixture(scope="module")
def profiles_of_litert() -> Iterator[None]:
    """Those that a runtime here has, whose outputs the self-test is held against."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(expected, "PROFILES", {name: p for name, p in PROFILES.items() if p.runtimes})
        yield
