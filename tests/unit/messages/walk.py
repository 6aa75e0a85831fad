"""Every message of an error for users in hatdet/ and tools/, as a template: ``lr is {lr}; it is above 0``."""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
FOLDERS = ("hatdet", "tools")
BASE = "UserError"


@dataclasses.dataclass(frozen=True, order=True)
class Message:
    """One message: where it is raised (module), and its text with ``{expressions}`` in it."""

    module: str
    template: str


def messages(root: Path = ROOT) -> dict[Message, str]:
    """Each message with one place (``file:line``) where it is made."""
    trees = {path: ast.parse(path.read_text(encoding="utf-8")) for path in _sources(root)}
    classes = error_classes(trees.values())
    everywhere = _shared([_constants(tree) for tree in trees.values()])
    found: dict[Message, str] = {}
    for path, tree in trees.items():
        texts = everywhere | _constants(tree)
        module = ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")
        for call in _calls(tree, classes):
            template = render(call.args[0], texts)
            if template.strip("{}").isidentifier() or "{" not in template.replace(" ", "{", 1):
                continue  # a text that was made elsewhere
            found.setdefault(Message(module, template), f"{path.relative_to(root)}:{call.lineno}")
    return dict(sorted(found.items()))


def _sources(root: Path) -> Iterator[Path]:
    for folder in FOLDERS:
        yield from sorted((root / folder).rglob("*.py"))


def error_classes(trees: Iterator[ast.Module] | object) -> set[str]:
    """UserError and all classes derived from it."""
    bases: dict[str, set[str]] = {}
    for tree in trees:  # type: ignore[attr-defined]
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                bases[node.name] = {base.id for base in node.bases if isinstance(base, ast.Name)}
    found, size = {BASE}, 0
    while len(found) > size:
        size = len(found)
        found |= {name for name, parents in bases.items() if parents & found}
    return found


def _calls(tree: ast.Module, classes: set[str]) -> Iterator[ast.Call]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in classes and node.args:
            yield node


def _constants(tree: ast.Module) -> dict[str, str]:
    """Texts that a module gives a name in capitals."""
    return {
        target.id: node.value.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        for target in node.targets
        if isinstance(target, ast.Name) and target.id.isupper()
    }


def _shared(modules: list[dict[str, str]]) -> dict[str, str]:
    """The texts whose names mean one thing everywhere: they may be imported."""
    texts: dict[str, set[str]] = {}
    for module in modules:
        for name, text in module.items():
            texts.setdefault(name, set()).add(text)
    return {name: next(iter(found)) for name, found in texts.items() if len(found) == 1}


def render(node: ast.expr, texts: dict[str, str]) -> str:
    """The template of an expression that makes a text."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(render(part, texts) for part in node.values)
    if isinstance(node, ast.FormattedValue):
        plain = isinstance(node.value, (ast.Constant, ast.JoinedStr, ast.Name))
        return render(node.value, texts) if plain else _expression(node.value)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return render(node.left, texts) + render(node.right, texts)
    if isinstance(node, ast.Name) and node.id in texts:
        return texts[node.id]
    return _expression(node)


def _expression(node: ast.expr) -> str:
    return "{" + " ".join(ast.unparse(node).split()).replace("{", "(").replace("}", ")") + "}"
