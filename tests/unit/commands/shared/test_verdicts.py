"""The line that says whether a file scored what the integer model scored."""

from __future__ import annotations

from hatdet.commands.shared.verdicts import compared, headline


def test_a_detector_and_a_classifier() -> None:
    file = "of the file"
    ap = {"AP50": 0.75, "AP": 0.1 + 0.2}
    assert compared(ap, (file, ap), []) == (
        "AP of int_infer 0.30000000000000004, of the file 0.30000000000000004: equal to the last digit"
    )
    top = {"top1": 0.5, "top5": 1.0}
    assert compared(top, (file, {**top, "top5": 0.75}), ["top5"]) == (
        "top1 of int_infer 0.5, of the file 0.5: DIFFERENT in top5"
    )
    assert compared({"AP": -1.0}, (file, {}), ["AP"]) == (
        "AP of int_infer not measured, of the file not measured: DIFFERENT in AP"
    )


def test_points_are_told_by_their_f1() -> None:
    assert headline({"F1": 0.8, "recall": 0.7, "AP": 0.001}) == "F1"
    assert (headline({"AP": 0.5}), headline({"top1": 0.9}), headline({})) == ("AP", "top1", "AP")
