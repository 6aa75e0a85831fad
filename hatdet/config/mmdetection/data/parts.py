"""What the data half of a config becomes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class DataParts:
    """Loaders, metric and facts about the pictures, in hatdet's vocabulary.

    Attributes:
        data_loader, val_data_loader, calibration_data_loader: dicts of hatdet's loader. The one of training has
            ``late_transforms`` where a hook switches the pipeline; when, says the hook.
        val_metrics: dict of the metric.
        image_size: (h, w) that pictures fit into when they are tested, rounded up to the padding's divisor.
        classes: names by label; None: those of the json, in ascending category id.
        pixels: ``mean``, ``std`` and ``bgr_to_rgb`` of the network's preprocessing: of version 2's Normalize, of
            version 3's data_preprocessor. mean 0 and std 1 where the config has none.
        input_color: ``bgr``, or ``gray`` where pictures are loaded so.
        tta: dict of the test-time augmentation; None: the config has none.
        notes: what was accepted and has no meaning here, or another one; one line each.
    """

    data_loader: dict[str, Any]
    val_data_loader: dict[str, Any]
    calibration_data_loader: dict[str, Any]
    val_metrics: dict[str, Any]
    image_size: tuple[int, int]
    classes: tuple[str, ...] | None = None
    pixels: Mapping[str, Any] = field(default_factory=dict)
    input_color: str = "bgr"
    tta: dict[str, Any] | None = None
    notes: tuple[str, ...] = ()
