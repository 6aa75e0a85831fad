"""Docstrings and help texts as Markdown."""

from __future__ import annotations

import re
from typing import NamedTuple

SECTIONS = ("Args", "Raises", "Returns", "Yields", "Attributes", "Note", "Example", "Examples")
_SECTION = re.compile(rf"^({'|'.join(SECTIONS)}):$")
_ROLE = re.compile(r":(?:class|func|mod|meth|attr|data|exc):`~?([^`]*)`")
_ARGUMENT = re.compile(r"^(?P<names>\*{0,2}\w+(?:, \*{0,2}\w+)*): (?P<text>.*)")
_FLAG = re.compile(r"(?<![\w`/-])(--[a-z][\w-]*(?:[ =](?:[A-Z][A-Z_]*\b))?)")


class Docstring(NamedTuple):
    """What stands before the sections, the arguments by name, and the other sections by name."""

    text: str
    arguments: dict[str, str]
    rest: dict[str, str]


def parse(docstring: str, parameters: list[str]) -> Docstring:
    """A cleaned docstring in Google's style; ``parameters`` are the names that an argument can have."""
    parts: dict[str, list[str]] = {"": []}
    section = ""
    for line in docstring.split("\n"):
        found = _SECTION.match(line)
        if found:
            section = found[1]
            parts[section] = []
        elif section and line and not line.startswith(" "):
            section = ""
            parts[""] += ["", line]
        else:
            parts[section].append(line)
    rest = {name: markdown(dedented(lines)) for name, lines in parts.items() if name not in ("", "Args")}
    return Docstring(markdown("\n".join(parts[""]).strip()), _arguments(parts.get("Args", []), parameters), rest)


def dedented(lines: list[str]) -> str:
    depth = min((len(line) - len(line.lstrip()) for line in lines if line.strip()), default=0)
    return "\n".join(line[depth:] for line in lines).strip()


def _arguments(lines: list[str], parameters: list[str]) -> dict[str, str]:
    entries: list[tuple[list[str], str]] = []
    for line in dedented(lines).split("\n"):
        found = _ARGUMENT.match(line)
        if found:
            entries.append((found["names"].replace("*", "").split(", "), found["text"]))
        elif entries:
            entries[-1] = (entries[-1][0], f"{entries[-1][1]} {line.strip()}".rstrip())
    made: dict[str, str] = {}
    for names, text in entries:
        for part in _several(text, parameters):
            made |= {name: cell(_spoken(part[1])) for name in (part[0] or names)}
    return made


def _several(text: str, parameters: list[str]) -> list[tuple[list[str], str]]:
    """``first. b: second.`` as [([], "first."), (["b"], "second.")]: arguments that share a line."""
    made, start, names = [], 0, list[str]()
    for found in re.finditer(r"(?<=\. )(\w+(?:, \w+)*): ", text):
        if all(name in parameters for name in found[1].split(", ")):
            made.append((names, text[start : found.start()].strip()))
            start, names = found.end(), found[1].split(", ")
    return [*made, (names, text[start:].strip())]


def _spoken(text: str) -> str:
    """Roles and double backticks as code."""
    return re.sub(r"``([^`]+)``", r"`\1`", _ROLE.sub(lambda m: f"`{m[1].rpartition('.')[2] or m[1]}`", text))


def markdown(text: str) -> str:
    """reStructuredText as our docstrings have it: roles, literals, and blocks of code behind ``::``."""
    lines, made, code = text.split("\n"), list[str](), False
    for index, line in enumerate(lines):
        if code and line.strip() and not line.startswith(" "):
            made += ["```", ""]
            code = False
        if code:
            made.append(line[4:] if line.startswith("    ") else line)
            continue
        following = [each for each in lines[index + 1 :] if each.strip()]
        if line.endswith("::") and following and following[0].startswith(" "):
            made += [escaped(_spoken(line[:-1])), "", "```python"]
            code = True
        else:
            made.append(line if line.lstrip().startswith("|") else escaped(_spoken(line)))
    text = "\n".join([*made, "```"] if code else made)
    return re.sub(r"\s+\n```(?=\n|$)", "\n```", re.sub(r"```python\n\s*\n", "```python\n", text))


def escaped(text: str) -> str:
    """Text in which Markdown and HTML see nothing of their own, but for what stands in backticks."""
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(part if part.startswith("`") else _plain(part) for part in parts)


def _plain(text: str) -> str:
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([*\[\]]|(?<!\w)_|_(?!\w))", r"\\\1", text)


def cell(text: str) -> str:
    """Text for a cell of a table."""
    return escaped(" ".join(text.split())).replace("|", "\\|")


def prose(text: str) -> str:
    """A line of a help text, with its flags as code."""
    return escaped(_FLAG.sub(r"`\1`", text.strip()))


def help_cell(text: str) -> str:
    """A help text for a cell of a table."""
    return prose(" ".join(text.split())).replace("|", "\\|")


def code(text: str) -> str:
    """Code for a cell of a table."""
    return f"`` {text} ``".replace("|", "\\|") if "`" in text else f"`{text}`".replace("|", "\\|")
