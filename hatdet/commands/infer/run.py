"""The body of ``tools/infer.py``: pictures through a stage's model, with boxes drawn and listed."""

from __future__ import annotations

import contextlib
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hatdet.building import Builder
from hatdet.config.config import Config
from hatdet.data.collate import Collate2D
from hatdet.data.image_file import SUFFIXES
from hatdet.engine.checkpoints.lineage import adopted_stage
from hatdet.engine.checks.config import check_format
from hatdet.engine.evaluation import scored_model
from hatdet.engine.predictor import Predictor
from hatdet.engine.stages import checkpoints_loaded, predictor_config
from hatdet.export.delivery import write_json
from hatdet.export.images import apply_transforms, bits_in_use, image_files, read_image
from hatdet.inference.checkpoints import find_checkpoint, kind_of, set_device
from hatdet.inference.model_files import integer_graph, without_weights
from hatdet.quantization.detector import IntegerDetector
from hatdet.utils.checkpoints.archive import read_without_tensors
from hatdet.utils.checkpoints.checkpoint import load_checkpoint
from hatdet.utils.class_names import KnownClasses
from hatdet.utils.errors import UserError, did_you_mean
from hatdet.utils.logging import live_line
from hatdet.visualization.draw import draw_boxes
from hatdet.visualization.pictures import write_image

DEFAULT_SCORE = 0.3
RESULTS_NAME = "detections.json"
SHOWN = 20
logger = logging.getLogger("hatdet")


@dataclass(frozen=True)
class Request:
    """What the command line asks for.

    Attributes:
        inputs: an image file, or a folder of them (with all folders inside).
        save_path: the folder for the drawn pictures and ``detections.json``; of one image also the picture's file.
        stage: ``float``, ``calibration``, ``qat`` or ``int_infer``; None: what ``checkpoint`` holds, else int_infer.
        checkpoint: None: the stage's best.
        device: None: the config's.
        score_thr: boxes below are neither drawn nor listed; None: ``infer_cfg["score_thr"]`` of the config, or 0.3.
    """

    inputs: Path
    save_path: Path
    stage: str | None = None
    checkpoint: str | None = None
    score_thr: float | None = None
    device: str | None = None


def parse_inputs(text: str) -> Path:
    """The path in HAT's ``imgs:PATH``.

    Raises:
        UserError: another form, or nothing there.
    """
    name, colon, path = text.partition(":")
    if not colon or name != "imgs" or not path:
        example = text if not colon else path or "PATH"
        hint = did_you_mean(name, ["imgs"]) if colon and path else ""
        raise UserError(f"--model-inputs takes imgs:PATH, got {text!r}{hint}; write --model-inputs imgs:{example}")
    if not Path(path).exists():
        raise UserError(
            f"--model-inputs {text}: there is no file or folder {path}; "
            "name a picture or a folder of pictures"
        )
    return Path(path)


def infer(config: Config, request: Request) -> bool:
    """Detect, draw and list; whether every picture could be read.

    Raises:
        UserError: the inputs, the checkpoint or the config are not as they must be, or no picture could be read.
    """
    targets = picture_targets(request)
    settings = config.get("infer_cfg") or {}
    score_thr = settings.get("score_thr", DEFAULT_SCORE) if request.score_thr is None else request.score_thr
    checkpoint = find_checkpoint(request.checkpoint, config.name) if request.checkpoint is not None else None
    config = adopted_stage(config, request.stage or "int_infer", checkpoint)
    set_device(config, request.device)
    stage, predictor, loaded = open_stage(config, request)
    model: Any = predictor.model
    network = scored_model(model).eval()
    from hatdet.data.transforms.tensor import input_format  # it imports OpenCV

    transforms = build_transforms(config, settings)
    check_format(getattr(model, "task", model), "infer_cfg's transforms give", input_format(transforms))
    known = KnownClasses.of(read_without_tensors(loaded) or {}, loaded) if loaded else None
    names = class_names(config, model, known)
    bits = picture_bits(known, [s for s, _ in targets])
    records: list[dict[str, Any]] = []
    unread: list[str] = []
    with live_line() as show:
        for number, (source, target) in enumerate(targets, start=1):
            try:
                image = read_image(source, bits)
            except UserError as error:
                unread.append(str(error))
                continue
            found = detect(predictor, network, image, transforms, source.name)
            kept = found["scores"] >= score_thr
            found = {key: values[kept] for key, values in found.items()}
            write_image(target, draw_boxes(image, found["boxes"], found["labels"], names, found["scores"]))
            records.append(record_of(source, target, image, found, names))
            if show is not None:
                show(f"{number} of {len(targets)} pictures")
    if not records:
        raise UserError(f"no picture could be read: {'; '.join(unread[:5])}; name pictures in a format of OpenCV's")
    report(records, unread)
    folder = targets[0][1].parent if request.save_path.suffix else request.save_path
    content = {"stage": stage, "checkpoint": loaded, "classes": names, "score_thr": score_thr, "images": records}
    path = write_json(folder / RESULTS_NAME, {**content, "unread": unread})
    print(f"written: {len(records)} pictures and {path}", flush=True)
    return not unread


def picture_targets(request: Request) -> list[tuple[Path, Path]]:
    """(picture, where it is drawn to), in order; a picture keeps its name and its place inside the folder.

    Raises:
        UserError: no picture, or one would be drawn over itself.
    """
    source, save = request.inputs, request.save_path
    if source.is_dir():
        if save.suffix.lower() in SUFFIXES:
            raise UserError(f"--save-path {save} is the name of one picture, but {source} is a folder; name a folder")
        pairs = [(path, save / path.relative_to(source)) for path in image_files(source)]
    else:
        if source.suffix.lower() not in SUFFIXES:
            raise UserError(
                f"{source} is no picture: its name ends with none of {', '.join(SUFFIXES)}; "
                "name a picture or a folder"
            )
        pairs = [(source, save if save.suffix.lower() in SUFFIXES else save / source.name)]
    for path, target in pairs:
        if target.exists() and target.samefile(path):
            raise UserError(f"{path} would be drawn over itself; choose another --save-path")
    if save.is_file() and save.suffix.lower() not in SUFFIXES:
        raise UserError(f"--save-path {save} is a file; name a folder")
    return pairs


def open_stage(config: Config, request: Request) -> tuple[str, Predictor, str | None]:
    """(stage, its predictor with the finished model and no data, the checkpoint that was loaded).

    Raises:
        UserError: the checkpoint is missing (with the stage that makes it), or holds something else.
    """
    path = find_checkpoint(request.checkpoint, config.name) if request.checkpoint is not None else None
    state = load_checkpoint(path) if path is not None else {}
    held = kind_of(config, state) if path is not None else None
    if held == "float" and request.stage not in (None, "float"):
        raise UserError(f"{path} holds float weights, not those of stage {request.stage}; leave --stage out")
    if held is not None and held != "float" and request.stage == "float":
        raise UserError(f"{path} holds a quantized model, not float weights; leave --stage out")
    stage = request.stage or held or "int_infer"
    name, cfg = predictor_config(config, stage, path)
    if held == "int_infer":
        cfg = without_weights(cfg)
    predictor: Predictor = Builder(config).build({**cfg, "data_loader": None, "val_metrics": None}, name)
    predictor.prepare()
    if held == "int_infer":
        graph = integer_graph(Path(str(path)), state["int_graph"])
        predictor.model = IntegerDetector(detector=predictor.model, graph=graph, device=predictor.device)
    loaded = str(path) if path is not None else next(checkpoints_loaded(cfg), None)
    logger.info("stage %s, %s", stage, loaded)
    return stage, predictor, loaded


def build_transforms(config: Config, settings: Mapping[str, Any]) -> list[Any]:
    """What the config does to a picture: ``infer_cfg["transforms"]``, else the validation data set's."""
    listed = settings.get("transforms")
    if listed is None:
        loader = config.get("val_data_loader")
        dataset = loader.get("dataset") if isinstance(loader, Mapping) else None
        listed = dataset.get("transforms") if isinstance(dataset, Mapping) else None
    if listed is None:
        raise UserError(
            f"{config.path} does not say what to do to a picture: add infer_cfg=dict(transforms=[...]) to it, or a "
            "val_data_loader with a dataset with transforms"
        )
    transforms = list(Builder().build(list(listed)))
    if not any(type(transform).__name__ == "ToTensor" for transform in transforms):
        transforms.append(Builder().build({"type": "ToTensor"}))
    return transforms


def picture_bits(known: KnownClasses | None, paths: Sequence[Path]) -> int:
    """How many bits of 16-bit pictures are used: as in training; where that had none, as these pictures need."""
    if known is not None and known.bits != 8:
        return known.bits or 16
    bits = bits_in_use(paths)
    if bits < 16:
        logger.info("16-bit pictures with %d bits in use, scaled from these: a value v becomes v >> %d", bits, bits - 8)
    return bits


def class_names(config: Config, model: Any, stored: KnownClasses | None) -> list[str]:
    """Names by label: the checkpoint's, the model's, or the validation data's; numbers where nobody knows."""
    count = int(model.metadata()["num_classes"])
    for known in (stored.names if stored is not None else (), model.metadata().get("classes") or ()):
        if len(known) == count:
            return [str(name) for name in known]
    loader = config.get("val_data_loader")
    if isinstance(loader, Mapping) and "dataset" in loader:
        with contextlib.suppress(UserError, OSError):  # the pictures need no data set
            names = getattr(Builder().build(loader["dataset"]), "classes", ())
            if len(names) == count:
                return [str(name) for name in names]
    logger.warning("the classes have no names: neither the checkpoint nor the validation data tells them")
    return [str(label) for label in range(count)]


def detect(
    predictor: Predictor, network: Any, image: NDArray[np.uint8], transforms: Sequence[Any], name: str
) -> dict[str, NDArray[Any]]:
    """``boxes`` (n, 4) in pixels of the image, ``scores`` and ``labels``, best first."""
    sample = apply_transforms(image, transforms, name)
    assert sample.tensor is not None
    item = {
        "img": sample.tensor,
        "gt_boxes": torch.zeros((0, 4)),
        "gt_labels": torch.zeros(0, dtype=torch.int64),
        "img_id": 0,
        "orig_size": sample.orig_size,
        "img_size": sample.img_size,
        "scale_factor": sample.scale,
    }
    (found,) = predictor.batch_processor.predict(network, Collate2D()([item]), predictor.device)
    return {key: found[key].cpu().numpy() for key in ("boxes", "scores", "labels")}


def record_of(
    source: Path, target: Path, image: NDArray[np.uint8], found: Mapping[str, NDArray[Any]], names: Sequence[str]
) -> dict[str, Any]:
    """What is listed of a picture."""
    rows = zip(found["boxes"].tolist(), found["scores"].tolist(), found["labels"].tolist(), strict=True)
    return {
        "file": str(source),
        "picture": str(target),
        "height": image.shape[0],
        "width": image.shape[1],
        "detections": [
            {"class": names[label], "label": label, "score": score, "box": box} for box, score, label in rows
        ],
    }


def report(records: Sequence[Mapping[str, Any]], unread: Sequence[str]) -> None:
    """Print what was found in the first pictures, and what could not be read."""
    for record in records[:SHOWN]:
        counts = Counter(found["class"] for found in record["detections"])
        print(f"{record['file']}: {', '.join(f'{n} {name}' for name, n in counts.most_common()) or 'nothing found'}")
    if len(records) > SHOWN:
        print(f"... and {len(records) - SHOWN} more pictures")
    for text in unread:
        logger.warning("left out: %s", text)
