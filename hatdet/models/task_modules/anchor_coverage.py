"""A warning for anchors that do not fit the data."""

from __future__ import annotations

import logging

from hatdet.models.task_modules.target_generator import AnchorTargets

logger = logging.getLogger("hatdet")
_BATCHES = 32
_WANTED = 0.5


class AnchorCoverage:
    """Counts, over the first batches of a training, how many boxes have an anchor that overlaps them enough.

    Warns once: after the first batch with boxes where not one has, or after 32 batches where fewer than half have.
    The count stays on the device until then.
    """

    def __init__(self, pos_iou: float) -> None:
        self.pos_iou = pos_iou
        self.batches = 0
        self.boxes = 0
        self.covered: int | float = 0
        self.done = False

    def add(self, targets: AnchorTargets) -> None:
        """Count one batch."""
        if self.done or not targets.num_boxes:
            return
        self.batches += 1
        self.boxes += targets.num_boxes
        self.covered = self.covered + targets.covered  # type: ignore[assignment]
        if self.batches not in (1, _BATCHES):
            return
        covered = int(self.covered)
        share = covered / self.boxes
        if covered == 0 or (self.batches == _BATCHES and share < _WANTED):
            self.done = True
            logger.warning(
                "%s of %d boxes (%.0f %%) overlap an anchor by IoU %g: choose anchors (base_sizes, scales, ratios) of "
                "the boxes' sizes in pixels of the network's input; boxes without an anchor are learned badly or not "
                "at all",
                covered or "none", self.boxes, 100 * share, self.pos_iou,
            )  # fmt: skip
        self.done = self.done or self.batches == _BATCHES
