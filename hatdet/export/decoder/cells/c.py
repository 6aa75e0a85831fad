"""The C99 header of such a decoder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hatdet.export.decoder.c_text import (
    BODY as PICTURE_BODY,
)
from hatdet.export.decoder.c_text import (
    double_literal,
    float_literal,
    introduction,
    picture_constants,
    string_literal,
    wrapped,
)
from hatdet.export.decoder.sections import sections_of

BODY = Path(__file__).with_name("body.h")


def cells_header(model: Mapping[str, Any], prefix: str, source: str) -> str:
    """The text of the header, see :func:`hatdet.export.decoder.c.header`."""
    exponentials = [double_literal(value) for value in model["exponentials"]]
    texts = [
        introduction(model, source, workspace_bytes(model), 8 * len(exponentials), ""),
        *_constants(model),
        "/* of the output's codes, from the lowest */\n"
        f"static const double hdx_exponentials[{len(exponentials)}] = {{\n{wrapped(exponentials)}\n}};\n",
        sections_of(PICTURE_BODY.read_text(encoding="utf-8"), model),
        BODY.read_text(encoding="utf-8"),
        "#endif\n",
    ]
    return "\n".join(texts).replace("hdx_", f"{prefix}_").replace("HDX_", f"{prefix.upper()}_")


def cells_of(model: Mapping[str, Any]) -> int:
    """How many there are."""
    (output,) = model["outputs"]
    return int(output["height"] * output["width"])


def workspace_bytes(model: Mapping[str, Any]) -> int:
    """Size of the header's workspace: 8 bytes a cell, or 12 a column of the picture."""
    return max(8 * cells_of(model), 12 * int(model["input"]["width"]))


def _constants(model: Mapping[str, Any]) -> list[str]:
    (output,) = model["outputs"]
    values = {
        **picture_constants(model),
        "CLASSES": model["num_classes"],
        "CHANNELS_OUT": f"{output['channels']} /* background and the classes */",
        "OUTPUTS": 1,
        "COLUMNS": output["width"],
        "CELLS": cells_of(model),
        "STRIDE": f"{float_literal(model['stride'])} /* side of a cell, pixels of the input */",
        "FUSE": f"{model['fuse']} /* cells so near to a better one of their class are no detections */",
        "GATE": f"({model['gate']}) /* codes above background's that a score above the threshold takes */",
        "SCORE_THRESHOLD": float_literal(model["score_thr"]),
        "MAX_CANDIDATES": cells_of(model),
        "MAX_DETECTIONS": model["max_per_img"],
        "WORKSPACE_BYTES": workspace_bytes(model),
    }
    names = ", ".join(string_literal(name) for name in model["classes"])
    return [
        "#ifndef HDX_DECODER_H\n#define HDX_DECODER_H\n",
        "#include <stddef.h>\n#include <stdint.h>\n",
        "#if defined(__clang__)\n#pragma STDC FP_CONTRACT OFF\n#endif\n",
        *(f"#define HDX_{name} {value}" for name, value in values.items()),
        "\ntypedef int8_t hdx_code;\n",
        f"static const char *const hdx_classes[HDX_CLASSES] = {{{names}}};\n",
    ]
