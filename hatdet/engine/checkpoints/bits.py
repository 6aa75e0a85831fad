"""16-bit pictures with fewer bits in use: one scaling for all data of a model, that of its training."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from torch import nn

from hatdet.utils.class_names import KnownClasses

logger = logging.getLogger("hatdet")

PLAIN = 8


def settle_bits(model: nn.Module, loaders: Sequence[Any], known: KnownClasses | None = None) -> None:
    """Decode the 16-bit pictures of all data sets alike: ``value >> (bits - 8)``.

    The bits are those of the checkpoint; else as many as the values of all these data sets need. What was trained by a
    version that did not know of them goes on with the upper 8 of 16 bits. The detector's metadata gets them
    (``source_bits``; 8: there were no 16-bit pictures).

    Args:
        loaders: whose data sets have ``bits`` and ``deep_images``; others are passed over.
    """
    datasets = [getattr(loader, "dataset", None) for loader in loaders]
    deep = [data for data in datasets if getattr(data, "deep_images", 0)]
    trained = known.scaled_bits if known is not None else None
    own = max((int(data.bits) for data in deep), default=PLAIN)  # type: ignore[union-attr]
    bits = own if trained is None else trained
    for data in deep:
        if data.bits != bits:  # type: ignore[union-attr]
            source = known.source if known is not None and trained is not None else "the other data"
            logger.info(
                "%s has 16-bit pictures with %d bits in use; they are scaled from %d bits, as for %s",
                getattr(data, "class_source", "the data"), data.bits, bits, source,  # type: ignore[union-attr]
            )  # fmt: skip
            data.bits = bits  # type: ignore[union-attr]
    owner = getattr(model, "task", model)
    if hasattr(owner, "source_bits") and any(hasattr(data, "deep_images") for data in datasets):
        owner.source_bits = bits
