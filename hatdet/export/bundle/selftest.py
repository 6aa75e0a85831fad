"""The self-test of an exported model in C99: pictures as input codes, CRCs of all outputs, and the expected boxes.

The program of the board gives it a function that runs the network; it prints which profiles the outputs are those of,
and ``ok`` or the first thing that differs. The same in Python: ``selftest_script.py``.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hatdet.export.bundle.expected import Boxes, Expected, kernels_of
from hatdet.export.decoder.c_text import comment, float_literal, string_literal, wrapped
from hatdet.export.decoder.sections import sections_of

PICTURES = 3
_FOLDER = Path(__file__).parent
BODY, HOST = _FOLDER / "selftest_body.h", _FOLDER / "selftest_host.h"


def selftest_texts(prefix: str, names: Sequence[str], expected: Expected) -> dict[str, str]:
    """The files of the self-test by name: its header, its source, and a program that runs it on a computer.

    Args:
        prefix: what every name begins with; with boxes, that of ``<prefix>_decoder.h``.
        names: of the outputs, in the order of the file.
    """
    texts = {
        "hdx_selftest.h": _header(expected),
        "hdx_selftest.c": _source(names, expected),
        "hdx_selftest_host.c": HOST.read_text(encoding="utf-8"),
    }
    return {named(name, prefix): named(text, prefix) for name, text in texts.items()}


def crc(codes: np.ndarray) -> int:
    """CRC-32 of codes, each least significant byte first."""
    return zlib.crc32(np.ascontiguousarray(codes).astype(codes.dtype.newbyteorder("<")).tobytes())


def named(text: str, prefix: str) -> str:
    """A text of the templates with the model's prefix in every name."""
    return text.replace("hdx_", f"{prefix}_").replace("HDX_", f"{prefix.upper()}_")


def _header(expected: Expected) -> str:
    return f"""/*
 * Self-test of the model on a board: {expected.pictures} pictures in, CRCs of all outputs{_and_boxes(expected)}. C99.
 * The file is made for the profile {expected.profile}: {kernels_of(expected.profile)}.
 *
 *   static int run(void *context, const int8_t *input, const void **outputs) {{
 *       // yours: copy HDX_SELFTEST_INPUT_BYTES codes into the input tensor, run the network,
 *       // set outputs[i] to the raw codes of output i; 0: done
 *   }}
 *   static void print(void *context, const char *line) {{ puts(line); }}
 *
 *   hdx_selftest(run, print, 0); // prints which profiles the device implements, then "ok: ..." or what is wrong
 *
 * Flash: {expected.pictures} times {expected.codes[0].size} bytes of pictures. -DHDX_SELFTEST_PICTURES=1 takes one.
 */
#ifndef HDX_SELFTEST_H
#define HDX_SELFTEST_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {{
#endif

#ifndef HDX_SELFTEST_PICTURES
#define HDX_SELFTEST_PICTURES {expected.pictures}
#endif
#define HDX_SELFTEST_OUTPUTS {len(expected.own)}
#define HDX_SELFTEST_PROFILES {len(expected.outputs)}
#define HDX_SELFTEST_INPUT_BYTES {expected.codes[0].size}

/* What hdx_selftest returns. 0: the outputs are those of the file's own profile{_and_boxes_are(expected)}. */
#define HDX_SELFTEST_OUTPUT_DIFFERS 1 /* from what each of the profiles gives */
#define HDX_SELFTEST_BOX_DIFFERS 2
#define HDX_SELFTEST_NOT_RUN 3
#define HDX_SELFTEST_OTHER_PROFILE 4 /* every output is as another profile gives it */

/* Runs the network on the codes; the outputs stay as they are until it is called again. Returns 0, or what failed. */
typedef int (*hdx_selftest_run)(void *context, const int8_t *input, const void **outputs);
typedef void (*hdx_selftest_print)(void *context, const char *line);

int hdx_selftest(hdx_selftest_run run, hdx_selftest_print print, void *context);

size_t hdx_selftest_bytes(int output);          /* of an output of one picture */
const int8_t *hdx_selftest_input(int picture); /* its codes, [height][width][channels] */

#ifdef __cplusplus
}}
#endif

#endif
"""


def _and_boxes(expected: Expected) -> str:
    return ", and the boxes" if expected.boxes is not None else ""


def _and_boxes_are(expected: Expected) -> str:
    return ", and the boxes are as expected" if expected.boxes is not None else ""


def _source(names: Sequence[str], expected: Expected) -> str:
    include = '#include "hdx_decoder.h"\n' if expected.boxes is not None else ""
    given = {"boxes": expected.boxes is not None, "left_out": expected.left_out}
    body = sections_of(BODY.read_text(encoding="utf-8"), given)
    parts = [
        f"/* {comment(expected.origin)} */\n#include <stdio.h>\n#include <string.h>\n",
        f'{include}#include "hdx_selftest.h"\n',
        f"#if HDX_SELFTEST_PICTURES < 1 || HDX_SELFTEST_PICTURES > {expected.pictures}\n"
        f'#error "HDX_SELFTEST_PICTURES is 1 to {expected.pictures}"\n#endif\n',
        _pictures(expected),
        _outputs(names, expected),
        _profiles(expected),
        *([_boxes(expected.boxes)] if expected.boxes is not None else []),
        body,
    ]
    return "\n".join(parts)


def _pictures(expected: Expected) -> str:
    rows = [f"{{\n{wrapped([str(code) for code in codes.ravel().tolist()])}\n}}" for codes in expected.codes]
    table = "static const int8_t hdx_selftest_codes[HDX_SELFTEST_PICTURES][HDX_SELFTEST_INPUT_BYTES]"
    return f"{table} = {{\n{_first(rows)}}};\n"


def _outputs(names: Sequence[str], expected: Expected) -> str:
    shapes = []
    for name, codes in zip(names, expected.own, strict=True):
        height, width, channels = (1,) * (4 - codes.ndim) + codes.shape[1:]
        shapes.append(f"    {{{string_literal(name)}, {height}, {width}, {channels}, {codes.dtype.itemsize}}},")
    text = "\n".join(shapes)
    return f"""typedef struct {{
    const char *name;
    int32_t height, width, channels;
    int32_t bytes; /* of a code */
}} hdx_selftest_output;

static const hdx_selftest_output hdx_selftest_shapes[HDX_SELFTEST_OUTPUTS] = {{
{text}
}};
"""


def _profiles(expected: Expected) -> str:
    """CRCs of all pictures' outputs, by profile; the first is the one that the file is made for."""
    tables = []
    for outputs in expected.outputs.values():
        rows = (", ".join(f"0x{crc(codes[picture]):08x}u" for codes in outputs) for picture in range(expected.pictures))
        tables.append(f"{{\n{_first([f'{{{row}}}' for row in rows])}}},\n")
    names = "".join(
        f"    {{{string_literal(name)}, {string_literal(kernels_of(name))}}},\n" for name in expected.outputs
    )
    missing = "".join(f"/* {name} is left out: {comment(why)} */\n" for name, why in expected.left_out.items())
    return f"""typedef struct {{
    const char *name, *kernels; /* what computes so */
}} hdx_selftest_profile;

/* The first is the one that the file is made for. */
static const hdx_selftest_profile hdx_selftest_profiles[HDX_SELFTEST_PROFILES] = {{
{names}}};
{missing}
static const uint32_t hdx_selftest_crcs[HDX_SELFTEST_PROFILES][HDX_SELFTEST_PICTURES][HDX_SELFTEST_OUTPUTS] = {{
{"".join(tables)}}};
"""


def _boxes(found: Sequence[Boxes]) -> str:
    """All pictures' boxes in one table, and where each picture's begin."""
    starts = np.cumsum([0, *(len(one["scores"]) for one in found)]).tolist()
    rows = [
        "    {" + ", ".join(float_literal(v) for v in (*box, score)) + f", {label}}},"
        for one in found
        for box, score, label in zip(one["boxes"].tolist(), one["scores"].tolist(), one["labels"].tolist())
    ]
    text = "\n".join(rows or ["    {0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0}, /* there are none */"])
    return f"""/* For pictures of the size of the network's input; best first. */
static const hdx_detection hdx_selftest_expected[] = {{
{text}
}};

static const int32_t hdx_selftest_starts[] = {{{", ".join(map(str, starts))}}};
"""


def _first(rows: Sequence[str]) -> str:
    """Initializers of which only the first HDX_SELFTEST_PICTURES are compiled."""
    lines = []
    for number, row in enumerate(rows):
        lines.append(row + ",\n" if number == 0 else f"#if HDX_SELFTEST_PICTURES > {number}\n{row},\n#endif\n")
    return "".join(lines)
