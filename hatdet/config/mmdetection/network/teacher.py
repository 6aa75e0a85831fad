"""The teacher of a detector that learns of another one: a model in the config of its own."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hatdet.config.mmdetection.network.version2 import upgraded


def config_file(name: str, student: Path) -> Path | None:
    """The file that ``teacher_config`` names: here, or beside a folder above the student's config.

    Official configs begin with ``configs``, from the folder that MMDetection is run in; the folder ``configs`` may
    have another name.
    """
    given = Path(name)
    inside = Path(*given.parts[1:]) if given.parts[:1] == ("configs",) else given
    places = [given, *(folder / part for folder in student.absolute().parents for part in (given, inside))]
    return next((place for place in places if place.is_file()), None)


def model_of(values: Mapping[str, Any], version: int) -> dict[str, Any]:
    """What ``teacher_config`` becomes, of the names of the teacher's config."""
    model = upgraded(values, {}) if version == 2 else copy.deepcopy(dict(values["model"]))
    return {"model": model}
