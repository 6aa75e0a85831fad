from __future__ import annotations

from pathlib import Path
from typing import Any

from hatdet.commands.train.command import next_command
from hatdet.config.load import load_config


def config(folder: Path, *stages: str, **options: Any) -> Any:
    path = folder / "c.py"
    path.write_text("lr = 0.1\n" + "".join(f"{stage}_trainer = dict(lr=lr)\n" for stage in stages))
    return load_config(path, options)


def test_after_each_stage_comes_the_next_that_there_is(tmp_path: Path) -> None:
    road = config(tmp_path, "float", "calibration", "qat", work_dir="w", lr=0.2)
    end = f"--config {tmp_path}/c.py --work-dir w"
    assert next_command(road, "float") == f"python tools/train.py --stage calibration {end} --cfg-options lr=0.2"
    assert next_command(road, "calibration") == f"python tools/train.py --stage qat {end} --cfg-options lr=0.2"
    assert next_command(road, "qat") == f"python tools/export.py {end} --verify 16 --cfg-options lr=0.2"


def test_where_there_is_no_other_stage(tmp_path: Path) -> None:
    path = f"{tmp_path}/c.py"
    assert (
        next_command(config(tmp_path, "float", "qat"), "float") == f"python tools/train.py --stage qat --config {path}"
    )
    assert next_command(config(tmp_path, "float"), "float") == f"python tools/predict.py --stage float --config {path}"
