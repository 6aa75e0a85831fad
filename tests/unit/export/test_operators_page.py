"""docs/operators.md says what the tables say."""

from __future__ import annotations

import pytest

pytest.importorskip("onnx", reason="onnx is not installed")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed")
pytest.importorskip("tflite_micro", reason="TFLite Micro is not installed")


def test_the_page_is_up_to_date() -> None:
    from tests.helpers.operators_page import PAGE, page

    hint = "run `python -m tests.helpers.operators_page --write`"
    assert PAGE.read_text(encoding="utf-8") == page(), hint
