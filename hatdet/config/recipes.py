"""Recipes: sets of values that one name of a config chooses.

``_recipes_ = {"small": {"lr": 2e-3}, "large": {}}`` in a file says what its names are under ``recipe = "small"``. A
recipe's value takes the place of what the file and its bases assign; files that are based on it, and options, say
otherwise as they do for anything else. ``recipe = "auto"`` is nothing yet: the names are what the files assign, until
whoever knows the data decides (:mod:`hatdet.engine.processes.recipe`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from hatdet.config.source import RECIPE, Source, shown
from hatdet.utils.errors import ConfigError, did_you_mean

UNDECIDED = "auto"


@dataclasses.dataclass(frozen=True)
class Chosen:
    """What ``recipe`` is in a config, and what it may be; without names: the config has none."""

    name: str
    names: tuple[str, ...]

    @classmethod
    def of(cls, files: Sequence[Source], options: Mapping[str, object]) -> Chosen:
        """As the options, or else the last file that assigns it, say.

        Raises:
            ConfigError: there is no such recipe, or one has a name that the file and its bases do not assign.
        """
        names = tuple(sorted({name for file in files for name in file.recipes()}))
        if not names:
            return cls(UNDECIDED, ())
        for file in files:
            _check_names(file)
        assigned = [file.assigned_literal(RECIPE) for file in files if RECIPE in file.assigned()]
        name = options.get(RECIPE, assigned[-1] if assigned else UNDECIDED)
        if name not in (*names, UNDECIDED):
            allowed = (UNDECIDED, *names)
            raise ConfigError(
                f"{RECIPE}={name!r}: the config has no such recipe{did_you_mean(str(name), allowed)}; "
                f"there are {', '.join(allowed)}: name one of them"
            )
        return cls(str(name), names)

    def values(self, file: Source) -> Mapping[str, Any]:
        """What a file's recipe says."""
        return file.recipes().get(self.name, {}) if self.names else {}


def _check_names(file: Source) -> None:
    recipes = file.recipes()
    if not recipes:
        return
    known = {name for source in (file, *file.every_base()) for name in source.assigned()}
    for recipe, values in recipes.items():
        for name in values:
            if name not in known:
                raise ConfigError(
                    f"{shown(file.path)}: the recipe {recipe!r} sets {name!r}, which neither this file nor its bases "
                    f"assign{did_you_mean(name, known)}; assign it, or take it out"
                )
