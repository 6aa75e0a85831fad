"""Lines on how far something is."""

from __future__ import annotations

import pytest

from hatdet.utils import pace
from hatdet.utils.pace import Pace


def test_a_line_now_and_then_with_the_time_that_is_left(
    monkeypatch: pytest.MonkeyPatch, log: pytest.LogCaptureFixture
) -> None:
    now = [100.0]
    monkeypatch.setattr(pace.time, "monotonic", lambda: now[0])
    aligning = Pace("aligning", 5)
    for seconds in (6.0, 6.0, 30.0, 400.0, 6.0):
        now[0] += seconds
        aligning.step()
    assert log.messages == [
        "aligning: 2 of 5 images, about 18 s left",
        "aligning: 3 of 5 images, about 28 s left",
        "aligning: 4 of 5 images, about 2 min left",
    ]
    assert aligning.each == pytest.approx(448 / 5)
