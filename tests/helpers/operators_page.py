"""docs/operators.md, made from the tables of the house: ``python -m tests.helpers.operators_page --write``."""

from __future__ import annotations

import inspect
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch

from hatdet.export.forms import NO_SCALES, Refusal
from hatdet.export.onnx.exact import write_exact
from hatdet.export.onnx.qdq import write_qdq
from hatdet.export.savedmodel import operators as savedmodel
from hatdet.export.targets.table import get_target
from hatdet.export.tflite import int8
from hatdet.export.tflite.file_operators import FileModel, read_file
from hatdet.export.tflite.floating import write_float
from hatdet.export.tflite.operators import floating as tflite_floating
from hatdet.integer.executor import IntExecutor
from hatdet.integer.graph import IntGraph
from hatdet.integer.operators.pairs.mul import MulOp
from hatdet.integer.operators.pointwise.activation import ActivationOp
from hatdet.integer.operators.pointwise.activation_codes import UNIT_INTERVAL
from hatdet.integer.operators.pointwise.function import FUNCTIONS
from hatdet.integer.operators.table import OP_TYPES
from hatdet.integer.profiles.table import PROFILES
from hatdet.integer.tensors import TensorInfo
from hatdet.quantization.operators.table import FORMS
from tests.helpers.compare import exact_onnx_tensors, runtime_tensors
from tests.helpers.default_kernels import default_tensors
from tests.helpers.int_graphs import in_profile, random_codes
from tests.unit.export.test_forms import ONE, TABLES, graph_of, real_graph

PAGE = Path(__file__).parents[2] / "docs/operators.md"
HEAD = """# Operators

Made by `python -m tests.helpers.operators_page --write` from the tables that the tools themselves use; a test keeps
it up to date.

The files are those of one example each (`ONE` in `tests/unit/export/test_forms.py`); scales that kernels do not take
may add a QUANTIZE. *Exact on* is found by running the example: `all` are the torch executor (int8 and float32),
LiteRT's reference kernels, TensorFlow Lite Micro and the exact ONNX file. *In `xnnpack`* is the same with that
arithmetic (and the example's scales moved to where it wants them): `all` are the torch executor, LiteRT's default
kernels with one thread and with four, and the exact ONNX file. `tests/unit/integer` holds every operator to
both over all codes or pairs, at rounding ties and extreme scales. *Refused on* names the files that have no form of it,
and `ethos-u` where that example is left to the CPU, with the operators of the file that are. What no row accepts is
refused by name, with what to use instead, by `tools/check_model.py` and before any training.

"""


def page() -> str:
    """The page's text."""
    kinds = sorted(kind for kind in OP_TYPES if kind in FORMS)
    return HEAD + "\n\n".join("\n".join(rows) for rows in (_summary(kinds), _files(), _functions())) + "\n"


def _summary(kinds: list[str]) -> list[str]:
    rows = ["## What is accepted", "", "| operator | what it computes | torch spellings |", "|---|---|---|"]
    for kind in kinds:
        doc = inspect.cleandoc(OP_TYPES[kind].__doc__ or "").split("\n\n")[0].replace("\n", " ").replace("|", "\\|")
        rows.append(f"| `{kind}` | {doc} | {_spellings(FORMS[kind])} |")
    return rows


def _spellings(form: Any) -> str:
    modules = [m for m in (*form.modules, *form.spelled, *form.floats) if m.__module__.startswith("torch.")]
    names = [f"nn.{m.__name__}" for m in dict.fromkeys(modules)]
    names += [*form.written, *(f"{name}()" for name in sorted({*form.makers, *form.calls}))]
    return ", ".join(f"`{name}`" for name in names) or "(put in where scales have to change)"


def _files() -> list[str]:
    files = ("int8 .tflite", "float .tflite", "exact ONNX", "QDQ ONNX")
    heads = ("operator", *files, "exact on", "in `xnnpack`", "refused on")
    rows = ["## How files say it", "", f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for name in sorted(ONE):
        graph = graph_of(name)
        model = int8.write(graph)
        file = read_file(model)
        cells = [_file_codes(file), _float(name), *(_nodes(w(graph)) for w in (write_exact, write_qdq))]
        cells += [_exact_on(graph), _exact_in_xnnpack(graph_of(name)), _refused_on(name, file)]
        rows.append(f"| `{name}` | {' | '.join(cells)} |")
    return rows


def _codes(codes: Any) -> str:
    return ", ".join(dict.fromkeys(codes))


BEFORE = ("before",)
"""Tensors of the examples that only their operator reads."""


def _file_codes(file: FileModel) -> str:
    return _codes(op.code for op in file.operators if op.name not in BEFORE)


def _nodes(model: bytes) -> str:
    aside = {"Cast", "QuantizeLinear", "DequantizeLinear", "Identity"}
    nodes = onnx.load_from_string(model).graph.node
    kinds = [node.op_type for node in nodes if node.output[0].partition("/")[0] not in BEFORE]
    return _codes(kind for kind in kinds if kind not in aside) or _codes(kinds)


def _float(name: str) -> str:
    if name == "requantize":
        return "(nothing)"
    return _file_codes(read_file(write_float(real_graph(graph_of(name)), "{}")))


def _exact_on(graph: IntGraph) -> str:
    """Who computes the example's output as the executor does."""
    codes = random_codes((2, *graph.tensors["x"].shape))
    expected = IntExecutor(graph)(torch.from_numpy(codes))[0].numpy()
    found = {
        "torch": IntExecutor(graph, backend="float32")(torch.from_numpy(codes))[0].numpy(),
        **{name: tensors["y"] for name, tensors in runtime_tensors(graph, codes).items()},
        "ONNX": exact_onnx_tensors(graph, codes)["y"],
    }
    return _equal(found, expected)


def _exact_in_xnnpack(graph: IntGraph) -> str:
    """The same with the other arithmetic."""
    graph = in_xnnpack(graph)
    codes = random_codes((2, *graph.tensors["x"].shape))
    expected = IntExecutor(graph)(torch.from_numpy(codes))[0].numpy()
    found = {
        "torch": IntExecutor(graph, backend="float32")(torch.from_numpy(codes))[0].numpy(),
        "LiteRT default": default_tensors(graph, codes)["y"],
        "LiteRT default, 4 threads": default_tensors(graph, codes, threads=4)["y"],
        "ONNX": exact_onnx_tensors(graph, codes)["y"],
    }
    return _equal(found, expected)


def in_xnnpack(graph: IntGraph) -> IntGraph:
    """An example in that arithmetic: with its limits of activations, and scales on which x86 and ARM agree."""
    profile, tensors = PROFILES["xnnpack"], dict(graph.tensors)
    op: Any = graph.ops[-1]
    x, y = tensors[op.inputs[0]], tensors[op.output]
    if isinstance(op, MulOp):
        square = profile.square_scale(x.qparams.scale, y.qparams.scale)  # it is one: both inputs are the same
        y = _scaled(y, profile.product_scale([(x.qparams.scale, x.qparams.scale)], square))
    elif isinstance(op, ActivationOp) and op.function == "silu":
        y = _scaled(y, profile.product_scale([(x.qparams.scale, UNIT_INTERVAL.scale)], y.qparams.scale))
    elif isinstance(op, ActivationOp):
        x = _scaled(x, profile.activation_scale(op.function, x.qparams, y.qparams))
    tensors |= {x.name: x, y.name: y} if op.inputs[0] != op.output else {}
    return in_profile(replace(graph, tensors=tensors), "xnnpack")


def _scaled(info: TensorInfo, scale: float) -> TensorInfo:
    return replace(info, qparams=replace(info.qparams, scale=scale))


def _equal(found: dict[str, np.ndarray], expected: np.ndarray) -> str:
    equal = [name for name, value in found.items() if np.array_equal(value, expected)]
    return "all" if len(equal) == len(found) == 4 else ", ".join(equal)


def _refused_on(name: str, file: FileModel) -> str:
    op = graph_of(name).ops[-1]
    refusing = [
        writer
        for writer, forms in TABLES.items()
        if isinstance(forms[type(op)], Refusal) and forms[type(op)] is not NO_SCALES
    ]
    left = _codes(v.code for v in get_target("ethos-u55-128").violations(file))
    return ", ".join([*refusing, *([f"ethos-u ({left})"] if left else [])]) or "-"


def _functions() -> list[str]:
    """Of the operator ``function``: which float files have which."""
    rows = ["## Functions by table", "", "| function | float .tflite | SavedModel |", "|---|---|---|"]
    for function in FUNCTIONS:
        tables = (tflite_floating.BY_FUNCTION, savedmodel.BY_FUNCTION)
        rows.append(
            f"| `{function}` | "
            + " | ".join("refused" if isinstance(t[function], Refusal) else "yes" for t in tables)
            + " |"
        )
    return rows


if __name__ == "__main__":
    if sys.argv[1:] == ["--write"]:
        PAGE.write_text(page(), encoding="utf-8")
    else:
        print(page())
