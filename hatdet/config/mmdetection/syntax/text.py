"""What stands in double braces in a config: the file's own name, environment variables, values of the base files."""

from __future__ import annotations

import ast
import os
import re
from pathlib import Path

from hatdet.utils.errors import ConfigError

_BASE = "_base_"
_VARIABLE = re.compile(r"""\{\{['"]?\s*\$(?P<name>\w+)\s*:\s*(?P<default>\S*?)\s*['"]?\}\}""")
_WHOLE = re.compile(r"\{\{\s*(_base_(?:\.\w+)+)\s*\}\}")


def substitute(text: str, file: Path) -> str:
    """``text`` with ``{{ fileBasename }}``, ``{{fileDirname}}``, ``{{ $NAME:default }}`` ... replaced.

    Raises:
        ConfigError: an environment variable that is not set and has no default.
    """
    words = {
        "fileDirname": str(file.parent),
        "fileBasename": file.name,
        "fileBasenameNoExtension": file.stem,
        "fileExtname": file.suffix,
    }
    for word, value in words.items():
        text = re.sub(r"\{\{\s*" + word + r"\s*\}\}", value.replace("\\", "/"), text)

    def variable(match: re.Match[str]) -> str:
        value = os.environ.get(match["name"], match["default"])
        if not value:
            raise ConfigError(
                f"{file}: the environment has no {match['name']} and {match[0]} has no default; "
                f"set {match['name']}, or write {{{{${match['name']}:default}}}}"
            )
        return value

    return _VARIABLE.sub(variable, text)


class BaseReferences(ast.NodeTransformer):
    """``{{_base_.x.y}}``, bare (Python reads sets in it) or as or in text, becomes the expression ``_base_.x.y``."""

    def visit_Set(self, node: ast.Set) -> ast.AST:
        """``{{_base_.x}}``."""
        inner = node.elts[0] if len(node.elts) == 1 else None
        found = inner.elts[0] if isinstance(inner, ast.Set) and len(inner.elts) == 1 else None
        if found is not None and ast.unparse(found).startswith(f"{_BASE}."):
            return ast.copy_location(found, node)
        return self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        """``"{{_base_.x}}"`` and ``"a{{_base_.x}}b"``."""
        if not isinstance(node.value, str) or not _WHOLE.search(node.value):
            return node
        pieces = _WHOLE.split(node.value)  # text, reference, text, ...
        if len(pieces) == 3 and not pieces[0] and not pieces[2]:
            return _placed(ast.parse(pieces[1], mode="eval").body, node)
        parts: list[ast.expr] = []
        for index, piece in enumerate(pieces):
            if index % 2:
                parts.append(ast.FormattedValue(ast.parse(piece, mode="eval").body, -1, None))
            elif piece:
                parts.append(ast.Constant(piece))
        return _placed(ast.JoinedStr(parts), node)

    def visit_JoinedStr(self, node: ast.JoinedStr) -> ast.AST:
        """An f-string keeps its pieces of text: double braces mean braces there."""
        return node


def _placed(new: ast.expr, at: ast.AST) -> ast.expr:
    for child in ast.walk(new):
        ast.copy_location(child, at)
    return new
