"""Numbers for objects that stay the same from frame to frame: ByteTrack, of the package supervision."""

from __future__ import annotations

import warnings
from collections.abc import Collection
from dataclasses import replace
from typing import Any

import numpy as np

from hatdet.inference.results import Result, class_labels
from hatdet.utils.errors import UserError

LEAST = 0.1
"""ByteTrack's: an object that is followed may be as unsure as this, half hidden for instance."""


class Tracker:
    """Follows objects through one video: give it the results in order.

    A track begins with a score of ``threshold`` and goes on with lower ones, down to 0.1. Source: Zhang et al.,
    "ByteTrack: Multi-Object Tracking by Associating Every Detection Box", ECCV 2022. It looks at boxes and
    scores, not at pixels and classes, and loses objects whose scores stay below 0.2.

    Args:
        rate: frames a second. threshold: the least score that begins a track. classes: only these, by name or label.

    Raises:
        UserError: supervision is not installed, or a version without ByteTrack.
    """

    def __init__(self, rate: float, threshold: float, classes: Collection[str | int] | None = None) -> None:
        self.least, self.classes = min(LEAST, threshold), classes
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # of 0.31, which setup.py leaves out
            self._tracker = byte_track()(track_activation_threshold=threshold, frame_rate=max(1, round(rate)))
        self._tracker.det_thresh = threshold  # else a track begins 0.1 above

    def update(self, result: Result) -> Result:
        """The detections of the next frame that are followed, with their numbers in ``ids``."""
        if self.classes is not None:
            class_labels(self.classes, result.names)
        result = result.keep(self.least, self.classes)
        detections = result.to_supervision()
        detections.data["row"] = np.arange(len(result))
        followed = self._tracker.update_with_detections(detections)
        if len(followed) == 0:
            return replace(result.keep(2.0), ids=np.zeros(0, np.int64))
        rows = np.asarray(followed.data["row"], np.int64)
        order = np.argsort(rows, kind="stable")
        return result.rows(rows[order], np.asarray(followed.tracker_id, np.int64)[order])


def byte_track() -> Any:
    """The class.

    Raises:
        UserError: it is not there.
    """
    try:
        from supervision import ByteTrack
    except ImportError as error:
        raise UserError(
            f"tracking needs supervision 0.30, which has ByteTrack ({error}); install it with: "
            "pip install 'hatdet[track]'"
        ) from error
    return ByteTrack
