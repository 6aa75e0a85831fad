"""The arithmetic that a file names, and ways out that have one, whatever the graph's is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hatdet.export.tflite.int8 import read_metadata
from hatdet.integer.arithmetic import PROFILE
from hatdet.integer.profiles.table import PROFILES, profile_named
from hatdet.utils.errors import UserError


def file_arithmetic(model: bytes) -> str:
    """Name of the arithmetic that an int8 ``.tflite`` is made for; the reference's where it does not say."""
    return str(_metadata(model).get("profile", PROFILE))


def file_second(model: bytes) -> str | None:
    """Name of a file's second arithmetic (``IntGraph.second``); None: it has none."""
    return second_named(_metadata(model))


def second_named(metadata: Mapping[str, Any]) -> str | None:
    """The same of a file's metadata."""
    name = metadata.get("second_profile")
    return None if name is None else str(name)


def named(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """What of a file's metadata names its arithmetic, and the second one where it has one."""
    return {key: metadata.get(key) for key in ("profile", "second_profile") if key == "profile" or key in metadata}


def _metadata(model: bytes) -> dict[str, Any]:
    try:
        return read_metadata(model)
    except ValueError:  # a file of another maker
        return {}


def other_kernels(arithmetic: str, second: str | None = None) -> str:
    """LiteRT's kernels beside those of an arithmetic; where it has none, those of the second."""
    own, then = (None if name is None else profile_named(name).litert for name in (arithmetic, second))
    if own is None:
        return then or "reference"
    return "default" if own == "reference" else "reference"


def described(arithmetic: str) -> str:
    """A name with what computes so, as far as this hatdet knows it."""
    profile = PROFILES.get(arithmetic)
    return arithmetic if profile is None else f"{arithmetic} ({profile.kernels})"


def refuse_other(profile: Any, what: str) -> None:
    """Refuse a model that is not made for the reference arithmetic.

    Args:
        profile: the name of the model's.
        what: what computes as the reference does, e.g. "TensorFlow Lite Micro".

    Raises:
        UserError: naming both.
    """
    if profile != PROFILE:
        raise UserError(
            f"{what} computes in the arithmetic {PROFILE!r}, and this model is made for {profile!r}: set "
            f"arithmetic={PROFILE!r} in the config, and train in integers (or calibrate) again for it"
        )
