"""What is installed: every file of the package that is no module stands in ``package_data``."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_files_that_are_no_modules_are_packed() -> None:
    calls = [node for node in ast.walk(ast.parse((ROOT / "setup.py").read_text(encoding="utf-8")))
             if isinstance(node, ast.Call)]  # fmt: skip
    (patterns,) = (ast.literal_eval(word.value)["hatdet"] for c in calls for word in c.keywords
                   if word.arg == "package_data")  # fmt: skip
    package = ROOT / "hatdet"
    packed = {path for pattern in patterns for path in package.glob(pattern)}
    others = {
        path
        for path in package.rglob("*")
        if path.is_file() and path.suffix not in (".py", ".pyc") and "__pycache__" not in path.parts
    }
    assert others == packed
