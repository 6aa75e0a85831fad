"""Every config that ships loads, takes the tutorial's options, describes a buildable model and survives a dump."""

from __future__ import annotations

from pathlib import Path

import pytest

from hatdet.config.load import load_config
from hatdet.config.options import parse_options

CONFIGS = Path(__file__).parents[3] / "configs"
FILES = sorted(path for path in CONFIGS.rglob("*.py") if "_base_" not in path.parts)


def test_there_are_configs() -> None:
    assert FILES


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_shipped_config(path: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    given = parse_options(["num_classes=2", "imgsz=(192,192)", "epochs=150"])
    if "img_scale" in load_config(path):  # in MMDetection's words, whose pictures have no fixed size
        del given["imgsz"]
    config = load_config(path, given)
    assert {name: config[name] for name in given} == given
    counts = [part["num_classes"] for part in config.model.values() if isinstance(part, dict) and "num_classes" in part]
    assert 2 in counts  # the option reaches the head, or the classifier's top
    config.validate("model")
    (tmp_path / path.name).write_text(config.dump())
    again = load_config(tmp_path / path.name)
    assert dict(again.items()) == dict(config.items())
    assert again.dump() == load_config(tmp_path / path.name).dump()
    for name in (name for name in config if name.endswith("_trainer")):
        assert (again[name]["model"] is again.model) == (config[name]["model"] is config.model)
