"""Before a training: does the config's ``target`` run this model? Traced once, for what passed is remembered."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import nn

import hatdet
from hatdet.building import Builder
from hatdet.config.config import Config
from hatdet.config.dump import dump
from hatdet.engine.deployment import deployed_name
from hatdet.engine.stages import trainer_config
from hatdet.utils.environment import common_folders, versions
from hatdet.utils.errors import UserError

WRITERS = ("ai_edge_litert", "flatbuffers")
"""Packages without which a model's file is not looked at (:mod:`hatdet.export.targets.check`)."""
CONSTANTS = ("target", "imgsz", "deploy_inputs", "arithmetic")
PATHS = ("checkpoint_path", "calibration_checkpoint")
"""Arguments of converters that say where weights lie: the verdict does not depend on weights."""


def require_target(config: Config, stage: str) -> None:
    """Refuse a model that the config's ``target`` cannot run; a config without one is not checked.

    Raises:
        UserError: with everything that is refused; before that, what is wrong with the stage's config.
    """
    if not config.get("target"):
        return
    trainer_config(config, stage)
    record = record_of(config)
    if record is not None and record.is_file():
        return
    from hatdet.commands.shared.target_check import check_config  # tracing and writers: not where nothing is traced

    report = check_config(config)
    if not report.ok:
        lines = "".join(f"\n  {finding}" for finding in report.refused)
        raise UserError(
            f"{config.path}: this model does not suit target={report.target.name!r}:{lines}\n"
            "  (target=None trains without this check; tools/check_model.py says more)"
        )
    if record is not None:
        _keep(record)


def record_of(config: Config) -> Path | None:
    """The file that is there once this model has passed; None: its code cannot be told.

    Its name is a digest of all that the verdict comes from: what the config says of the network on the device, of its
    quantization and of the target; the network that is built of that; versions of packages; sizes and times of the
    files of hatdet's code, of the network's classes and of all loaded code that belongs to no installed package.
    """
    name = deployed_name(config)
    config.validate(name)
    detector = Builder(config).build(config[name], name)
    code = _code(detector) if isinstance(detector, nn.Module) else None  # what else it may be, the check says
    if code is None:
        return None
    said = {key: config[key] for key in (*CONSTANTS, name) if key in config}
    for key, value in config.items():
        if isinstance(value, Mapping) and "model_convert_pipeline" in value:
            said[key] = _without_paths(value["model_convert_pipeline"])
    packages = [importlib.util.find_spec(name) is not None for name in WRITERS]
    parts = [dump(said, "target", {}, strict=False), repr(detector), repr(versions()), repr(packages), *code]
    digest = hashlib.sha256("\n".join(parts).encode()).hexdigest()
    return common_folders()[0] / "targets" / f"{digest[:24]}.passed"


def _without_paths(pipeline: Any) -> Any:
    converters = pipeline.get("converters", ()) if isinstance(pipeline, Mapping) else ()
    if not converters:
        return pipeline
    kept = [
        {key: value for key, value in part.items() if key not in PATHS} if isinstance(part, Mapping) else part
        for part in converters
    ]
    return {**pipeline, "converters": kept}


def _code(network: nn.Module) -> list[str] | None:
    """Path, size and time of every file whose code has a say; None where a class has no file."""
    files = {str(path) for path in Path(hatdet.__file__).parent.rglob("*") if path.suffix in (".py", ".json")}
    for kind in {kind for module in network.modules() for kind in type(module).__mro__}:
        name = kind.__module__
        if name.partition(".")[0] in ("torch", "builtins", "hatdet"):
            continue
        file = getattr(sys.modules.get(name), "__file__", None)
        if file is None:
            return None
        files.add(file)
    files.update(_own_files())
    try:
        found = [(path, os.stat(path)) for path in sorted(files)]
    except OSError:
        return None
    return [f"{path} {at.st_size} {at.st_mtime_ns}" for path, at in found]


def _own_files() -> Iterator[str]:
    """Files of loaded modules that are of no installed package: a project's own."""
    installed = tuple({sysconfig.get_path(name) + os.sep for name in ("stdlib", "platstdlib", "purelib", "platlib")})
    for module in list(sys.modules.values()):
        file = getattr(module, "__file__", None)
        if isinstance(file, str) and not file.startswith(installed) and os.path.isfile(file):
            yield file


def _keep(record: Path) -> None:
    """Where the folder cannot be written, the next training traces again."""
    try:
        record.parent.mkdir(parents=True, exist_ok=True)
        record.touch()
    except OSError:
        pass
