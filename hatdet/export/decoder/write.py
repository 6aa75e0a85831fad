"""Decoders that travel with an exported model: raw integer outputs to boxes, in numpy and in C, without hatdet."""

from __future__ import annotations

import json
import os
import pprint
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import hatdet
from hatdet.export.decoder import body as decoder_body
from hatdet.export.decoder.c import header, identifier
from hatdet.export.decoder.cells import body as cells_body
from hatdet.export.decoder.cells.c import cells_header
from hatdet.export.decoder.model import Overrides, decoder_model
from hatdet.export.decoder.sections import sections_of
from hatdet.export.decoder.tabled import body as tabled_body
from hatdet.export.decoder.tabled import steps as tabled_steps
from hatdet.export.decoder.tabled.c import tabled_header
from hatdet.export.files import write_atomic
from hatdet.export.metadata import build_metadata
from hatdet.export.opening import wrapped_lines
from hatdet.export.runtimes.integer import FileLayout
from hatdet.integer.arithmetic import PROFILE
from hatdet.integer.graph import IntGraph
from hatdet.utils.errors import UserError

POINTS = '    found["points"]                                  # the middles of the boxes, which are cells\n'
TAKEN = "# --- the text that is taken begins here\n"


def emit(
    model: IntGraph | FileLayout | None,
    metadata: Mapping[str, Any],
    stem: str | os.PathLike[str],
    *,
    overrides: Overrides | None = None,
) -> list[Path]:
    """Write ``<stem>_decoder.py`` and ``<stem>_decoder.h``.

    Args:
        model: the integer graph: its inputs and outputs are added to ``metadata``; or the layout of the exported file,
            which must have the outputs that ``metadata`` names; None: ``metadata`` says all.
        metadata: the detector's, or the exported file's (the ``.json`` beside it). ``preprocessing`` in it
            (:func:`~hatdet.export.decoder.input.preprocessing`) describes the picture's way into the network; without
            it the letterbox of hatdet's configs is meant.
        stem: path without suffix, e.g. ``work_dirs/x/int_infer-model_int8``.
        overrides: other thresholds than the evaluation's.

    Returns:
        the two paths.

    Raises:
        UserError: a detector without a decoder, or metadata that does not fit the file.
    """
    if isinstance(model, IntGraph):
        metadata = build_metadata(model, dict(metadata))
    elif model is not None:
        _check_layout(model, metadata)
    path = Path(stem)
    texts = source_texts(decoder_model(metadata, overrides), path.name)
    paths = [path.with_name(f"{path.name}_decoder{suffix}") for suffix in (".py", ".h")]
    for target, text in zip(paths, texts, strict=True):
        write_atomic(target, text.encode("utf-8"))
    return paths


def source_texts(model: Mapping[str, Any], name: str) -> tuple[str, str]:
    """The numpy decoder and the C header of a model; the same model gives the same text."""
    source = f"Decoder of {name}, written by hatdet {hatdet.__version__}; arithmetic {model['profile'] or PROFILE}."
    c_text = cells_header if model.get("cells") else tabled_header if model.get("tabled") else header
    return _python(model, source), c_text(model, identifier(name), source)


def _python(model: Mapping[str, Any], source: str) -> str:
    body = sections_of(Path(decoder_body.__file__).read_text(encoding="utf-8"), model)
    start, kind = body.index("from __future__"), "Decoder"
    if model.get("tabled"):
        cells = bool(model.get("cells"))
        parts, kind = ((cells_body,), "CellDecoder") if cells else ((tabled_body, tabled_steps), "TableDecoder")
        texts = [Path(str(part.__file__)).read_text(encoding="utf-8") for part in parts]
        own = "".join(text[text.index(TAKEN) + len(TAKEN) :] for text in texts)
        body = body.rstrip() + "\n" + sections_of(own, model).rstrip() + "\n"
    gray = model["input"]["channels"] == "GRAY"
    picture = "(height, width), or (height, width, 3) in BGR order" if gray else "(height, width, 3) in BGR order"
    values = pprint.pformat(dict(model), width=118, compact=True, sort_dicts=False)
    return f'''"""{_escaped(source)}

Needs numpy alone. A picture is uint8 {picture}::

    codes = preprocess(picture)                      # int8 (1, height, width, {1 if gray else 3}): the network's input
    found = decode(outputs, picture.shape[:2])       # outputs: raw integer arrays, in the order of the file
    found["boxes"], found["scores"], found["labels"] # pixels of the picture, best first; CLASSES[label]
{POINTS if model.get("cells") else ""}
Boxes, scores, labels and their order are those of hatdet's own post-processing. For the evaluated numbers the outputs
must be those of the file's arithmetic; options of the interpreter choose it, and others run the file without a word:

{wrapped_lines(model, _escaped)}
"""

{body[start:]}

MODEL: dict[str, Any] = {values}

CLASSES = MODEL["classes"]
DECODER = {kind}(MODEL)
preprocess = DECODER.preprocess
decode = DECODER.decode
'''


def _escaped(text: str) -> str:
    """Text that cannot end a docstring."""
    return json.dumps(text, ensure_ascii=True)[1:-1]


def _check_layout(layout: FileLayout, metadata: Mapping[str, Any]) -> None:
    """Refuse metadata of another file."""
    told = [(o["name"], o["scale"], o["zero_point"]) for o in metadata.get("outputs", ())]
    quantization = zip(layout.output_names, layout.output_quantization, strict=True)
    found = [(name, q.scale, q.zero_point) for name, q in quantization]
    if told and told != found:
        raise UserError(
            f"the metadata describes the outputs {told}, the file has {found}: they do not belong together: "
            "export the model again with tools/export.py"
        )
