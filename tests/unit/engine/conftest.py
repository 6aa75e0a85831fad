"""The log of one test must not reach the next."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def fresh_log() -> Iterator[None]:
    logger = logging.getLogger("hatdet")
    handlers, propagate, level = list(logger.handlers), logger.propagate, logger.level
    logger.propagate = True
    logger.setLevel(logging.INFO)
    yield
    for handler in set(logger.handlers) - set(handlers):
        handler.close()
    logger.handlers, logger.propagate = handlers, propagate
    logger.setLevel(level)
