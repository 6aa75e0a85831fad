"""hatdet: train an object detector and ship the integer model that was evaluated, bit for bit."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hatdet.inference.detector import Detector as Detector

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """``Detector``, imported when it is asked for: ``import hatdet`` needs no torch."""
    if name == "Detector":
        return importlib.import_module("hatdet.inference.detector").Detector
    raise AttributeError(f"module 'hatdet' has no attribute {name!r}")
