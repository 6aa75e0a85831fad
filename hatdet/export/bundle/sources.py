"""The C and C++ files of a bundle around a model: its bytes as an array, and its operators for the resolver."""

from __future__ import annotations

from collections.abc import Sequence

from hatdet.export.runtimes.micro_operators import resolver_calls

ROW = 20
ALIGNMENT = 16


def array_texts(name: str, data: bytes, arena: int | None, arena_note: str) -> dict[str, str]:
    """``<name>_data.h`` and ``<name>_data.c``: the file as an array, aligned as the runtimes want it.

    Args:
        arena: bytes of working memory; None: not known.
        arena_note: where that number comes from, or why it is not known.
    """
    upper = name.upper()
    size = f"#define {upper}_ARENA_BYTES {arena} /* {arena_note} */" if arena is not None else f"/* {arena_note} */"
    rows = (data[i : i + ROW] for i in range(0, len(data), ROW))
    text = "\n".join("    " + ", ".join(f"0x{byte:02x}" for byte in row) + "," for row in rows)
    head = f"""/* {name}.tflite, {len(data)} bytes. */
#ifndef {upper}_DATA_H
#define {upper}_DATA_H

#ifdef __cplusplus
extern "C" {{
#endif

#define {upper}_DATA_BYTES {len(data)}
{size}

extern const unsigned char {name}_data[{upper}_DATA_BYTES]; /* aligned to {ALIGNMENT} bytes */

#ifdef __cplusplus
}}
#endif

#endif
"""
    body = f"""#include "{name}_data.h"

#if defined(__GNUC__) || defined(__clang__)
#define ALIGNED __attribute__((aligned({ALIGNMENT})))
#else
#define ALIGNED /* have your compiler align it to {ALIGNMENT} bytes */
#endif

ALIGNED const unsigned char {name}_data[{upper}_DATA_BYTES] = {{
{text}
}};
"""
    return {f"{name}_data.h": head, f"{name}_data.c": body}


def resolver_text(name: str, codes: Sequence[str]) -> str:
    """``<name>_ops.h``: the operators of the file for TensorFlow Lite Micro's resolver.

    Raises:
        UserError: an operator that TensorFlow Lite Micro does not have.
    """
    calls = resolver_calls(codes)
    lines = "\n".join(f"    TF_LITE_ENSURE_STATUS(resolver.{call}());" for call in calls)
    kind = "".join(part.capitalize() for part in name.split("_"))
    return f"""/* The operators of {name}.tflite for TensorFlow Lite Micro: {len(calls)} of them, C++. */
#ifndef {name.upper()}_OPS_H
#define {name.upper()}_OPS_H

#include "tensorflow/lite/micro/micro_mutable_op_resolver.h"

using {kind}Resolver = tflite::MicroMutableOpResolver<{len(calls)}>;

inline TfLiteStatus {name}_add_ops({kind}Resolver &resolver) {{
{lines}
    return kTfLiteOk;
}}

#endif
"""
