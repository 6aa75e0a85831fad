"""What all tests share: the repository's root, and reference data that may stand beside it."""

from __future__ import annotations

import logging
import os
from pathlib import Path

# One thread, before torch is imported: runs do not fight for cores, and timings mean something.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def repo_root() -> Path:
    """The top folder of the checkout."""
    return ROOT


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """Reference data beside the checkout (``../shared``); tests that need it skip where it is absent."""
    path = ROOT.parent / "shared"
    if not path.is_dir():
        pytest.skip("reference data (../shared) is not beside this checkout")
    return path


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> pytest.LogCaptureFixture:
    """What the toolbox says, in a command or not."""
    monkeypatch.setattr(logging.getLogger("hatdet"), "propagate", True)
    caplog.set_level(logging.INFO, logger="hatdet")
    return caplog


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fuzz", default="0", help="so many random networks more, of seeds that are not tried otherwise")
