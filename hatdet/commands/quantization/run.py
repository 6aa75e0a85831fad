"""The body of ``tools/quantization.py``: from float weights to the proven int8 file, in one run."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hatdet.building import Builder
from hatdet.commands.quantization.steps import Steps
from hatdet.commands.shared.evaluation import evaluate_model
from hatdet.commands.shared.target_check import config_target
from hatdet.commands.shared.verdicts import compared, headline
from hatdet.config.config import Config
from hatdet.config.load import load_config
from hatdet.engine.callbacks.monitor import NOT_MEASURED, is_measured
from hatdet.engine.checkpoints.adoption import adopted
from hatdet.engine.checkpoints.classes import class_table
from hatdet.engine.checkpoints.lineage import check_folder
from hatdet.engine.checkpoints.provenance import trained_constants
from hatdet.engine.run import train
from hatdet.engine.stages import best_checkpoint, converters_of, predictor_config, type_name, work_dir_of
from hatdet.export.arithmetic import file_arithmetic
from hatdet.export.calibrate import is_quantized_state
from hatdet.export.delivery import file_record, input_codes, write_json
from hatdet.export.evaluate import same_values
from hatdet.export.opening import OPENINGS
from hatdet.export.runtimes.parity import ParityReport, check_parity
from hatdet.export.shapes import with_image_size
from hatdet.export.tflite import int8 as tflite
from hatdet.export.tflite.flatbuffer import load_schema
from hatdet.inference.model_files import config_image_size, model_file
from hatdet.inference.recipe import recipe_of
from hatdet.integer.graph import IntGraph
from hatdet.utils.checkpoints.archive import read_without_tensors
from hatdet.utils.checkpoints.checkpoint import load_checkpoint
from hatdet.utils.errors import UserError

FILE_NAME = "qat_model_int8.tflite"
RESULTS_NAME = "quantization.json"
EPOCH_NAMES = ("epochs", "max_epochs", "qat_epochs")
DEFAULT_EPOCHS = 5
PARITY_IMAGES = 16
QUANTIZERS = ("Float2Calibration", "Float2QAT")
PTQ = "PTQ (calibration)"
QAT = "QAT (int_infer)"
FILE_ROWS = {kernels: f"int8 file (LiteRT {kernels})" for kernels in OPENINGS}
"""By LiteRT's kernels that have the file's arithmetic."""
INT8_FILE = FILE_ROWS["reference"]
logger = logging.getLogger("hatdet")


@dataclass(frozen=True)
class Quantization:
    """What a run found.

    Attributes:
        file: the ``.tflite``. rows: metric values of float, PTQ, QAT and the file, in this order; without the file's
            where LiteRT does not compute in its arithmetic.
        parity: outputs of the file against the integer model's. different: metrics in which the file differs from QAT.
    """

    file: Path
    rows: dict[str, Mapping[str, float]]
    parity: ParityReport
    different: list[str]

    @property
    def ok(self) -> bool:
        """The file computes what QAT's evaluation reported, as far as a runtime here can tell."""
        return (self.parity.ok or bool(self.parity.unproven)) and not self.different

    def text(self) -> str:
        """The table, the parity line and the verdict."""
        row = next((row for row in FILE_ROWS.values() if row in self.rows), None)
        if row is None:
            return f"{format_rows(self.rows)}\n\n{self.parity.line()}\nthe file was not evaluated"
        verdict = compared(self.rows[QAT], ("of the file", self.rows[row]), self.different)
        return f"{format_rows(self.rows)}\n\n{self.parity.line()}\n{verdict}"

    def record(self) -> dict[str, Any]:
        """Plain values for a JSON file."""
        parity = self.parity.to_dict()
        named = {"arithmetic": file_arithmetic(self.file.read_bytes())}
        return {**file_record(self.file), **named, "metrics": self.rows, "parity": parity, "different": self.different}


def format_rows(rows: Mapping[str, Mapping[str, float]]) -> str:
    """AP, AP50 (of a metric without them its first two values) and points of the former against the first row; "-"
    where a row has no such number, or measured nothing."""
    first = next(iter(rows.values()), {})
    columns = ["AP", "AP50"] if headline(first) == "AP" else list(first)[:2]
    start = first.get(columns[0], NOT_MEASURED)
    lines = [f"{'model':<30}{''.join(f'{column:>8}' for column in columns)}{'points':>9}"]
    for name, values in rows.items():
        found = [values.get(column, NOT_MEASURED) for column in columns]
        cells = "".join(f"{format(value, '.4f') if is_measured(value) else '-':>8}" for value in found)
        points = f"{100 * (found[0] - start):+.2f}" if is_measured(found[0]) and is_measured(start) else "-"
        lines.append(f"{name:<30}{cells}{points:>9}")
    return "\n".join(lines)


def checkpoint_file(checkpoint: str | Path, run: str | None = None) -> Path:
    """The checkpoint, if it is there and one.

    Raises:
        UserError: it is not.
    """
    path = model_file(checkpoint, run)
    if path.suffix in (".tflite", ".torchscript") or path.is_dir():
        state = "is quantized already" if path.suffix == ".tflite" else "is a deployed model"
        raise UserError(f"{path} {state}; quantization starts from float weights (.pth, .pth.tar); name such a file")
    return path


def quantization_config(path: str, options: Mapping[str, object], checkpoint: str | Path) -> Config:
    """The config of a quantization: ``epochs`` (``max_epochs``, ``qat_epochs``) is the number of QAT's epochs.

    What the config derives from the number of float epochs (the strength of the augmentation) follows the number that
    the checkpoint was trained with.

    Raises:
        UserError: no such checkpoint, or ``epochs`` is not a positive number.
        ConfigError: the config or an option cannot be accepted.
    """
    given = {name: options[name] for name in EPOCH_NAMES if name in options}
    if len({repr(value) for value in given.values()}) > 1:
        shown = ", ".join(f"{name}={value}" for name, value in given.items())
        raise UserError(f"{shown}: all of them mean the number of QAT epochs here; give one")
    epochs = next(iter(given.values()), DEFAULT_EPOCHS)
    if not isinstance(epochs, int) or isinstance(epochs, bool) or epochs < 1:
        raise UserError(f"epochs={epochs!r}: the number of QAT epochs is a whole number, at least 1")
    others = {name: value for name, value in options.items() if name not in EPOCH_NAMES}
    plain = adopted(load_config(path, others), [checkpoint])
    others = {name: value for name, value in plain.options.items() if name != "qat_epochs"}
    trained = trained_constants(read_without_tensors(checkpoint) or {}).get("epochs")
    if isinstance(trained, int) and isinstance(plain.get("epochs"), int) and trained != plain["epochs"]:
        logger.info("%s was trained for %d epochs: the config's augmentation follows that", checkpoint, trained)
        others["epochs"] = trained
    key = "qat_epochs" if "qat_epochs" in plain else "qat_trainer.num_epochs"
    return load_config(path, {**others, key: epochs})


def quantize(
    config: Config, checkpoint: str | Path, out: str | Path | None = None, steps: Steps | None = None
) -> Quantization:
    """Score the float weights, calibrate, train in integers, export, compare; everything goes to the work dir.

    Args:
        config: see :func:`quantization_config`; its trainers are made to start from ``checkpoint``.
        checkpoint: float weights.
        out: a second json with what is found.
        steps: where the values of finished steps are kept; None: every step is done now.

    Returns:
        what was found; also in ``work_dir/qat/quantization.json``.

    Raises:
        UserError: anything that a step needs is not as it must be; found before the first one starts where possible.
    """
    path, steps = checkpoint_file(checkpoint), steps or Steps()
    config = adopted(config, [path])
    check_folder(config, path)
    start_from(config, path)
    _title("float")
    rows: dict[str, Mapping[str, float]] = {"float": steps.value("float", lambda: evaluate_model(config, path).values)}
    _title("calibration")
    rows[PTQ] = steps.value("calibration", lambda: train(config, "calibration"))
    _title("QAT")
    steps.value("qat", lambda: train(config, "qat", resume=steps.kept))
    _title("integer model")
    name, cfg = predictor_config(config, "int_infer", best_checkpoint(config, "qat"))
    predictor = Builder(config).build(cfg, name)
    rows[QAT] = predictor.predict()
    graph: IntGraph = predictor.model.int_graph()
    graph = with_image_size(graph, config_image_size(config) or graph.tensors[graph.inputs[0]].shape[1:])
    file = work_dir_of(config, "qat") / FILE_NAME
    table = class_table(predictor.data_loader)
    classes = {"classes": table.names} if table is not None else {}
    metadata = {**classes, **recipe_of(config)}
    data = tflite.write(graph, file, metadata, config_target(config).weights_as)
    codes = input_codes(predictor.model.task, predictor.data_loader, graph, PARITY_IMAGES)
    parity = check_parity(graph, data, codes)
    different: list[str] = []
    if (kernels := graph.profile.litert) is not None:
        scored = rows[FILE_ROWS[kernels]] = evaluate_model(config, file).values
        different = same_values(rows[QAT], scored)
    result = Quantization(file, rows, parity, different)
    for place in (file.with_name(RESULTS_NAME), *([Path(out)] if out is not None else [])):
        write_json(place, {"checkpoint": str(path), **result.record()})
    return result


def start_from(config: Config, checkpoint: Path) -> None:
    """Make calibration and QAT load ``checkpoint`` where the config loads float weights; check what they need.

    Raises:
        UserError: the checkpoint holds no float weights, a stage cannot start from them, or LiteRT is not installed.
    """
    load_schema()  # the last step needs it
    state = load_checkpoint(checkpoint)
    if "int_graph" in state or is_quantized_state(state.get("state_dict", state)):
        raise UserError(
            f"{checkpoint} is quantized already; quantization starts from float weights; "
            "name the float stage's checkpoint"
        )
    for stage in ("calibration", "qat"):
        config.validate(f"{stage}_trainer")
        _refuse_islands(config[f"{stage}_trainer"])
        config[f"{stage}_trainer"] = with_float_weights(config, f"{stage}_trainer", checkpoint)
    config.validate("int_infer")
    best_checkpoint(config, "qat")
    predictor_config(config, "float", checkpoint)


def _refuse_islands(trainer: Mapping[str, Any]) -> None:
    """The last step writes a file, which float islands cannot be in: say so before the training."""
    pipeline = trainer.get("model_convert_pipeline")
    params = pipeline.get("qconfig_params") if isinstance(pipeline, Mapping) else None
    if params and params.get("keep_float"):
        raise UserError(
            f"keep_float={list(params['keep_float'])!r}: a model with layers kept in float cannot be exported; leave "
            "it out here, or train the stages one by one (tools/train.py) and score them (tools/predict.py)"
        )


def with_float_weights(config: Config, name: str, checkpoint: Path) -> dict[str, Any]:
    """The trainer's config with ``checkpoint`` in every LoadCheckpoint that comes before the quantizing converter."""
    trainer = config[name]
    converters = converters_of(trainer)
    kinds = [type_name(converter) for converter in converters]
    end = next((i for i, kind in enumerate(kinds) if kind in QUANTIZERS), len(kinds))
    if "LoadCheckpoint" not in kinds[:end]:
        raise UserError(
            f"{name}.model_convert_pipeline.converters loads no float weights: put a LoadCheckpoint before "
            f"{' or '.join(QUANTIZERS)}"
        )
    for i in range(end):
        if kinds[i] == "LoadCheckpoint":
            converters[i] = {**converters[i], "checkpoint_path": str(checkpoint)}
    return {**trainer, "model_convert_pipeline": {**trainer["model_convert_pipeline"], "converters": converters}}


def _title(text: str) -> None:
    logger.info("---- %s ----", text)
