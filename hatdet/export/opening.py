"""How a program opens an int8 file so that it gets the arithmetic that the file is made for.

LiteRT chooses kernels by the interpreter's options, not by the file: the wrong ones run it too, and say nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from textwrap import fill
from typing import Any

from hatdet.export.arithmetic import described, second_named
from hatdet.integer.arithmetic import PROFILE
from hatdet.integer.profiles.table import PROFILES

WIDE_VERSION = "2.1.3"
"""The first LiteRT that loads files with 16-bit outputs (QUANTIZE of int8 to int16): older ones refuse them."""


@dataclass(frozen=True)
class Opening:
    """Ways to one kind of LiteRT's kernels.

    Attributes:
        python: an expression, of ``path``. platforms: what to say of each. lacking: those of them that do not have
            these kernels. beware: what gets other kernels.
    """

    python: str
    platforms: dict[str, str]
    lacking: tuple[str, ...]
    beware: str


OPENINGS = {
    "reference": Opening(
        "Interpreter(path, experimental_op_resolver_type=OpResolverType.BUILTIN_REF)",
        {
            "C++": "InterpreterBuilder(*model, tflite::ops::builtin::BuiltinRefOpResolver()) (register_ref.h)",
            "Android (Java, Kotlin) and iOS": "their Interpreter has no reference kernels: call C++, or make the model "
            "with arithmetic='xnnpack'",
            "TensorFlow Lite Micro": "as it is, without TFLITE_SINGLE_ROUNDING",
        },
        ("Android (Java, Kotlin) and iOS",),
        "Interpreter(path) alone takes the default kernels, which round otherwise",
    ),
    "default": Opening(
        "Interpreter(path)",
        {
            "C++": "InterpreterBuilder(*model, tflite::ops::builtin::BuiltinOpResolver()), of a build with XNNPACK for "
            "int8 (tflite_with_xnnpack=true, tflite_with_xnnpack_qs8=true)",
            "Android (Java, Kotlin)": "new Interpreter(file), with setUseXNNPACK(true), which is the default, and no "
            "GPU or NNAPI delegate",
            "iOS (Swift)": "isXNNPackEnabled = true in the options",
            "TensorFlow Lite Micro": "other arithmetic: make the model with arithmetic='tflite_ref'",
        },
        ("TensorFlow Lite Micro",),
        "a build without XNNPACK, BUILTIN_REF, GPU and NPU delegates round otherwise, and say nothing",
    ),
}
"""By the kernels that a profile names (``Profile.litert``); a profile that LiteRT does not have has none."""


def opening_of(profile: str | None) -> Opening | None:
    """How files of an arithmetic are opened; None: with no kernels of LiteRT."""
    known = PROFILES.get(profile or "")
    return None if known is None else OPENINGS.get(str(known.litert))


def in_one_line(metadata: Mapping[str, Any]) -> str:
    """What the export says last of an int8 file."""
    profile, second = str(metadata.get("profile") or PROFILE), second_named(metadata)
    opening, other = opening_of(profile), opening_of(second)
    if opening is None:
        said = [f"arithmetic {described(profile)}: {_elsewhere(profile)}"]
    else:
        said = [f"arithmetic {profile}: open it with {opening.python} in Python{needs(metadata)}"]
        said += [opening.beware] if other is None else []
    if second is not None:
        how = _elsewhere(second) if other is None else other.python
        said.append(f"made for {second} too ({how}): {_DIFFERS}")
    return "; ".join(said)


def lines(metadata: Mapping[str, Any]) -> list[str]:
    """A line for each platform, for pages and comments."""
    profile, second = str(metadata.get("profile") or PROFILE), second_named(metadata)
    opening, alone = opening_of(profile), opening_of(second) is None
    said = [f"arithmetic {described(profile)}", *_ways(profile, metadata, alone)]
    if second is not None:
        said += [f"made for {described(second)} too: {_DIFFERS}", *_ways(second, metadata, False)]
    return [*said, f"beware: {opening.beware}"] if opening is not None and alone else said


_DIFFERS = "the same numbers but for what the export reported"


def _ways(profile: str, metadata: Mapping[str, Any], alone: bool) -> list[str]:
    """``alone``: there are no other kernels that the file is made for, so platforms that lack these are told of."""
    if (opening := opening_of(profile)) is None:
        return [_elsewhere(profile)]
    python = f"{opening.python} of ai_edge_litert.interpreter{needs(metadata)}"
    ways = {"Python": python, **opening.platforms}
    return [f"{name}: {how}" for name, how in ways.items() if alone or name not in opening.lacking]


def wrapped_lines(metadata: Mapping[str, Any], safe: Callable[[str], str], indent: str = "") -> str:
    """:func:`lines` as a list in a comment; ``safe`` makes a line one that cannot end it."""
    first, then = f"{indent}- ", f"{indent}  "
    said = [fill(safe(line), 116, initial_indent=first, subsequent_indent=then) for line in lines(metadata)]
    return "\n".join(said)


def _elsewhere(profile: str) -> str:
    known = PROFILES.get(profile)
    needed = " ".join(f"-D{word}" for word in (known.micro if known is not None else None) or ())
    return "no kernels of LiteRT have it" + (f"; TensorFlow Lite Micro built with {needed} has" if needed else "")


def has_wide_outputs(metadata: Mapping[str, Any]) -> bool:
    """Whether an output of the file has 16 bits."""
    return any(output.get("dtype") == "int16" for output in metadata.get("outputs") or ())


def needs(metadata: Mapping[str, Any]) -> str:
    """The version that a file needs, as an addition to a sentence; empty: any."""
    return f" (16-bit outputs: LiteRT {WIDE_VERSION} or later)" if has_wide_outputs(metadata) else ""
