"""The tiny detector of the commands' tests, as every kind of file."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from tests.unit.commands.conftest import files as files  # a fixture
from tests.unit.commands.conftest import tool as tool


@pytest.fixture(autouse=True)
def interruptible() -> Iterator[None]:
    """Ctrl-C is Python's, as in a program that a user starts; processes that pytest-xdist starts ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
