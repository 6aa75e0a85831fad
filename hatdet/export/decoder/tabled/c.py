"""The C99 header of such a decoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
from hatdet.export.decoder.tabled.model import candidates_of

BODIES = [Path(__file__).with_name(name) for name in ("scores.h", "body.h", "end.h")]
METHODS = ("naive", "linear", "gaussian")
FORMS = ("sides", "deltas", "cells", "centre")
STRUCTS = """typedef struct {
    int32_t output, channels; /* which output, and its channels */
    int32_t first, step;      /* the numbers of anchor a begin at channel first + a * step */
} hdx_address;

typedef struct {
    int32_t height, width, anchors; /* of the level's maps; priors of a position */
    uint32_t limit;                 /* candidates kept */
    float stride[2];                /* pixels a position, in x and in y */
    int32_t point;                  /* priors are points, said as shares of a position */
    const float (*priors)[4];       /* x1, y1, x2, y2 at the first position */
    hdx_address cls, box;
    int32_t order[4];               /* which of the box codes is which value */
/* [if softmax] */
    const double *exponentials;     /* of the class codes */
/* [end] */
/* [if not softmax] */
    int32_t threshold;              /* smallest class code whose score passes the threshold */
    const float *scores;            /* of the class codes */
/* [end] */
/* [if bins] */
    const double *bins;             /* exponentials of the codes of bins */
/* [end] */
/* [if not bins] */
    const float *values[4];         /* of the box codes */
/* [end] */
/* [if aligned] */
    hdx_address shift;              /* where each side is read: y, x */
    const float *shifts;            /* of the codes, in positions */
    float unit;                     /* pixels of a stride */
/* [end] */
/* [if peaks] */
    hdx_address shift;              /* of the centre in its cell */
/* [end] */
/* [if num_buckets] */
    hdx_address shift;              /* of each side in its strip */
    const float *shifts;            /* of the codes, in strips */
/* [end] */
/* [if has_factor] */
    hdx_address factor;
    int32_t factor_gate;            /* priors whose code is below it have no candidates */
    const float *factors;           /* of the codes */
/* [end] */
} hdx_level;
"""


def tabled_header(model: Mapping[str, Any], prefix: str, source: str) -> str:
    """The text of the header, see :func:`hatdet.export.decoder.c.header`."""
    tables = _Tables()
    levels = ",\n".join("    " + _level(model, level, tables) for level in model["levels"])
    texts = [
        introduction(model, source, workspace_bytes(model), tables.bytes, MATHS if needs_math(model) else ""),
        *_constants(model),
        sections_of(STRUCTS, {**model, "bins": model["num_bins"] or model["num_buckets"]}),
        *tables.texts,
        f"static const hdx_level hdx_levels[HDX_LEVELS] = {{\n{levels}\n}};\n",
        sections_of(PICTURE_BODY.read_text(encoding="utf-8"), model),
        *(sections_of(body.read_text(encoding="utf-8"), model) for body in BODIES),
        "#endif\n",
    ]
    return "\n".join(texts).replace("hdx_", f"{prefix}_").replace("HDX_", f"{prefix.upper()}_")


MATHS = "Needs exp(), sqrtf() and floorf() of the C library (link with -lm).\n * "


def needs_math(model: Mapping[str, Any]) -> bool:
    """Whether functions of the C library are called."""
    return bool(model["root"] or model["aligned"] or model["ordered"])


def workspace_bytes(model: Mapping[str, Any]) -> int:
    """Size of the header's workspace: 8 bytes a candidate, or 12 a column."""
    return max(8 * candidates_of(model), 12 * int(model["input"]["width"]))


class _Tables:
    """Each table once."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.bytes = 0
        self._names: dict[tuple[str, ...], str] = {}

    def add(self, values: Sequence[float], double: bool = False) -> str:
        kind = "double" if double else "float"
        cells = tuple(double_literal(v) if double else float_literal(v) for v in values)
        key = (kind, *cells)
        if key not in self._names:
            self._names[key] = f"hdx_table_{len(self._names)}"
            self.bytes += len(cells) * (8 if double else 4)
            name = self._names[key]
            self.texts.append(f"static const {kind} {name}[{len(cells)}] = {{\n{wrapped(cells)}\n}};")
        return self._names[key]

    def priors(self, rows: Sequence[Sequence[float]]) -> str:
        text = ", ".join("{" + ", ".join(float_literal(value) for value in row) + "}" for row in rows)
        key = ("priors", text)
        if key not in self._names:
            self._names[key] = f"hdx_priors_{len(self._names)}"
            self.bytes += 16 * len(rows)
            self.texts.append(f"static const float {self._names[key]}[{len(rows)}][4] = {{{text}}};")
        return self._names[key]


def _level(model: Mapping[str, Any], level: Mapping[str, Any], tables: _Tables) -> str:
    pairs = level["height"] * level["width"] * len(level["anchors"])
    pairs *= model["num_classes"] if model["multi_label"] else 1
    cells = [str(level["height"]), str(level["width"]), str(len(level["anchors"]))]
    cells += [str(min(pairs, model["nms_pre"])), _braced(map(float_literal, level["stride"]))]
    cells += [str(int(level["point"])), tables.priors(level["anchors"])]
    cells += [_address(model, level["cls"]), _address(model, level["box"]), _braced(map(str, level["order"]))]
    if model["softmax"]:
        cells.append(tables.add(level["exponentials"], double=True))
    else:
        cells += [str(level["threshold"]), tables.add(level["scores"])]
    if model["num_bins"] or model["num_buckets"]:
        cells.append(tables.add(level["bins"], double=True))
    else:
        cells.append(_braced(tables.add(values) for values in level["values"]))
    if model["aligned"]:
        cells += [_address(model, level["shift"]), tables.add(level["shifts"]), float_literal(level["unit"])]
    if model["peaks"]:
        cells.append(_address(model, level["shift"]))
    if model["num_buckets"]:
        cells += [_address(model, level["shift"]), tables.add(level["shifts"])]
    if model["has_factor"]:
        cells += [_address(model, level["factor"]), str(level["factor_gate"]), tables.add(level["factors"])]
    return _braced(cells)


def _braced(cells: Any) -> str:
    return "{" + ", ".join(cells) + "}"


def _address(model: Mapping[str, Any], where: Mapping[str, int]) -> str:
    channels = model["outputs"][where["output"]]["channels"]
    return _braced(map(str, (where["output"], channels, where["first"], where["step"])))


def _numbers_of_boxes(model: Mapping[str, Any]) -> dict[str, Any]:
    """What boxes are made with, besides tables."""
    values: dict[str, Any] = {"CENTRE_LESS": float_literal(model["centre_less"]), "MORE": float_literal(model["more"])}
    if model["shift_limit"] is not None:
        values["SHIFT_LIMIT"] = float_literal(model["shift_limit"])
    count = model["num_buckets"]
    values |= {"BINS": model["num_bins"], "BUCKETS_COUNT": f"{count} /* strips of a direction; 0: no strips */"}
    if count:
        values |= {"BUCKETS": float_literal(count), "STRIPS": -(-count // 2), "GROWTH": float_literal(model["growth"])}
    return values


def _soft(model: Mapping[str, Any]) -> dict[str, Any]:
    """Of soft suppression."""
    methods = {name.upper(): number for number, name in enumerate(METHODS)}
    numbers = {name.upper(): float_literal(model[name]) for name in ("sigma", "min_score")}
    return {**methods, "SOFT": f"HDX_{model['soft']}".upper(), **numbers}


def _constants(model: Mapping[str, Any]) -> list[str]:
    values = {
        **picture_constants(model),
        "CLASSES": model["num_classes"],
        "OUTPUTS": len(model["outputs"]),
        "LEVELS": len(model["levels"]),
        **{name.upper(): number for number, name in enumerate(FORMS)},
        "FORM": f"HDX_{model['boxes'] if model['boxes'] in FORMS else 'sides'}".upper(),
        **_numbers_of_boxes(model),
        "SOFTMAX": int(model["softmax"]),
        "FACTOR": int(model["has_factor"]),
        "ROOT": int(model["root"]),
        "PEAKS": f"{model['peaks']} /* side of the square of neighbours; 0: scores need be no peaks */",
        "ALIGNED": int(model["aligned"]),
        "EARLY": int(model["early"]),
        "REACHES": int(model["reaches"]),
        "MULTI_LABEL": int(model["multi_label"]),
        "WHOLE": int(model["whole"]),
        "BY_LEVEL": int(model["by_level"]),
        "CLASS_AGNOSTIC": int(model["class_agnostic"]),
        "SUPPRESSES": int(model["suppresses"]),
        **(_soft(model) if model["soft"] else {}),
        "CLIPS": int(model["clips"]),
        "CLIP_LESS": model["clip_less"],
        **({} if model["min_size"] is None else {"MIN_SIZE": float_literal(model["min_size"])}),
        "SCORE_THRESHOLD": float_literal(model["score_thr"]),
        "IOU_THRESHOLD": float_literal(model["iou_threshold"]),
        "MAX_CANDIDATES": candidates_of(model),
        "MAX_DETECTIONS": model["max_per_img"],
        "WORKSPACE_BYTES": workspace_bytes(model),
    }
    names = ", ".join(string_literal(name) for name in model["classes"])
    return [
        "#ifndef HDX_DECODER_H\n#define HDX_DECODER_H\n",
        f"#include <stddef.h>\n#include <stdint.h>\n{'#include <math.h>' if needs_math(model) else ''}\n",
        "#if defined(__clang__)\n#pragma STDC FP_CONTRACT OFF\n#endif\n",
        *(f"#define HDX_{name} {value}" for name, value in values.items()),
        "\ntypedef int8_t hdx_code;\n",
        f"static const char *const hdx_classes[HDX_CLASSES] = {{{names}}};\n",
    ]
