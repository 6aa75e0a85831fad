"""The tiny detector of the commands' tests, as every kind of file."""

from __future__ import annotations

from tests.unit.commands.conftest import files as files  # a fixture
