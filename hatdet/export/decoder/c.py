"""The C99 header of a decoder: constants and tables of one model, then the code that all models share."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from hatdet.export.decoder.c_text import (
    BODY,
    float_literal,
    introduction,
    picture_constants,
    string_literal,
    wrapped,
)
from hatdet.export.decoder.model import real_values, workspace_entries
from hatdet.export.decoder.sections import sections_of
from hatdet.ops import rounded

_RESERVED = frozenset(
    "auto break case char const continue default do double else enum extern float for goto if inline int long register "
    "restrict return short signed sizeof static struct switch typedef union unsigned void volatile while".split()
)


def identifier(stem: str) -> str:
    """The prefix of every name in the header, from the file's stem: ``qat-model_int8`` -> ``qat_model_int8``."""
    name = re.sub(r"\W+", "_", stem, flags=re.ASCII).strip("_").lower() or "model"
    return f"model_{name}" if name[0].isdigit() or name in _RESERVED else name


def header(model: Mapping[str, Any], prefix: str, source: str) -> str:
    """The text of the header.

    Args:
        model: of :func:`~hatdet.export.decoder.model.decoder_model`.
        prefix: what every name begins with.
        source: where the model comes from, for the first line.
    """
    body = sections_of(BODY.read_text(encoding="utf-8"), model)
    maths = "" if _tables_of(model) else "Needs exp() of the C library (link with -lm).\n * "
    first = introduction(model, source, workspace_bytes(model), _constant_bytes(model), maths)
    parts = [first, *_constants(model), _tables(model), body, "#endif\n"]
    return "\n".join(parts).replace("hdx_", f"{prefix}_").replace("HDX_", f"{prefix.upper()}_")


def workspace_bytes(model: Mapping[str, Any]) -> int:
    """Size of the header's workspace on a machine with 4-byte alignment: 8 bytes a candidate, or 12 a column."""
    return max(8 * workspace_entries(model), 12 * int(model["input"]["width"]))


def _constants(model: Mapping[str, Any]) -> list[str]:
    tables = _tables_of(model)
    code = "int8_t" if model["outputs"][0]["dtype"] == "int8" else "int16_t"
    values = {
        **picture_constants(model),
        "CLASSES": model["num_classes"],
        "ANCHORS": model["num_anchors"],
        "PAIRS": "(HDX_ANCHORS * HDX_CLASSES) /* scores of a position */",
        "OUTPUTS": len(model["outputs"]),
        "LEVELS": len(model["levels"]),
        "PRIOR_OFFSET": float_literal(model["prior_offset"]),
        "MULTI_LABEL": int(model["multi_label"]),
        "MAX_CANDIDATES": workspace_entries(model),
        "MAX_DETECTIONS": model["max_per_img"],
        "IOU_THRESHOLD": float_literal(model["iou_threshold"]),
        "DELTAS": int(model["boxes"] == "deltas"),
        "EXP": int(_uses_exp(model)),
        **({"SCORE_THRESHOLD": float_literal(model["score_thr"])} if _has_factor(model) else {}),
        "TABLES": int(tables),
        "WORKSPACE_BYTES": workspace_bytes(model),
    }
    names = ", ".join(string_literal(name) for name in model["classes"])
    return [
        "#ifndef HDX_DECODER_H\n#define HDX_DECODER_H\n",
        f"#include <stddef.h>\n#include <stdint.h>\n{'' if tables else '#include <math.h>'}",
        "#if defined(__clang__)\n#pragma STDC FP_CONTRACT OFF\n#endif\n",
        *(f"#define HDX_{name} {value}" for name, value in values.items()),
        f"\ntypedef {code} hdx_code;\n",
        f"static const char *const hdx_classes[HDX_CLASSES] = {{{names}}};\n",
    ]


def _tables(model: Mapping[str, Any]) -> str:
    """The levels, and the tables of float values that they point to, each once."""
    tables: dict[tuple[str, ...], str] = {}
    text: list[str] = []

    def table(values: Sequence[float]) -> str:
        if not _tables_of(model):
            return "0"
        key = tuple(float_literal(value) for value in values) or ("0.0f",)
        if key not in tables:
            tables[key] = f"hdx_table_{len(tables)}"
            text.append(f"static const float {tables[key]}[{len(key)}] = {{\n{wrapped(key)}\n}};")
        return tables[key]

    rows = []
    for level in model["levels"]:
        cls, box = model["outputs"][level["cls"]], model["outputs"][level["box"]]
        scores = table(level["scores"] or ())
        exp = [table(values) for values in _exp_values(model, box)] if _uses_exp(model) else ["0", "0"]
        pairs = cls["height"] * cls["width"] * (cls["channels"] if model["multi_label"] else 1)
        numbers = [cls["height"], cls["width"], level["cls"], level["box"], level["threshold"], level["gate"]]
        numbers += [min(pairs, model["nms_pre"])]
        floats = [level["stride"], cls["scale"], cls["zero_point"], box["scale"], box["zero_point"]]
        cells = [*map(str, numbers), *(float_literal(value) for value in floats), scores, f"{{{', '.join(exp)}}}"]
        if _has_factor(model):
            factor = model["outputs"][level["factor"]]
            cells += [str(level["factor"]), float_literal(factor["scale"]), float_literal(factor["zero_point"])]
            cells.append(table(level["factors"] or ()))
        rows.append(f"    {{{', '.join(cells)}}},")
    struct = """typedef struct {
    int32_t height, width;       /* of the level's maps */
    int32_t cls, box;            /* which outputs they are */
    int32_t threshold;           /* smallest code whose score is above the score threshold */
    int32_t gate;                /* positions whose highest code is below it are skipped */
    uint32_t limit;              /* candidates kept */
    float stride;                /* pixels a position */
    float cls_scale, cls_zero, box_scale, box_zero;
    const float *scores;         /* of the codes from the threshold on */
    const float *exp[2];         /* of the regression's codes, from the lowest; where the model has it */
/* [if score_factor] */
    int32_t factor;              /* the output with the factors of the scores */
    float factor_scale, factor_zero;
    const float *factors;        /* of its codes, from the lowest */
/* [end] */
} hdx_level;
"""
    levels = "static const hdx_level hdx_levels[HDX_LEVELS] = {\n" + "\n".join(rows) + "\n};\n"
    return "\n".join([sections_of(struct, model), *text, levels, _anchors(model)])


def _anchors(model: Mapping[str, Any]) -> str:
    """The anchors of every level and how deltas are scaled; nothing for a model that has none."""
    if model["boxes"] != "deltas":
        return ""

    def row(values: Sequence[float]) -> str:
        return "{" + ", ".join(float_literal(value) for value in values) + "}"

    levels = ",\n".join(
        "    {" + ",\n     ".join(row(anchor) for anchor in level["anchors"]) + "}" for level in model["levels"]
    )
    return (
        f"#define HDX_MAX_LOG_RATIO {float_literal(model['max_log_ratio'])}\n\n"
        f"static const float hdx_reg_mean[4] = {row(model['reg_mean'])};\n"
        f"static const float hdx_reg_std[4] = {row(model['reg_std'])};\n\n"
        f"/* x1, y1, x2, y2 around a position's point */\n"
        f"static const float hdx_anchors[HDX_LEVELS][HDX_ANCHORS][4] = {{\n{levels}\n}};\n"
    )


def _has_factor(model: Mapping[str, Any]) -> bool:
    return bool(model.get("score_factor"))


def _uses_exp(model: Mapping[str, Any]) -> bool:
    return bool(model["boxes"] == "deltas" or model["exp_on_reg"])


def _exp_values(model: Mapping[str, Any], box: Mapping[str, Any]) -> list[list[float]]:
    """exp of every code of a regression output: for (width, height), of a model without anchors twice the same."""
    real = real_values(box)
    if model["boxes"] != "deltas":
        return [rounded.exp(real).tolist()] * 2
    scaled = [real * real.new_tensor(model["reg_std"][i]) + real.new_tensor(model["reg_mean"][i]) for i in (2, 3)]
    return [rounded.exp(delta.clamp(max=model["max_log_ratio"])).tolist() for delta in scaled]


def _tables_of(model: Mapping[str, Any]) -> bool:
    """Whether scores come from tables: int8 outputs; int16 would need 65 536 entries."""
    return bool(model["outputs"][0]["dtype"] == "int8")


def _constant_bytes(model: Mapping[str, Any]) -> int:
    """Bytes of the tables of scores and exponentials, each once."""
    if not _tables_of(model):
        return 0
    tables = {tuple(level[name]) for level in model["levels"] for name in ("scores", "factors") if name in level}
    if _uses_exp(model):
        for level in model["levels"]:
            tables |= {tuple(values) for values in _exp_values(model, model["outputs"][level["box"]])}
    return sum(4 * max(len(values), 1) for values in tables)
