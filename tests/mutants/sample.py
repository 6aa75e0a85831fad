"""Draws the mutants: one token of one line each, made by Cosmic Ray's operators.

Each place (the token that changes) is ranked by a digest of the seed, its file, its line's text and the change; the
first ``count`` are the sample. The draw is therefore the same on every machine, and an edit changes the mutants of the
lines it touches and of no other.
"""

from __future__ import annotations

import ast
import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import parso.python.tree
from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.operators.operator import Operator
from cosmic_ray.plugins import get_operator

Position = tuple[int, int]

# The nearest other operator each: `+` for `|` would be noticed by any test that runs the line.
BINARY = [
    ("Add", "Sub"), ("Sub", "Add"), ("Mul", "Div"), ("Mul", "Add"), ("Div", "Mul"), ("Div", "FloorDiv"),
    ("FloorDiv", "Mul"), ("FloorDiv", "Div"), ("Mod", "FloorDiv"), ("Pow", "Mul"), ("RShift", "LShift"),
    ("LShift", "RShift"), ("BitOr", "BitAnd"), ("BitAnd", "BitOr"), ("BitXor", "BitOr"),
]  # fmt: skip
COMPARISON = [
    ("Lt", "LtE"), ("Lt", "GtE"), ("LtE", "Lt"), ("LtE", "Gt"), ("Gt", "GtE"), ("Gt", "LtE"), ("GtE", "Gt"),
    ("GtE", "Lt"), ("Eq", "NotEq"), ("NotEq", "Eq"), ("Is", "IsNot"), ("IsNot", "Is"),
]  # fmt: skip
UNARY = ["USub_UAdd", "Delete_USub", "Delete_Invert", "Delete_Not"]
OTHER = [
    "AddNot", "ReplaceTrueWithFalse", "ReplaceFalseWithTrue", "ReplaceAndWithOr", "ReplaceOrWithAnd",
    "ReplaceBreakWithContinue", "ReplaceContinueWithBreak", "ExceptionReplacer", "NumberReplacer", "RemoveDecorator",
    "ZeroIterationForLoop",
]  # fmt: skip
NAMES = [
    *(f"ReplaceBinaryOperator_{old}_{new}" for old, new in BINARY),
    *(f"ReplaceComparisonOperator_{old}_{new}" for old, new in COMPARISON),
    *(f"ReplaceUnaryOperator_{name}" for name in UNARY),
    *OTHER,
]


class SwapName(Operator):
    """What Cosmic Ray lacks: functions that come in pairs, ``min`` for ``max``."""

    PAIRS = [
        ("min", "max"),
        ("any", "all"),
        ("floor", "ceil"),
        ("argmin", "argmax"),
        ("amin", "amax"),
        ("zeros", "ones"),
    ]
    OTHER = {a: b for pair in PAIRS for a, b in (pair, pair[::-1])}

    def mutation_positions(self, node: Any) -> Iterator[tuple[Position, Position]]:
        """Where one of the names is used."""
        if isinstance(node, parso.python.tree.Name) and node.value in self.OTHER:
            yield node.start_pos, node.end_pos

    def mutate(self, node: Any, index: int) -> Any:
        """The other name of the pair in its place."""
        node.value = self.OTHER[node.value]
        return node

    @classmethod
    def examples(cls) -> tuple[Any, ...]:
        """None: the base class asks for them."""
        return ()


@dataclass(frozen=True)
class Mutant:
    """One changed token of ``path``: ``before`` and ``after`` are the stripped lines that differ."""

    path: str
    folder: str
    operator: str
    occurrence: int
    line: int
    before: str
    after: str
    code: str

    @property
    def key(self) -> tuple[str, str, str]:
        """What it is called in equivalent.toml: it survives a shift of lines."""
        return self.path, self.before, self.after


def operators() -> dict[str, Operator]:
    """Every operator of the sample by name."""
    return {name: get_operator(f"core/{name}")() for name in NAMES} | {"SwapName": SwapName()}


def _unread(source: str) -> list[tuple[Position, Position]]:
    """Stretches that are never run as code: annotations, and whether the imports for them are made."""
    spans = []
    for node in ast.walk(ast.parse(source)):
        parts = [getattr(node, field, None) for field in ("annotation", "returns")]
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            parts.append(node.test)
        for part in parts:
            if part is not None:
                spans.append(((part.lineno, part.col_offset), (part.end_lineno, part.end_col_offset)))
    return spans


def _is_marker(node: Any) -> bool:
    """Whether this is the `*` or `/` between parameters."""
    return node.type == "operator" and node.parent.type in ("parameters", "lambdef", "param")


@dataclass(frozen=True)
class _Place:
    operator: str
    occurrence: int
    start: Position


def _places(source: str) -> Iterator[_Place]:
    unread = _unread(source)
    counts: Counter[str] = Counter()
    known = operators().items()
    for node in ast_nodes(get_ast(source)):
        for name, operator in known:
            for start, _ in operator.mutation_positions(node):
                place = _Place(name, counts[name], start)
                counts[name] += 1
                if not any(first <= start < last for first, last in unread) and not _is_marker(node):
                    yield place


def _changed(source: str, code: str, line: int) -> tuple[str, str]:
    """The line before and after, or what goes where a whole line goes (a decorator)."""
    old, new = source.splitlines(), code.splitlines()
    if len(old) != len(new):
        return old[line - 1].strip(), "(removed)"
    return old[line - 1].strip(), new[line - 1].strip()


def _compiles(code: str) -> bool:
    try:
        compile(code, "<mutant>", "exec")
    except (SyntaxError, ValueError):
        return False
    return True


def draw(root: Path, files: dict[str, str], count: int, seed: int) -> list[Mutant]:
    """The sample: at most one mutant for a token, ``count`` in all (fewer where there are not as many tokens)."""
    ranked: list[tuple[str, str, _Place]] = []
    sources = {path: (root / path).read_text(encoding="utf-8") for path in files}
    for path, source in sources.items():
        lines = source.splitlines()
        seen: Counter[str] = Counter()
        for place in _places(source):
            text = f"{seed}|{path}|{lines[place.start[0] - 1].strip()}|{place.start[1]}|{place.operator}"
            seen[text] += 1
            ranked.append((hashlib.sha256(f"{text}|{seen[text]}".encode()).hexdigest(), path, place))
    known = operators()
    taken: set[tuple[str, Position]] = set()
    mutants: list[Mutant] = []
    for _, path, place in sorted(ranked, key=lambda item: item[0]):
        if len(mutants) == count:
            break
        if (path, place.start) in taken:
            continue
        code = mutate_code(sources[path], known[place.operator], place.occurrence)
        if code is None or not _compiles(code):
            continue
        taken.add((path, place.start))
        before, after = _changed(sources[path], code, place.start[0])
        mutants.append(Mutant(path, files[path], place.operator, place.occurrence, place.start[0], before, after, code))
    return mutants
