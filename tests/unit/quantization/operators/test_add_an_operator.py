"""The page docs/add_an_operator.md, followed: its code adds an operator that goes the whole road."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import hatdet.quantization.operators.table as forms
from hatdet.export.forms import Refusal
from hatdet.export.onnx.exact_writer import ExactWriter
from hatdet.export.onnx.operators import exact as exact_operators
from hatdet.export.tflite.int8_writer import Int8Writer
from hatdet.export.tflite.operators import int8 as int8_operators
from hatdet.export.tflite.options import pool_settings
from hatdet.integer.graph import IntGraph
from hatdet.integer.kernels import lookup
from hatdet.integer.operators.base import Kernel, Machine, OneInput, RealFunction, Settings
from hatdet.integer.operators.pointwise.function import function_table
from hatdet.integer.operators.table import OP_TYPES
from hatdet.integer.tensors import QuantParams
from hatdet.quantization.operators.base import Form, Run
from hatdet.quantization.operators.pointwise.lookup import real_inputs, run_lookup
from tests.helpers.compare import assert_equal_everywhere
from tests.helpers.forms import gradient_of
from tests.helpers.int_graphs import GraphBuilder, qparams
from tests.helpers.literal_integer import ORACLES, Arithmetic
from tests.helpers.spellings import check_spelling

PAGE = Path(__file__).parents[4] / "docs/add_an_operator.md"
EVERY = np.arange(-128, 128).astype(np.int8).reshape(1, 1, 16, 16)
NEEDED = (
    Any, ClassVar, ExactWriter, Form, Int8Writer, Kernel, Machine, NDArray, OneInput, QuantParams, RealFunction,
    Refusal, Run, Settings, Tensor, dataclass, function_table, lookup, np, nn, pool_settings, real_inputs, run_lookup,
    torch,
)  # fmt: skip
"""What the page's code uses, as its files would import it."""


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The names that the page's code defines, with its operator in the tables."""
    names: dict[str, Any] = {**globals(), "__name__": __name__}
    for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S):
        exec(compile(block, str(PAGE), "exec", dont_inherit=True), names)  # the page's own code
    op, form = names["SquaredReluOp"], names["SquaredReluForm"]()
    monkeypatch.setitem(OP_TYPES, op.kind, op)
    monkeypatch.setitem(forms.FORMS, op.kind, form)
    monkeypatch.setitem(int8_operators.FORMS, op, names["int8_by_table"])  # type: ignore[arg-type]
    monkeypatch.setitem(exact_operators.FORMS, op, names["exact"])  # type: ignore[arg-type]
    monkeypatch.setitem(ORACLES, op, oracle)
    return names


def oracle(graph: IntGraph, op: Any, ins: list[np.ndarray], _: Arithmetic) -> np.ndarray:
    x, y = graph.qparams(op.input), graph.qparams(op.output)
    real = np.maximum((ins[0] - x.zero_point) * x.scale, 0.0)
    return np.minimum(np.floor(real * real / y.scale + 0.5).astype(np.int64) + y.zero_point, 127)


def graph_of(x: QuantParams, y: QuantParams) -> IntGraph:
    g = GraphBuilder((1, 16, 16), x)
    return g.graph(g.apply("squared_relu", "x", "y", y))


def test_its_codes_are_the_formulas_in_every_runtime(page: dict[str, Any]) -> None:
    values = assert_equal_everywhere(graph_of(qparams(0.03, -20), qparams(0.04, -128)), EVERY)
    assert len(np.unique(values["y"])) == 97


def test_the_first_try_is_wrong_as_the_page_says(page: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(int8_operators.FORMS, page["SquaredReluOp"], page["int8"])  # type: ignore[arg-type]
    with pytest.raises(AssertionError, match="differ from the formulas"):
        for scale in np.linspace(0.01, 0.1, 20):
            assert_equal_everywhere(graph_of(qparams(float(scale), -20), qparams(float(scale) * 1.7, -128)), EVERY)


def test_a_network_with_it_goes_from_float_to_integers(page: dict[str, Any]) -> None:
    graph = check_spelling(page["SquaredRelu"](), ["squared_relu"])
    codes = np.random.default_rng(0).integers(-128, 128, (2, 3, 32, 64)).astype(np.int8)
    assert_equal_everywhere(graph, codes)


def test_its_gradient_is_that_of_the_real_function(page: dict[str, Any]) -> None:
    codes = torch.tensor([-8.0, 0.0, 2.0, 8.0, 100.0]).view(1, 1, 1, 5)
    (grad,) = gradient_of("squared_relu", [codes], [qparams(0.5, 0)], qparams(0.25, -128))
    assert grad.flatten().tolist() == [0.0, 0.0, 4.0, 16.0, 0.0]  # 2 x Sx / Sy; clamped at the end
