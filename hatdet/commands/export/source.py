"""Where an export's model comes from: float weights, those of calibration or QAT, or an integer graph."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from hatdet.building import Builder
from hatdet.commands.shared.decoders import device_metadata
from hatdet.config.config import Config
from hatdet.engine.checkpoints.classes import class_table
from hatdet.engine.predictor import Predictor
from hatdet.engine.stages import INT_INFER_NAMES, predictor_config
from hatdet.export.calibrate import calibrate
from hatdet.export.evaluate import quantize_images
from hatdet.export.images import ImageFolder
from hatdet.export.shapes import with_image_size
from hatdet.inference.checkpoints import kind_of
from hatdet.inference.model_files import bare_predictor, integer_graph
from hatdet.inference.recipe import recipe_of
from hatdet.integer.graph import IntGraph
from hatdet.quantization.integer_detector import IntegerDetector
from hatdet.utils.checkpoints.checkpoint import load_checkpoint, load_state
from hatdet.utils.class_names import KnownClasses
from hatdet.utils.errors import UserError

CALIBRATION_IMAGES = 128
REFINING = ("equalize", "bias_correction", "weight_rounding")
SETTINGS_FROM = ("calibration_trainer", "qat_trainer", *INT_INFER_NAMES)


class Source:
    """A model and the data around it; what is costly is made when it is asked for, once.

    Attributes:
        kind: ``float``, ``calibration``, ``qat`` or ``int_infer``.
        predictor: the data, the metric and the batch processor.
        task: the float detector; its weights mean something only where ``kind`` is ``float``. The integer model has its
            own, ``int_model().task``, since folding may change the normalization.
    """

    def __init__(
        self, config: Config, kind: str, predictor: Predictor, task: Any, model: Any, image_path: str | None
    ) -> None:
        self.config, self.kind, self.predictor, self.task = config, kind, predictor, task
        self.image_path = image_path
        self._model = model
        self._graphs: dict[tuple[int, int], IntGraph] = {}

    def detector(self) -> Any:
        """The float detector in eval mode, with its weights."""
        return self.task.eval()

    def int_model(self) -> Any:
        """The quantized or integer detector, on the predictor's device; float weights are calibrated now.

        Raises:
            UserError: there are no images to calibrate on.
        """
        if self._model is None:
            self._model = self._calibrated()
        return self._model

    def graph(self, image_size: tuple[int, int]) -> IntGraph:
        """The integer graph for ``image_size`` (h, w), with the data's classes, and what is around the network,
        in its metadata."""
        if image_size not in self._graphs:
            graph = with_image_size(self.int_model().int_graph(image_size), image_size)
            table = class_table(self.predictor.data_loader)
            known = {"classes": table.names} if table is not None else {}
            metadata = {**graph.metadata, **known, **recipe_of(self.config)}
            self._graphs[image_size] = replace(graph, metadata=metadata)
        return self._graphs[image_size]

    def codes(self, pixels: torch.Tensor, image_size: tuple[int, int]) -> torch.Tensor:
        """Input codes of the integer model, int8, of uint8 pixels (n, 3, h, w)."""
        graph = self.graph(image_size)
        return quantize_images(self.int_model().task.preprocess(pixels), graph.qparams(graph.inputs[0]))

    def _settings(self) -> dict[str, Any]:
        """What the config's quantization says of the model itself; how QAT would train it does not matter here."""
        stage = next((name for name in SETTINGS_FROM if name in self.config), None)
        pipeline = self.config[stage].get("model_convert_pipeline") if stage is not None else None
        params = pipeline.get("qconfig_params") if isinstance(pipeline, dict) else None
        kept = ("int16_output", "keep_float", "arithmetic", "weight_bits", "flash_budget", *REFINING)
        return {key: value for key, value in (params or {}).items() if key in kept}

    def _calibration_data(self) -> Any:
        """The config of the loader that calibration reads; None where it has no such stage."""
        trainer = self.config.get("calibration_trainer")
        return self.config.get("calibration_data_loader") or (trainer or {}).get("data_loader")

    def _calibrated(self) -> Any:
        if self.image_path is not None:
            batches: Any = image_batches(self.image_path, self.predictor, CALIBRATION_IMAGES)
            source = self.image_path
        elif (loader := self._calibration_data()) is not None:
            batches = Builder().build(loader)
            source = "the config's calibration data"
        else:
            raise UserError(
                "an integer model of float weights needs images to calibrate on: name them with --image_path DIR"
            )
        detector = copy.deepcopy(self.task)  # calibration folds batch normalization in place
        observer = self.config.get("calibration_observer")
        model, seen = calibrate(detector, batches, CALIBRATION_IMAGES, observer, self._settings())
        print(f"float weights: calibrated on {seen} images of {source}", flush=True)
        return self.predictor.batch_processor.prepare_model(model, self.predictor.device)


def open_source(config: Config, checkpoint: Path | None, stage: str | None, image_path: str | None) -> Source:
    """The model of a checkpoint, or of a stage's best one.

    Raises:
        UserError: weights and stage do not go together, or the weights do not fit the config's model.
    """
    if checkpoint is not None:
        state = load_checkpoint(checkpoint)
        kind = kind_of(config, state)
        if kind == "float" and stage is not None:
            raise UserError(f"{checkpoint} holds float weights, not those of stage {stage}; leave --stage out")
        if kind == "float":
            predictor = bare_predictor(config, checkpoint)
            predictor.check_data(KnownClasses.of(state, str(checkpoint)))
            load_state(predictor.model, state.get("state_dict", state), source=str(checkpoint))
            return Source(config, kind, predictor, predictor.model, None, image_path)
        if kind == "int_infer":
            predictor = bare_predictor(config, checkpoint, state)
            task: Any = predictor.prepare()
            graph = integer_graph(checkpoint, state["int_graph"])
            model: Any = IntegerDetector(detector=task, graph=graph, device=predictor.device)
            return Source(config, kind, predictor, task, model, image_path)
    else:
        kind = stage or "int_infer"
    name, cfg = predictor_config(config, stage or "int_infer", checkpoint)
    predictor = Builder(config).build(cfg, name)
    model = predictor.prepare()
    return Source(config, kind, predictor, model.task, model, image_path)


def image_batches(folder: str, predictor: Predictor, limit: int) -> ImageFolder:
    """The images of a folder through the validation preprocessing."""
    dataset = predictor.data_loader.dataset
    return ImageFolder(folder, dataset.pipelines[0], limit, int(getattr(dataset, "bits", 16)))


def decoder_facts(source: Source, graph: IntGraph) -> dict[str, Any]:
    """What the decoders of a model need.

    Raises:
        UserError: the validation transforms do what decoders cannot.
    """
    table = class_table(source.predictor.data_loader)
    names = table.names if table is not None else None
    return device_metadata(source.predictor.data_loader, source.int_model().task, graph, names)
