"""MMDetection's official configs of 3.3.0 and 2.28.2: every file loads, and every dense model is theirs."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import pytest

from hatdet.config.mmdetection.network.translate import detectors
from hatdet.config.mmdetection.syntax.files import read
from hatdet.config.mmdetection.whole import translate
from hatdet.utils.errors import ConfigError
from tests.conformance.material import BROKEN, ELSEWHERE, FOREIGN, RELEASES, TWO_STAGE, configs, rows
from tests.conformance.models import problems


def families() -> list[Any]:
    found: dict[tuple[int, str], list[dict[str, Any]]] = defaultdict(list)
    for row in rows():
        found[row["vocabulary"], row["family"]].append(row)
    if not found:
        return [pytest.param([], marks=pytest.mark.skip(reason="the reference is not beside this checkout"))]
    return [pytest.param(part, id=f"{version}-{name}-{len(part)}") for (version, name), part in sorted(found.items())]


@pytest.mark.parametrize("version", RELEASES)
def test_every_config_file_loads(version: int) -> None:
    folder = configs(version)
    files = [path for path in sorted(folder.rglob("*.py")) if path.name != "override_category.py"]
    assert len(files) > 600
    failed = {}
    for path in files:
        name = str(path.relative_to(folder))
        if name in BROKEN or name.startswith(ELSEWHERE):
            continue
        try:
            read(path)
        except ConfigError as error:
            failed[name] = str(error)
    assert failed == {}


@pytest.mark.parametrize("version", RELEASES)
def test_every_config_of_a_dense_detector_is_translated(version: int) -> None:
    """Or refused for its data (formats that are converted first), with the path of the key."""
    folder = configs(version)
    failed, done = {}, 0
    for path in sorted(folder.rglob("*.py")):
        name = str(path.relative_to(folder))
        if "_base_" in name or name in BROKEN or name.startswith(ELSEWHERE) or path.name == "override_category.py":
            continue
        values = read(path)
        model = values.get("model")
        if not isinstance(model, dict) or str(model.get("type")) not in detectors():
            continue
        try:
            translate({"work_dir": "x", **values}, path.stem)
            done += 1
        except ConfigError as error:
            refused = [f"{name!r} is not here" for name in FOREIGN]
            if not any(text in str(error) for text in ("is not read here", *refused)):
                failed[name] = str(error)
    assert failed == {}, f"{len(failed)} of {done + len(failed)}"


@pytest.mark.parametrize("part", families())
def test_models(part: list[dict[str, Any]]) -> None:
    """Parameters, names and shapes; for version 3 the outputs of the head."""
    found = {row["path"]: lines for row in part if (lines := problems(row))}
    text = "\n".join(f"{path}: {'; '.join(lines[:3])}" for path, lines in found.items())
    assert not found, f"{len(found)} of {len(part)} configs:\n{text}"


def test_other_detectors_are_refused_by_name() -> None:
    others = [row for row in rows(dense=False) if row["detector"] in TWO_STAGE]
    if not others:
        pytest.skip("the reference is not beside this checkout")
    assert len(others) > 100
    for row in others:
        path = configs(row["vocabulary"]) / row["path"]
        with pytest.raises(ConfigError, match=f"model.type: '{row['detector']}' is not supported"):
            translate({"work_dir": "x", **read(path)}, path.stem)
