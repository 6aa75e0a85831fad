"""What all detectors that run an exported file have in common."""

from __future__ import annotations

from typing import Any

from torch import nn


class ExportedDetector(nn.Module):
    """A detector whose network is a file: preprocessing, post-processing and metadata are those of ``detector``."""

    def __init__(self, detector: Any) -> None:
        super().__init__()
        self._task = (detector,)  # in a tuple: its parameters are not this model's

    @property
    def task(self) -> Any:
        """The float detector; its own network is not used."""
        return self._task[0]
