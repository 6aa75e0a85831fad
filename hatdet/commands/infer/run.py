"""The body of ``tools/infer.py``: the model of a stage, or of a file, for the pictures that are named."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hatdet.building import Builder
from hatdet.commands.infer.plan import Request, make_plan
from hatdet.commands.infer.process import process
from hatdet.config.config import Config
from hatdet.engine.checkpoints.lineage import adopted_stage
from hatdet.engine.predictor import Predictor
from hatdet.engine.stages import checkpoints_loaded, predictor_config
from hatdet.inference.checkpoints import find_checkpoint, kind_of, set_device
from hatdet.inference.detector import Detector, make_engine
from hatdet.inference.detector import class_names as names_of
from hatdet.inference.model_files import integer_graph, without_weights
from hatdet.inference.recipe import collate_of, transforms_of
from hatdet.inference.surroundings import Surroundings
from hatdet.quantization.integer_detector import IntegerDetector
from hatdet.utils.checkpoints.archive import read_without_tensors
from hatdet.utils.checkpoints.checkpoint import load_checkpoint
from hatdet.utils.class_names import KnownClasses
from hatdet.utils.errors import UserError

DEFAULT_SCORE = 0.3
logger = logging.getLogger("hatdet")


def infer(config: Config, request: Request) -> bool:
    """Detect with a stage's model; draw, list and write. Whether every picture could be read.

    Raises:
        UserError: the inputs, the checkpoint or the config are not as they must be, or no picture could be read.
    """
    plan = make_plan(request)
    settings = config.get("infer_cfg") or {}
    score_thr = settings.get("score_thr", DEFAULT_SCORE) if request.score_thr is None else request.score_thr
    checkpoint = find_checkpoint(request.checkpoint, config.name) if request.checkpoint is not None else None
    config = adopted_stage(config, request.stage or "int_infer", checkpoint)
    set_device(config, request.device)
    stage, predictor, loaded = open_stage(config, request)
    known = KnownClasses.of(read_without_tensors(loaded) or {}, loaded) if loaded else None
    engine = make_engine(predictor, surroundings(config), known, lambda: data_names(config))
    facts = {"stage": stage, "checkpoint": loaded, "classes": list(engine.names), "score_thr": score_thr}
    return process(engine, plan, request, score_thr, facts)


def infer_file(model: str, request: Request, config: Config | None) -> bool:
    """:func:`infer` with any model file, which says itself what is around its network.

    Args:
        config: says it where the file does not.
    """
    plan = make_plan(request)
    score_thr = DEFAULT_SCORE if request.score_thr is None else request.score_thr
    detector = Detector(model, config=config, kernels=request.kernels, device=request.device)
    logger.info("model: %s (%s; %s)", detector.path, detector.kind, detector.runtime)
    facts = {"stage": detector.kind, "checkpoint": str(detector.path), "classes": list(detector.names)}
    return process(detector.engine, plan, request, score_thr, {**facts, "score_thr": score_thr})


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


def surroundings(config: Config) -> Surroundings:
    """What the config does to a picture before the network.

    Raises:
        UserError: it does not say.
    """
    transforms = transforms_of(config)
    if transforms is None:
        raise UserError(
            f"{config.path} does not say what to do to a picture: add infer_cfg=dict(transforms=[...]) to it, or a "
            "val_data_loader with a dataset with transforms"
        )
    return Surroundings(config, transforms, collate_of(config), str(config.path))


def class_names(config: Config, model: Any, stored: KnownClasses | None) -> list[str]:
    """Names by label: the checkpoint's, the model's, or the validation data's; numbers where nobody knows."""
    return list(names_of(model, stored, lambda: data_names(config)))


def data_names(config: Config) -> Sequence[str]:
    """The classes of the validation data; empty where it is not there."""
    loader = config.get("val_data_loader")
    if isinstance(loader, Mapping) and "dataset" in loader:
        with contextlib.suppress(UserError, OSError):  # the pictures need no data set
            if names := tuple(getattr(Builder().build(loader["dataset"]), "classes", ())):
                return names
    logger.warning("the classes have no names: neither the checkpoint nor the validation data tells them")
    return ()
