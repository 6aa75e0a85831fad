from __future__ import annotations

import pytest

from hatdet.engine.callbacks.watching.text import bar, duration, fitted, short_name, terms
from hatdet.utils.pace import roughly


@pytest.mark.parametrize(
    "seconds, text",
    [(0.2, "1 s"), (89, "89 s"), (90, "2 min"), (1500, "25 min"), (5400, "1 h 30 min"), (7190, "2 h"),
     (12060, "3 h 20 min"), (200000, "2.3 days")],
)  # fmt: skip
def test_an_estimate_is_as_exact_as_it_can_be(seconds: float, text: str) -> None:
    assert roughly(seconds) == text


def test_a_duration() -> None:
    assert duration(65.4) == "0:01:05"


def test_names_and_values_of_losses() -> None:
    assert [short_name(name) for name in ("loss", "loss_cls", "obj_loss", "accuracy")] == [
        "loss",
        "cls",
        "obj",
        "accuracy",
    ]
    assert terms({"loss": 2.0939, "loss_bbox": 1.2393}, 3) == ["loss 2.094", "bbox 1.239"]


def test_a_line_ends_before_the_part_that_does_not_fit() -> None:
    assert fitted(["epoch 1/2", "eta 0:00:05", "loss 2.0"], 31) == "epoch 1/2  eta 0:00:05"
    assert fitted(["epoch 1/2", "eta 0:00:05", "loss 2.0"], 32) == "epoch 1/2  eta 0:00:05  loss 2.0"


def test_a_bar() -> None:
    assert bar(0, 8, 4) == "────  0/8"
    assert bar(3, 8, 4) == "━━──  3/8"
    assert bar(8, 8, 4) == "━━━━  8/8"
