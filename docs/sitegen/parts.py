"""The config reference: a page for each kind of part that a config can name, out of signatures and docstrings."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from hatdet.registry import resolve, shipped_names
from sitegen import options
from sitegen.text import cell, code, parse

MMDET = "mmdet."


class Kind(NamedTuple):
    """A page: its name, its title, and the packages or modules of its parts."""

    page: str
    title: str
    modules: tuple[str, ...]
    mmdet: bool = False


KINDS = (
    Kind("detectors", "Detectors and classifiers", ("hatdet.models.detectors", "hatdet.models.classifiers")),
    Kind("backbones", "Backbones", ("hatdet.models.backbones",)),
    Kind("necks", "Necks", ("hatdet.models.necks",)),
    Kind("heads", "Heads", ("hatdet.models.heads",)),
    Kind("light", "Light detectors and their heads", ("hatdet.models.light",)),
    Kind("losses", "Losses", ("hatdet.models.losses",)),
    Kind("first_weights", "First weights, teachers", ("hatdet.models.pretrained", "hatdet.models.teaching")),
    Kind("task_modules", "Priors, coders, assigners, post-processing", ("hatdet.models.task_modules",)),
    Kind("data", "Data sets, samplers, loaders", ("hatdet.data",)),
    Kind("transforms", "Transforms", ("hatdet.data.transforms",)),
    Kind("training", "Trainers, calibrator, predictor", ("hatdet.engine", "hatdet.commands")),
    Kind("callbacks", "Callbacks", ("hatdet.engine.callbacks",)),
    Kind("metrics", "Metrics", ("hatdet.metrics",)),
    Kind("quantization", "Converters of the stages", ("hatdet.quantization",)),
    Kind("mmdet_detectors", "Detectors", ("hatdet.models.mmdet.detectors",), True),
    Kind("mmdet_backbones", "Backbones", ("hatdet.models.mmdet.backbones",), True),
    Kind("mmdet_necks", "Necks", ("hatdet.models.mmdet.necks",), True),
    Kind("mmdet_heads", "Heads", ("hatdet.models.mmdet.heads",), True),
    Kind("mmdet_losses", "Losses", ("hatdet.models.mmdet.losses",), True),
    Kind("mmdet_layers", "Layers", ("hatdet.models.mmdet.layers",), True),
    Kind("mmdet_task_modules", "Task modules", ("hatdet.models.mmdet",), True),
    Kind("mmdet_transforms", "Transforms", ("hatdet.data.transforms.mmdet",), True),
    Kind("mmdet_data", "Data sets and metrics", ("hatdet.data", "hatdet.metrics"), True),
)
"""A part stands on the page with the longest name of a package that it is in."""


def kind_of(name: str, module: str) -> Kind:
    """The page of a registered name.

    Raises:
        LookupError: there is none: add a row to :data:`KINDS`.
    """
    fits = [
        (len(prefix), kind)
        for kind in KINDS
        for prefix in kind.modules
        if f"{module}.".startswith(f"{prefix}.") and kind.mmdet == name.startswith(MMDET)
    ]
    if not fits:
        raise LookupError(f"{name} of {module} has no page in the config reference")
    return max(fits, key=lambda fit: fit[0])[1]


def parts() -> dict[Kind, dict[str, tuple[Callable[..., Any], list[str]]]]:
    """By page: names -> the part, and its other names."""
    made: dict[Kind, dict[str, tuple[Callable[..., Any], list[str]]]] = {kind: {} for kind in KINDS}
    seen: dict[tuple[int, bool], tuple[Kind, str]] = {}
    names = shipped_names()
    for name in sorted(names, key=lambda name: (name.rpartition(".")[2] != resolve(name).__name__, name.lower())):
        part = resolve(name)
        key = (id(part), name.startswith(MMDET))
        if key in seen:
            kind, first = seen[key]
            made[kind][first][1].append(name)
        else:
            seen[key] = (kind_of(name, names[name]), name)
            made[seen[key][0]][name] = (part, [])
    return made


def pages() -> dict[str, str]:
    found = parts()
    made = {f"reference/{kind.page}.md": page(kind, inside) for kind, inside in found.items()}
    return {"reference/index.md": index(found)} | options.pages() | made


def nav() -> list[dict[str, Any] | str]:
    def row(kind: Kind) -> dict[str, Any]:
        return {kind.title: f"reference/{kind.page}.md"}

    theirs = [row(kind) for kind in KINDS if kind.mmdet]
    own = [row(kind) for kind in KINDS if not kind.mmdet]
    return ["reference/index.md", "reference/options.md", *own, {"In MMDetection's words": theirs}]


INDEX = """\
# Config reference

A config names its parts: `dict(type="Name", argument=value)`. These pages have every name and its arguments, out of the
code itself. What the shipped configs offer as options, `--cfg-options epochs=100`, is under [Options](options.md).

An argument whose type is a part (`nn.Module`, `AnchorGenerator`) takes a dict with a `type` of its own. A name or an
argument that does not exist is refused before anything is built, with the nearest that does.
"""


def index(found: dict[Kind, dict[str, tuple[Callable[..., Any], list[str]]]]) -> str:
    lines = [INDEX]
    for mmdet, title in ((False, "hatdet's own"), (True, "In MMDetection's words")):
        lines += ["", f"## {title}", ""]
        for kind, inside in found.items():
            if kind.mmdet == mmdet:
                links = ", ".join(f"[`{name}`]({kind.page}.md#{name.lower()})" for name in inside)
                lines += [f"**[{kind.title}]({kind.page}.md)**: {links}", ""]
    return "\n".join(lines)


def page(kind: Kind, inside: dict[str, tuple[Callable[..., Any], list[str]]]) -> str:
    lines = [f"# {kind.title}", ""]
    for name, (part, others) in inside.items():
        lines += [*entry(name, part, others), ""]
    return "\n".join(lines)


def entry(name: str, part: Callable[..., Any], others: list[str]) -> Iterator[str]:
    """A part: heading, what it is, arguments."""
    yield f"## `{name}` {{#{name.lower()}}}"
    yield ""
    parameters = arguments_of(part)
    own = inspect.getdoc(part) if part.__doc__ else ""
    docs = parse(own or "", [parameter.name for parameter in parameters])
    yield docs.text
    yield ""
    for title, text in docs.rest.items():
        yield f"*{title}:*\n\n{text}\n"
    if parameters:
        yield "| argument | type | default | |"
        yield "|---|---|---|---|"
        for parameter in parameters:
            default = "needed" if parameter.default is parameter.empty else code(shown(parameter.default))
            if parameter.kind is parameter.VAR_KEYWORD:
                default = ""
            meaning = docs.arguments.get(parameter.name) or inherited(part, parameter.name)
            yield f"| `{parameter.name}` | {type_text(parameter.annotation)} | {default} | {meaning} |"
        yield ""
    also = f" Also `{'`, `'.join(others)}`." if others else ""
    yield f"<small>`{part.__module__.replace('.', '/')}.py`.{also}</small>"


def arguments_of(part: Callable[..., Any]) -> list[inspect.Parameter]:
    """The parameters of a class's constructor, or of a function; of ``**kwargs`` those of the class that takes them."""
    return [each for each in inspect.signature(part).parameters.values() if each.kind is not each.VAR_POSITIONAL]


def inherited(part: Callable[..., Any], name: str) -> str:
    """What a base class says about an argument."""
    for base in getattr(part, "__mro__", ())[1:]:
        if base.__module__.startswith("hatdet.") and base.__doc__ and "__init__" in vars(base):
            found = parse(inspect.cleandoc(base.__doc__), [name]).arguments.get(name)
            if found:
                return found
    return ""


def shown(value: object) -> str:
    return value.__name__ if isinstance(value, type) else repr(value)


def type_text(annotation: object) -> str:
    """A parameter's annotation, as a reader of a config thinks of it."""
    if annotation is inspect.Parameter.empty:
        return ""
    text = annotation if isinstance(annotation, str) else str(getattr(annotation, "__name__", repr(annotation)))
    text = re.sub(r"\bAnnotated\[Factory, [^\]]*\]", "part", text)
    text = re.sub(r"\b(?:collections\.abc|typing|torch\.nn|nn|torch)\.(?=[A-Z])", "", text)
    return cell(code(text)) if "`" in text else code(text)
