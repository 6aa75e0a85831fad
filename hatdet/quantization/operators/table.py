"""All forms: the files in this folder are the list."""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any

from torch import nn

from hatdet.integer.operators.table import OP_TYPES
from hatdet.quantization import operators
from hatdet.quantization.operators.base import Form, Maker


def _found() -> dict[str, Form]:
    forms: dict[str, Form] = {}
    for module in pkgutil.walk_packages(operators.__path__, f"{operators.__name__}."):
        if module.ispkg or module.name == __name__:
            continue
        for value in vars(importlib.import_module(module.name)).values():
            if isinstance(value, type) and issubclass(value, Form) and value.__module__ == module.name:
                if "op" in value.__dict__:
                    assert value.op.kind not in forms, value.op.kind
                    forms[value.op.kind] = value()
    return {kind: forms[kind] for kind in OP_TYPES if kind in forms}


FORMS = _found()
MAKERS: dict[str, Maker] = {name: maker for form in FORMS.values() for name, maker in form.makers.items()}
CALLS: dict[str, Form] = {name: form for form in FORMS.values() for name in form.calls}
FUNCTIONS: dict[Any, Form] = {function: form for form in FORMS.values() for function in form.functions}


def form_of(module: nn.Module) -> Form | None:
    """The operator that a module stands for."""
    for cls in type(module).__mro__:
        for form in FORMS.values():
            if cls in (*form.modules, *form.spelled, *form.floats, *form.quantized) and form.accepts(module):
                if cls is type(module) or cls in form.subclasses:
                    return form
    return None
