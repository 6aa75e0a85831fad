"""What a checkpoint was made with: its ``run`` record, in every file that a stage writes.

``version`` (1), ``id`` (of the float training; later stages keep it), ``stage``, ``config`` (the file), ``options``
(what was set besides the file, what was taken from earlier files included), ``file_values`` (what the file itself had
for those names), ``constants`` (names of the config with plain values), ``model`` and ``inputs`` (the network, and what
validation does to a picture, as plain trees), ``data`` (fingerprints), ``parents`` (stage -> id, digest and name of the
files that it was made from) and, of a training that learned of another detector, ``teacher`` (the same of it). All of
it is plain values, so that ``weights_only=True`` reads it.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import os
import uuid
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePath
from typing import Any

from hatdet.config.config import Config
from hatdet.config.load import load_config
from hatdet.engine.checkpoints.classes import class_table
from hatdet.engine.stages import (
    INT_INFER_NAMES,
    best_checkpoint,
    checkpoints_loaded,
    converters_of,
    find_callback,
    type_name,
)
from hatdet.utils.checkpoints.archive import read_without_tensors
from hatdet.utils.errors import ConfigError

KEY = "run"
VERSION = 1
_PARTS = {"id": str, "stage": str, "inputs": list} | dict.fromkeys(
    ("options", "file_values", "constants", "model", "data", "parents"), Mapping
)
_PLAIN = (bool, int, float, str, type(None))
_NO_NETWORK = ("loss", "assign", "post_process", "sampler", "target", "filter", "train_cfg", "test_cfg")
_START_ONLY = ("init", "pretrained", "frozen", "norm_eval")
"""Keys of a model that begin so neither change the network nor what its weights mean."""
SIZES = ("img_scale", "size", "scale", "crop_size", "target_size", "img_size", "imgsz")


def make_record(config: Config, stage: str, section: Mapping[str, Any], **loaders: Any) -> dict[str, Any]:
    """The record of what a stage is about to write.

    Args:
        section: the trainer's or predictor's dict, as it will be built.
        loaders: by title, whose data sets are fingerprinted.
    """
    files = list(sources(section))
    parents = {}
    for path in files:
        found = read_record(path)
        name = str((found or {}).get("stage", Path(path).name))
        parents[name] = {"id": (found or {}).get("id"), "digest": file_digest(path), "file": str(path)}
    inherited = [parent["id"] for parent in parents.values() if parent["id"]] if stage != "float" else []
    return {
        "version": VERSION,
        "id": inherited[-1] if inherited else uuid.uuid4().hex[:12],
        "stage": stage,
        "config": str(config.path),
        "options": plain_items(config.options, parts=True),
        "file_values": file_values(config, config.options),
        "constants": plain_items(config),
        "model": network_tree(section.get("model")),
        "inputs": input_tree(section),
        "data": {title: fingerprint(loader) for title, loader in loaders.items() if loader is not None},
        "parents": parents if stage != "float" else {},
        **teachers(section),
    }


def teachers(section: Mapping[str, Any]) -> dict[str, Any]:
    """``{"teacher": ...}`` of a trainer that learns of one (its callback ``Distillation``); else empty."""
    teacher = find_callback(section, "Distillation").get("teacher")
    path = teacher.get("checkpoint") if isinstance(teacher, Mapping) else None
    return {"teacher": teacher_record(path)} if isinstance(path, str) and os.path.isfile(path) else {}


def teacher_record(path: str) -> dict[str, Any]:
    """Which weights a training learns of: the file, the id of the run that made it, and the digest of its weights."""
    return {"file": path, "id": (read_record(path) or {}).get("id"), "digest": file_digest(path)}


def read_record(path: str | Path) -> dict[str, Any] | None:
    """The record in a file; None where it has none, or cannot be read (who loads the weights says why)."""
    state = read_without_tensors(path)
    found = state.get(KEY) if state is not None else None
    return dict(found) if isinstance(found, Mapping) and _is_record(found) else None


def _is_record(found: Mapping[str, Any]) -> bool:
    """Whether everything that is read of a record is there; who writes another thing under this name has none."""
    parts = all(isinstance(found.get(name), kind) for name, kind in _PARTS.items())
    if not parts or found.get("version") != VERSION:
        return False
    parents = all(isinstance(p, Mapping) and {"id", "digest"} <= set(p) for p in found["parents"].values())
    return parents and all(isinstance(data, Mapping) for data in found["data"].values())


def trained_constants(state: Mapping[str, Any]) -> dict[str, Any]:
    """Names with literal values in the config that a checkpoint was trained with; empty where it has none."""
    text = state.get("config")
    try:
        statements = ast.parse(text).body if isinstance(text, str) else []
    except SyntaxError:
        return {}
    found = {}
    for node in statements:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            try:
                found[node.targets[0].id] = ast.literal_eval(node.value)
            except ValueError:  # an expression
                continue
    return found


def section_of(config: Config, stage: str) -> Mapping[str, Any] | None:
    """The config's dict of a stage: its trainer's or predictor's; None where it has none."""
    names = INT_INFER_NAMES if stage == "int_infer" else (f"{stage}_trainer", f"{stage}_predictor")
    found = next((config.get(name) for name in names if isinstance(config.get(name), Mapping)), None)
    return found if isinstance(found, Mapping) else None


def files_read(config: Config, stage: str, checkpoint: str | Path | None = None) -> list[str]:
    """Checkpoints from which a command makes the model of a stage: the one that is named, or the stage's own."""
    if checkpoint is not None:
        return [str(checkpoint)]
    section = section_of(config, stage)
    if section is None or stage == "int_infer" or config.get(f"{stage}_predictor") is not None:
        section = config.get(f"{stage}_predictor") or section
        return list(sources(section)) if isinstance(section, Mapping) else []
    if find_callback(section, "Checkpoint") and (best := best_checkpoint(config, stage)).is_file():
        return [str(best)]
    return []


def sources(section: Mapping[str, Any]) -> Iterator[str]:
    """Files of earlier stages that a trainer or predictor reads: weights and calibrated ranges."""
    found = list(checkpoints_loaded(section, first=True))
    for converter in converters_of(section):
        path = converter.get("calibration_checkpoint") if isinstance(converter, Mapping) else None
        if isinstance(path, str) and os.path.isfile(path):
            found.append(path)
    yield from dict.fromkeys(found)


def file_values(config: Config, names: Iterable[str]) -> dict[str, Any]:
    """What the config file, without any option, has for those names; names inside a dict are left out."""
    if not config.path.is_file():
        return {}
    try:
        alone = load_config(config.path)
    except ConfigError:  # it needs an option to be a config at all
        return {}
    return plain_items({name: alone[name] for name in names if name in alone})


def plain_items(values: Mapping[str, Any], parts: bool = False) -> dict[str, Any]:
    """The items with plain values: numbers, text, and lists, tuples and dicts of those.

    Args:
        parts: dicts with a ``type`` too, of which something is built.
    """
    found = {}
    for name, value in values.items():
        if isinstance(value, PurePath):
            value = str(value)
        if is_plain(value) and (parts or not (isinstance(value, dict) and "type" in value)):
            found[str(name)] = value
    return found


def is_plain(value: Any) -> bool:
    """Whether a value can stand in a checkpoint as it is."""
    if type(value) in (list, tuple):
        return all(map(is_plain, value))
    if type(value) is dict:
        return all(type(key) is str and is_plain(item) for key, item in value.items())
    return type(value) in _PLAIN


def network_tree(model: Any) -> dict[str, Any]:
    """What decides the meaning of a model's weights, as a plain tree: no losses, no post-processing."""
    if not isinstance(model, Mapping):
        return {}
    tree = described(model)
    kept = {key: value for key, value in tree.items() if not key.startswith(_NO_NETWORK)}
    return dict(_without(kept, _START_ONLY))


def input_tree(section: Mapping[str, Any]) -> list[Any]:
    """What validation's transforms say of the network's input: its size, its colours, its normalization."""
    validation = find_callback(section, "Validation")
    loader = validation.get("data_loader") or section.get("val_data_loader") or section.get("data_loader")
    dataset = loader.get("dataset") if isinstance(loader, Mapping) else None
    transforms = dataset.get("transforms") if isinstance(dataset, Mapping) else None
    found = []
    for transform in transforms if isinstance(transforms, (list, tuple)) else ():
        tree = described(transform)
        if isinstance(tree, dict):
            if tree.get("type") == "ToTensor":
                tree["color"] = tree.get("color") or _colour(tree)
            whole = tree.get("type") in ("Normalize", "ToTensor")
            found.append({key: value for key, value in tree.items() if whole or key in ("type", *SIZES)})
    return found


def _colour(to_tensor: Mapping[str, Any]) -> str:
    """What ``ToTensor`` gives where it is not named."""
    return "yuv444" if to_tensor.get("to_yuv") else "rgb" if to_tensor.get("to_rgb") else "bgr"


def described(value: Any) -> Any:
    """A part of a config as a plain tree: classes by name, tuples as lists."""
    if isinstance(value, Mapping):
        tree = {str(key): described(item) for key, item in value.items()}
        if "type" in value:
            tree["type"] = type_name(value) or str(value["type"])
        return tree
    if isinstance(value, (list, tuple)):
        return [described(item) for item in value]
    if type(value) in _PLAIN:
        return value
    if inspect.isclass(value) or inspect.isroutine(value):
        return f"{value.__module__}.{value.__qualname__}"
    return str(value) if isinstance(value, PurePath) else f"a {type(value).__name__}"


def _without(tree: Any, prefixes: tuple[str, ...]) -> Any:
    if isinstance(tree, dict):
        return {key: _without(item, prefixes) for key, item in tree.items() if not key.startswith(prefixes)}
    return [_without(item, prefixes) for item in tree] if isinstance(tree, list) else tree


def fingerprint(loader: Any) -> dict[str, Any]:
    """What tells one data set from another: its number of images, its classes, the digest of what was packed."""
    dataset, table = getattr(loader, "dataset", None), class_table(loader)
    found: dict[str, Any] = {"classes": table.names if table is not None else []}
    try:
        found["images"] = len(dataset)  # type: ignore[arg-type]
    except TypeError:  # an iterable data set has no length
        found["images"] = None
    digest = getattr(dataset, "fingerprint", None)
    found["fingerprint"] = digest if isinstance(digest, str) else None
    return found


def file_digest(path: str | Path) -> str:
    """Which weights a file holds: of the checksums of its tensors, so that nothing of them has to be read.

    What only says how they were made (ids, dates, options) does not count; a file that is no zip archive is read whole.
    """
    digest = hashlib.sha256()
    try:
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                if "/data/" in info.filename:
                    digest.update(f"{info.filename.split('/', 1)[1]} {info.file_size} {info.CRC}\n".encode())
    except zipfile.BadZipFile:
        with Path(path).open("rb") as file:
            digest = hashlib.file_digest(file, "sha256")
    return digest.hexdigest()
