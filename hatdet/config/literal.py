"""Reading a resolved config without running it: what :mod:`hatdet.config.dump` writes is nearly all literals.

A checkpoint carries its config as source. A config is code, and a checkpoint may come from anywhere, so its text is
read, never executed.
"""

from __future__ import annotations

import ast
from typing import Any

_FLOATS = {f"float('{text}')": float(text) for text in ("inf", "-inf", "nan")}


class Unread:
    """Stands for a value that is no literal: an object, a call."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return f"<{self.text}>"


def read_values(text: str) -> dict[str, Any]:
    """Name -> value of every assignment of a resolved config.

    Literals, ``dict(...)``, names assigned before and ``work_dir + "..."`` are values; a class (``torch.optim.AdamW``)
    is its path as text, which the registry takes too; anything else is an :class:`Unread`. A text that is no Python
    gives no names.
    """
    try:
        statements = ast.parse(text).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return {}
    values: dict[str, Any] = {}
    for node in statements:
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            values[node.targets[0].id] = _value(node.value, values)
    return values


def _value(node: ast.expr, names: dict[str, Any]) -> Any:
    if isinstance(node, ast.Dict) and all(node.keys):
        keys = [_value(key, names) for key in node.keys if key is not None]
        if all(isinstance(key, (str, int, float, bool, tuple, type(None))) for key in keys):
            return dict(zip(keys, (_value(item, names) for item in node.values), strict=True))
    if isinstance(node, (ast.List, ast.Tuple)):
        items = [_value(item, names) for item in node.elts]
        return items if isinstance(node, ast.List) else tuple(items)
    if isinstance(node, ast.Name):
        return names.get(node.id, node.id)
    if isinstance(node, ast.Attribute):
        return ast.unparse(node)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "dict" and not node.args:
        if all(word.arg for word in node.keywords):
            return {str(word.arg): _value(word.value, names) for word in node.keywords}
    if isinstance(node, ast.Call) and ast.unparse(node) in _FLOATS:
        return _FLOATS[ast.unparse(node)]
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        left, right = _value(node.left, names), _value(node.right, names)
        if isinstance(left, str) and isinstance(right, str):
            return left + right
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        return Unread(ast.unparse(node))
