"""``--format savedmodel``: the float network as a TensorFlow SavedModel, written by tensorflow where it is installed.

The signature ``serving_default`` takes ``images`` (1, h, w, 3) float32, normalized, and gives the outputs by name. The
metadata lies in ``assets.extra/hatdet.json``, a folder that the format keeps for such files.
"""

from __future__ import annotations

import math
import os
import shutil
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from hatdet.export.files import sidecar, write_atomic
from hatdet.export.float_graph import INPUT_NAME, Decoding, FloatGraph, trace_float
from hatdet.export.formats.float_files import checked, metadata
from hatdet.export.formats.table import ExportJob, FileRecord
from hatdet.export.forms import translate
from hatdet.export.metadata import to_json
from hatdet.export.runtimes.floating import METADATA_FILE, SavedModelFolder, load_tensorflow
from hatdet.export.savedmodel.network import TensorFlowNetwork
from hatdet.export.savedmodel.operators import FORMS
from hatdet.utils.errors import UserError


def require(job: ExportJob) -> None:
    """Refuse quantized weights, and where tensorflow is missing."""
    _ = job.detector
    load_tensorflow("--format savedmodel")


def export(job: ExportJob) -> list[FileRecord]:
    """Write ``<stem>_saved_model/``.

    Raises:
        UserError: tensorflow is not installed, or an operator has no form there.
    """
    tf = load_tensorflow("--format savedmodel")
    graph = trace_float(job.detector, job.image_size, job.options.decode)
    path = job.path("_saved_model")
    text = to_json(metadata(job, "savedmodel float32", graph.file_outputs, "NHWC"))
    write_saved_model(tf, graph, path, text)
    write_atomic(sidecar(path), text.encode("utf-8"))
    return [checked(job, path, "savedmodel float32", partial(SavedModelFolder, path))]


def write_saved_model(tf: Any, graph: FloatGraph, path: Path, text: str) -> None:
    """Write the folder whole or not at all; an earlier SavedModel there is replaced.

    Raises:
        UserError: something else stands there.
    """
    if path.exists() and not (path / "saved_model.pb").is_file():
        raise UserError(f"{path} is there and is no SavedModel: move it away, or choose another --out-dir")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}", suffix=".part"))
    try:
        module = tf.Module()
        h, w = graph.image_size
        signature = [tf.TensorSpec((1, h, w, graph.shapes[graph.input][0]), tf.float32, name=INPUT_NAME)]
        module.serve = tf.function(lambda images: run_network(tf, graph, images), input_signature=signature)
        tf.saved_model.save(module, str(temporary), signatures={"serving_default": module.serve})
        write_atomic(temporary / "assets.extra" / METADATA_FILE, text.encode("utf-8"))
        os.chmod(temporary, 0o755)
        shutil.rmtree(path, ignore_errors=True)
        os.replace(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def run_network(tf: Any, graph: FloatGraph, images: Any) -> dict[str, Any]:
    """The graph as calls of tensorflow's operators: images (1, h, w, c) -> the outputs by name."""
    network = TensorFlowNetwork(tf, graph, images)
    translate(network, graph.ops, FORMS)
    outputs = [network.values[name] for name in graph.outputs]
    if graph.decoding is not None:
        outputs = decoded(tf, outputs, graph.decoding)
    names = [name for name, _ in graph.file_outputs]
    return {name: tf.identity(value, name=name) for name, value in zip(names, outputs, strict=True)}


def decoded(tf: Any, maps: list[Any], decoding: Decoding) -> list[Any]:
    """Boxes and scores of the raw maps."""
    columns = decoding.rule.columns
    levels = len(maps) // len(columns)
    rows = [
        tf.concat([tf.reshape(m, (1, math.prod(m.shape) // n, n)) for m in maps[i * levels :][:levels]], axis=1)
        for i, n in enumerate(columns)
    ]
    distances = tf.exp(rows[1]) if decoding.exp else rows[1]
    scores = tf.sigmoid(rows[0])
    if decoding.rule.score_factor:
        scores = scores * tf.sigmoid(rows[2])
    return [distances * decoding.scale + decoding.points, scores]
