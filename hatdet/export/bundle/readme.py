"""The page for whoever writes the board's program: files, input, outputs, memory, self-test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hatdet.export.bundle.expected import Expected
from hatdet.export.bundle.selftest_page import selftest_section
from hatdet.export.opening import lines
from hatdet.export.targets.boards import RUNTIMES, Board

ORDERS = {
    "BGR": "blue, green, red",
    "RGB": "red, green, blue",
    "YUV": "Y, U, V (full range BT.601, 4:4:4)",
    "GRAY": "gray (BT.601 luma)",
}
FILES = {
    "model.tflite": "the int8 model, byte for byte what was evaluated",
    "model.json": "its metadata: quantization, classes, preprocessing",
    "model_data.c": "the same as a C array, with `model_data.h`",
    "model_ops.h": "its operators for TensorFlow Lite Micro's resolver (C++)",
    "model_vela.tflite": "the model compiled by Vela",
    "model_vela_data.c": "the same as a C array, with `model_vela_data.h`",
    "model_vela_ops.h": "its operators for the resolver: the NPU's, and what is left to the CPU",
    "model_decoder.h": "picture to input codes, raw outputs to boxes (C99, no allocation)",
    "model_decoder.py": "the same with numpy",
    "model_selftest.c": "the self-test, with `model_selftest.h` (C99)",
    "model_selftest_host.c": "runs the self-test on a computer, of outputs that the board gave",
    "model_selftest.py": "the self-test in Python: numpy and a TensorFlow Lite interpreter, or a function of yours",
    "model_selftest.npz": "its pictures, CRCs and boxes",
    "labels.txt": "a class a line, in the order of the labels",
}


def readme(
    title: str,
    metadata: Mapping[str, Any],
    files: Mapping[str, int],
    memory: Sequence[str],
    calls: Sequence[str],
    expected: Expected,
    decoder: str | None,
    notes: Sequence[str] = (),
    board: Board | None = None,
) -> str:
    """The text.

    Args:
        title: the first line. metadata: of the int8 file, with ``preprocessing`` where it is known.
        files: bytes by name. memory: lines on flash and arena. calls: methods of the resolver; none: not for
            TensorFlow Lite Micro.
        expected: by the self-test. decoder: None where there is one, else why there is none.
        notes: what else has to be said. board: which the bundle is for.
    """
    parts = [
        f"# {title}\n",
        *(f"> {note}\n" for note in notes),
        _files(files),
        _input(metadata),
        _outputs(metadata),
        _opening(metadata),
        _decoding(decoder),
        "## Memory\n\n" + "\n".join(f"- {line}" for line in memory) + "\n",
        *([_board(board)] if board is not None else []),
        *([_operators(calls)] if calls else []),
        selftest_section(expected, bool(calls)),
    ]
    return "\n".join(parts)


def _files(files: Mapping[str, int]) -> str:
    rows = [f"| `{name}` | {files[name]:,} | {what} |" for name, what in FILES.items() if name in files]
    return "## Files\n\n| file | bytes | what it is |\n|---|---:|---|\n" + "\n".join(rows) + "\n"


def _input(metadata: Mapping[str, Any]) -> str:
    tensor, given = metadata["input"], metadata.get("preprocessing")
    _, height, width, channels = tensor["shape"]
    lines = [
        f"- int8, shape [1][{height}][{width}][{channels}] (NHWC): rows from the top, in a row pixels from the left, "
        f"in a pixel its {channels} channel{'s' if channels > 1 else ''}; {height * width * channels:,} bytes",
        f"- scale {tensor['scale']!r}, zero point {tensor['zero_point']}",
        "- code = pixel - 128, for a pixel of 0 to 255. That is all: mean and standard deviation are inside the model",
    ]
    if given is None:
        lines.append("- channel order and resizing: not known here; they are those of the validation transforms")
    else:
        shape = "keeps its proportions" if given["keep_ratio"] else "is stretched"
        limit = given["resize"]
        lines += [
            f"- channel order: {given['channels']} ({ORDERS.get(given['channels'], given['channels'])})",
            f"- the picture is resized bilinearly into {limit[0]} x {limit[1]} (height x width) and {shape}; it stands "
            f"in the top left corner, the rest is pixel {given['fill']} (code {given['fill'] - 128})",
        ]
    return "## Input\n\n" + "\n".join(lines) + "\n"


def _outputs(metadata: Mapping[str, Any]) -> str:
    rows = [
        f"| {i} | `{o['name']}` | {o['dtype']} | {' x '.join(map(str, o['shape']))} | {o['scale']!r} | "
        f"{o['zero_point']} |"
        for i, o in enumerate(metadata["outputs"])
    ]
    head = "| index | name | type | shape (NHWC) | scale | zero point |\n|---:|---|---|---|---:|---:|\n"
    return (
        "## Outputs\n\nIn the order of the file; real value = scale * (code - zero point).\n\n"
        + head
        + "\n".join(rows)
        + "\n"
    )


def _opening(metadata: Mapping[str, Any]) -> str:
    text = "Options of the interpreter choose the arithmetic, not the file; others run it too, and say nothing."
    return f"## Arithmetic\n\n{text}\n\n" + "\n".join(f"- {line}" for line in lines(metadata)) + "\n"


def _decoding(missing: str | None) -> str:
    if missing is not None:
        return f"## Boxes\n\nThere is no decoder in this bundle: {missing}\n"
    return (
        "## Boxes\n\n`model_decoder.h` has both sides of the network: `model_letterbox` makes input codes of a "
        "picture, `model_decode` boxes of the raw outputs; the comment at its top has an example. Compile it with "
        "`-ffp-contract=off` (which `-std=c99` implies): then boxes and scores are those of the evaluation to the last "
        "bit.\n"
    )


def _board(board: Board) -> str:
    lines = [f"- runs {RUNTIMES[board.runtime]}"]
    lines += [f"- {name}: {fact.text()}" for name, fact in board.facts().items()]
    return "\n".join([f"## {board.title}\n", *lines, *(f"- {note}" for note in board.notes), ""])


def _operators(calls: Sequence[str]) -> str:
    lines = "\n".join(f"resolver.{call}();" for call in calls)
    return f"## Operators\n\n`model_ops.h` registers them; by hand:\n\n```cpp\n{lines}\n```\n"
