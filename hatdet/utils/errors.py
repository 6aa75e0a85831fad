"""Errors that a user can act on, and the words they share.

A :class:`UserError` says what was got, what is allowed and what to do; the command lines print it without a
traceback. Everything else that is raised is a defect of the toolbox and keeps its traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """The user's input (config, option, file, data) is at fault; the message needs no traceback."""


class RegistryError(UserError):
    """A ``type`` that is unknown, registered twice, or that could not be built from its arguments."""


class ConfigError(UserError):
    """A config file, an option, or a config as a whole that cannot be accepted."""


def nearest(name: str, names: Iterable[str], n: int = 1) -> list[str]:
    """Up to ``n`` of ``names`` that look most like ``name``, best first; empty where none is close."""
    by_lower: dict[str, str] = {}
    for candidate in names:
        by_lower.setdefault(candidate.lower(), candidate)
    close = difflib.get_close_matches(name.lower(), by_lower, n=n, cutoff=0.6)
    return [by_lower[match] for match in close]


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """``"; did you mean 'x'?"`` for the nearest of ``names``, or nothing: to be appended to a message."""
    close = nearest(name, names)
    return f"; did you mean {close[0]!r}?" if close else ""
