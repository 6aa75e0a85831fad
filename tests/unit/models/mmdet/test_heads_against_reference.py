"""Heads of points, of quality and of corners against reference values."""

from __future__ import annotations

import pytest

from tests.helpers.components import names
from tests.helpers.dense_heads import check_loss, check_maps, check_predictions

MINE = (
    "atss", "centernet", "centernet_update", "corner", "ddod", "fcos_center", "fovea", "gfl", "lad_student", "ld",
    "paa", "reppoints_minmax", "rtmdet_tiny", "tood_free_aligned", "vfnet_dcn", "yolox_dw",
)  # fmt: skip
WITHOUT_LOSS = ("lad_student", "ld")
"""Their losses need a teacher."""
CASES = [name for name in names("heads") if not isinstance(name, str) or name in MINE]


@pytest.mark.parametrize("name", CASES)
def test_maps_are_those_of_the_reference(name: str) -> None:
    check_maps(name)


@pytest.mark.parametrize("name", [name for name in CASES if name not in WITHOUT_LOSS])
def test_losses_are_those_of_the_reference(name: str) -> None:
    check_loss(name)


@pytest.mark.parametrize("name", CASES)
def test_boxes_are_those_of_the_reference(name: str) -> None:
    check_predictions(name)
