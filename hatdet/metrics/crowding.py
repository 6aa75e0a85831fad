"""More objects a picture than COCO's evaluation looks at detections."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Crowding:
    """How many objects of one class the pictures have.

    ``limit``: detections of a class and picture that COCO's AP counts (``maxDets``); ``most``: objects of a class in
    the fullest picture; ``images``: pictures with more than the limit; ``missed``: share of all objects that no
    detector can have found within the limit.
    """

    limit: int
    most: int
    images: int
    missed: float

    @property
    def sufficient(self) -> int:
        """A limit that cuts no object, rounded up to a hundred: it depends on the data alone."""
        return 100 * math.ceil(self.most / 100)

    @property
    def key(self) -> str:
        """Name of the AP at that limit."""
        return f"AP@{self.sufficient}"

    def text(self, values: Mapping[str, float]) -> str:
        """One sentence for the reader of an AP."""
        images = "1 image has" if self.images == 1 else f"{self.images} images have"
        beside = f": {self.key} = {values[self.key]:.3f} counts up to {self.sufficient}" if self.key in values else ""
        return (
            f"{images} more than maxDets={self.limit} objects of a class (up to {self.most}): COCO's AP counts "
            f"{self.limit} detections of each, so {self.missed:.0%} of all objects are missed by any model{beside}."
        )


def crowding(truth: Mapping[str, Any], limit: int) -> Crowding | None:
    """What a limit cuts off; None where no picture has more objects of a class."""
    counts = Counter((a["image_id"], a["category_id"]) for a in truth["annotations"] if not a["iscrowd"])
    over = {key: count for key, count in counts.items() if count > limit}
    if not over:
        return None
    lost = sum(count - limit for count in over.values())
    images = len({image for image, _ in over})
    return Crowding(limit, max(over.values()), images, lost / sum(counts.values()))
