"""These tests need a GPU; without one they are skipped."""

from __future__ import annotations

import pytest
import torch

from tests.unit.commands.conftest import tool as tool  # a fixture


@pytest.fixture(autouse=True, scope="session")
def _gpu() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no GPU here")
