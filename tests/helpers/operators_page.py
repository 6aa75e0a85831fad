"""docs/operators.md, made from the tables of the house: ``python -m tests.helpers.operators_page --write``."""

from __future__ import annotations

import inspect
import sys
from pathlib import Path
from typing import Any

import onnx

from hatdet.export.forms import Refusal
from hatdet.export.onnx.exact import write_exact
from hatdet.export.onnx.qdq import write_qdq
from hatdet.export.savedmodel import operators as savedmodel
from hatdet.export.targets.table import get_target
from hatdet.export.tflite import int8
from hatdet.export.tflite.file_operators import FileModel, read_file
from hatdet.export.tflite.floating import write_float
from hatdet.integer.operators.table import OP_TYPES
from hatdet.quantization.operators.table import FORMS
from hatdet.utils.errors import UserError
from tests.unit.export.test_forms import ONE, graph_of, real_graph

PAGE = Path(__file__).parents[2] / "docs/operators.md"
HEAD = """# Operators

Made by `python -m tests.helpers.operators_page --write` from the tables that the tools themselves use; a test keeps
it up to date.

Every operator below is **exact**: torch executor (int8 and float32), LiteRT's reference kernels, TensorFlow Lite Micro
and the exact ONNX file give the same codes (`tests/unit/integer`). The files are those of one example each (`ONE` in
`tests/unit/export/test_forms.py`); scales that kernels do not take may add a QUANTIZE. *Ethos-U* is Vela's placement
of that example on `ethos-u55-128`: `NPU`, or what is left to the CPU. What no row accepts is refused by name, with
what to use instead, by `tools/check_model.py` and before any training.

"""


def page() -> str:
    """The page's text."""
    kinds = sorted(kind for kind in OP_TYPES if kind in FORMS)
    return HEAD + "\n".join(_summary(kinds)) + "\n\n" + "\n".join(_files()) + "\n"


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
    heads = ("operator", "int8 .tflite", "float .tflite", "exact ONNX", "QDQ ONNX", "SavedModel", "Ethos-U")
    rows = ["## How files say it", "", f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for name in sorted(ONE):
        graph = graph_of(name)
        model = int8.write(graph)
        file = read_file(model)
        cells = [_file_codes(file), _float(name), *(_nodes(w(graph)) for w in (write_exact, write_qdq))]
        cells += [_savedmodel(name), _placement(file)]
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
    try:
        return _file_codes(read_file(write_float(real_graph(graph_of(name)), "{}")))
    except UserError as error:
        return f"refused: {str(error).split(') ', 1)[-1]}"


def _savedmodel(name: str) -> str:
    op = graph_of(name).ops[-1]
    form: Any = savedmodel.FORMS[type(op)]
    if hasattr(op, "function") and isinstance(op.function, str):
        table = getattr(savedmodel, "FUNCTIONS" if op.kind == "activation" else "BY_FUNCTION", {})
        form = table.get(op.function, form)
    return "(nothing)" if op.kind == "requantize" else "refused" if isinstance(form, Refusal) else "yes"


def _placement(file: Any) -> str:
    found = get_target("ethos-u55-128").violations(file)
    return "; ".join(dict.fromkeys(f"CPU: {v.code}" for v in found)) or "NPU"


if __name__ == "__main__":
    if sys.argv[1:] == ["--write"]:
        PAGE.write_text(page(), encoding="utf-8")
    else:
        print(page())
