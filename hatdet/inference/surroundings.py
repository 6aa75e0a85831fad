"""What is around a model file's network: detector, transforms and converters, found without a config or from one."""

from __future__ import annotations

import contextlib
import json
import re
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hatdet.building import Builder
from hatdet.config.config import Config
from hatdet.config.parts import check_origin, read_parts, without_first_weights
from hatdet.engine.stages import INT_INFER_NAMES, TRAIN_STAGES, converters_of, find_callback, type_name
from hatdet.export.files import sidecar
from hatdet.export.onnx.file import read_metadata as read_onnx
from hatdet.export.runtimes.floating import METADATA_FILE
from hatdet.export.tflite.int8 import read_metadata as read_tflite
from hatdet.inference.checkpoints import CHECKPOINT_SUFFIXES, stem_of
from hatdet.inference.recipe import KEY, collate_of, model_of, transforms_of
from hatdet.utils.checkpoints.archive import read_without_tensors
from hatdet.utils.errors import UserError

MARKS = ("_int8_qdq", "_int8_exact", "_int8", "_float32", "_float16", "_saved_model")
"""What an export adds to the stem of its checkpoint."""
_OF_THE_PLACE = ("device", "checkpoint_path", "data_loader", "val_metrics", "tta")


@dataclass(frozen=True)
class Surroundings:
    """What :func:`hatdet.inference.model_files.open_model` needs besides the file, and what pictures go through.

    Attributes:
        config: a predictor for each stage, without data. transforms, collate: of validation, as a config has them.
        origin: what said so.
    """

    config: Config
    transforms: list[Any]
    collate: Any
    origin: str

    def build_transforms(self) -> list[Any]:
        """The transforms, which end with a tensor."""
        transforms = list(Builder().build(list(self.transforms)))
        if not any(type(transform).__name__ == "ToTensor" for transform in transforms):
            transforms.append(Builder().build({"type": "ToTensor"}))
        return transforms


def surroundings_of(values: Mapping[str, Any], origin: str, imgsz: Any = None) -> Surroundings:
    """What a config, or the names read from one, says; the weights come from the file.

    Args:
        imgsz: to be compared with the size that the file takes; None: whatever the transforms make.

    Raises:
        UserError: it has no model, or does not say what is done to a picture.
    """
    model, transforms = model_of(values), transforms_of(values)
    if model is None or transforms is None:
        missing = "model" if model is None else "val_data_loader with transforms"
        raise UserError(f"{origin} has no {missing}, so it does not say how to run a model; name a complete config")
    config = Config({}, origin)
    if imgsz is not None:
        config["imgsz"] = imgsz
    names = [f"{stage}_predictor" for stage in TRAIN_STAGES]
    sections = {name: _predictor(values, name) for name in names}
    if not any(sections.values()):
        sections["float_predictor"] = {"type": "Predictor", "model": model}
    integer: Mapping[str, Any] = next((values[n] for n in INT_INFER_NAMES if isinstance(values.get(n), Mapping)), {})
    kept = {"batch_processor": integer["batch_processor"]} if "batch_processor" in integer else {}
    sections["int_infer"] = {"type": "Predictor", "model": model, **kept}
    for name, section in sections.items():
        if section:
            bare = {key: value for key, value in section.items() if key not in _OF_THE_PLACE}
            bare["model"] = without_first_weights(bare["model"])
            config[name] = {**bare, "data_loader": None, "val_metrics": None}
    if "calibration_trainer" in values:  # which tells its checkpoints from QAT's (kind_of)
        config["calibration_trainer"] = {}
    return Surroundings(config, transforms, collate_of(values), origin)


def _predictor(values: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The predictor of a stage as :func:`hatdet.engine.stages.derived_predictor` makes it, loading nothing; empty: the
    config has no such stage."""
    own, trainer = values.get(name), values.get(f"{name.removesuffix('_predictor')}_trainer")
    section = dict(own) if isinstance(own, Mapping) else {}
    if not section and isinstance(trainer, Mapping):
        section = {"type": "Predictor", "model": trainer["model"]}
        processor = find_callback(trainer, "Validation").get("batch_processor") or trainer.get("batch_processor")
        if processor is not None:
            section["batch_processor"] = processor
        if isinstance(trainer.get("model_convert_pipeline"), Mapping):
            section["model_convert_pipeline"] = trainer["model_convert_pipeline"]
    pipeline = section.get("model_convert_pipeline")
    if isinstance(pipeline, Mapping):
        parts = [part for part in converters_of(section) if type_name(part) != "LoadCheckpoint"]
        parts = [{key: value for key, value in part.items() if key != "calibration_checkpoint"} for part in parts]
        section["model_convert_pipeline"] = {**pipeline, "converters": parts}
    return section


def find_surroundings(path: Path) -> Surroundings:
    """What a file says of itself, else what the checkpoint says that it was exported from, if that lies beside it.

    Raises:
        UserError: nothing does.
    """
    for text, origin in _texts(path):
        values = read_parts(text)
        if model_of(values) is None or transforms_of(values) is None:
            continue
        found = surroundings_of(values, origin)
        check_origin([dict(found.config), found.transforms, found.collate], origin)
        return found
    raise UserError(
        f"{path} does not say what its detector is made of (files of earlier versions do not), and no checkpoint "
        "beside it does; name its config: Detector(FILE, config=...), --config FILE"
    )


def _texts(path: Path) -> Iterator[tuple[str, str]]:
    """Texts that may say it, the nearest first, with where each stands."""
    if path.name.endswith(CHECKPOINT_SUFFIXES):
        yield from _of_checkpoint(path)
    yield from ((text, str(path)) for text in [file_metadata(path).get(KEY)] if isinstance(text, str))
    for file in checkpoints_beside(path):
        yield from _of_checkpoint(file)


def checkpoints_beside(path: Path) -> Iterator[Path]:
    """Checkpoints in the folder of a file and in the one above: first the one that it was exported from by its name,
    then the newest."""
    name = stem_of(path) if path.name.endswith(CHECKPOINT_SUFFIXES) else path.stem
    for mark in MARKS:
        name = name.removesuffix(mark)
    epoch = re.fullmatch(r"epoch_(\d+)", name)  # as SSCMA's users name the float stage's file
    names = {name, f"float-checkpoint-epoch-{int(epoch[1]):04d}"} if epoch else {name}
    for folder in (path.parent, path.parent.parent):
        files = [file for file in folder.glob("*") if file.name.endswith(CHECKPOINT_SUFFIXES) and file != path]
        yield from sorted(files, key=lambda file: (stem_of(file) not in names, -file.stat().st_mtime))


def _of_checkpoint(path: Path) -> Iterator[tuple[str, str]]:
    state = read_without_tensors(path) or {}
    graph = state.get("int_graph")
    metadata = graph.get("metadata") if isinstance(graph, Mapping) else None
    for owner, key in ((state, "config"), (metadata, KEY)):
        if isinstance(owner, Mapping) and isinstance(owner.get(key), str):
            yield owner[key], str(path)


def file_metadata(path: Path) -> dict[str, Any]:
    """The metadata inside an exported file, or beside it; empty where there is none."""
    with contextlib.suppress(UserError, OSError, ValueError, KeyError):
        if path.is_dir():
            return _parsed((path / "assets.extra" / METADATA_FILE).read_bytes())
        if path.suffix == ".tflite":
            return read_tflite(path)
        if path.suffix == ".onnx":
            return read_onnx(path)
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                names = [name for name in archive.namelist() if name.endswith(f"/extra/{METADATA_FILE}")]
                return _parsed(archive.read(names[0])) if names else {}
    with contextlib.suppress(OSError, ValueError):
        return _parsed(sidecar(path).read_bytes())
    return {}


def _parsed(data: bytes) -> dict[str, Any]:
    found = json.loads(data)
    return found if isinstance(found, dict) else {}
