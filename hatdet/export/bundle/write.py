"""A bundle: the int8 file and everything that a board's program needs around it, written into one folder."""

from __future__ import annotations

import hashlib
import json
import runpy
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import hatdet
from hatdet.export.arithmetic import refuse_other
from hatdet.export.bundle.board_check import computed_by_micro, memory_findings, micro_build, sram_of
from hatdet.export.bundle.expected import expectation
from hatdet.export.bundle.readme import FILES, readme
from hatdet.export.bundle.selftest import selftest_texts
from hatdet.export.bundle.selftest_python import selftest_files
from hatdet.export.bundle.sources import array_texts, resolver_text
from hatdet.export.decoder.model import Overrides
from hatdet.export.decoder.write import emit
from hatdet.export.files import write_atomic
from hatdet.export.runtimes.arena import measure_arena
from hatdet.export.runtimes.micro_operators import RESOLVER_CALLS, resolver_calls, without_kernel
from hatdet.export.targets.boards import Board
from hatdet.export.targets.report import INFO
from hatdet.export.targets.table import Target
from hatdet.export.tflite import int8 as tflite
from hatdet.export.tflite.file_operators import FileModel, graph_modules, read_file
from hatdet.export.vela.compile import VelaMissing, VelaResult, compile_file
from hatdet.integer.graph import IntGraph
from hatdet.integer.profile import Profile
from hatdet.utils.errors import UserError

NAME = "model"
TITLE = "A model for a board, written by hatdet"
PAGE = "README.md"
OWN_NAMES = {*FILES, *(name.replace(".c", ".h") for name in FILES if name.endswith(("_data.c", "_selftest.c")))}
CMSIS = "optimized kernels (CMSIS-NN, ESP-NN) take scratch memory besides: ask arena_used_bytes() on the board"


@dataclass(frozen=True)
class Bundle:
    """What was written: the folder, its files in their order, and remarks for the user."""

    folder: Path
    files: tuple[str, ...]
    remarks: tuple[str, ...]


def check_folder(folder: Path) -> None:
    """Refuse a place whose files a bundle would replace, though they are none of an earlier one.

    Raises:
        UserError: a file stands where the folder should, or a folder of something else has a README.md.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--bundle names a folder, and {folder} is a file; give another name")
    page = folder / PAGE
    if page.is_file() and not page.read_bytes().startswith(f"# {TITLE}".encode()):
        raise UserError(f"--bundle {folder}: {page} is there, and not of a bundle; name a folder of its own")


def check_profile(profile: Profile, target: Target | None, board: Board | None) -> None:
    """Refuse a file of another arithmetic than that of the board or NPU which is named.

    Raises:
        UserError: naming both.
    """
    if target is not None and target.npu:
        refuse_other(profile.name, target.runs)
    if board is not None and board.micro and not computed_by_micro(profile.name):
        refuse_other(profile.name, f"--board {board.name} runs TensorFlow Lite Micro, which")


def write_bundle(
    folder: Path,
    model: bytes,
    graph: IntGraph,
    codes: np.ndarray,
    facts: Mapping[str, Any] | None,
    *,
    no_decoder: str = "",
    overrides: Overrides | None = None,
    target: Target | None = None,
    board: Board | None = None,
) -> Bundle:
    """Write the files of a bundle; those of an older one are replaced or removed.

    Of a file whose profile TensorFlow Lite Micro does not have, the bundle is one for Linux and phones: without C
    arrays, resolver and arena.

    Args:
        folder: is made. model: the int8 ``.tflite`` of ``graph``.
        codes: input codes of the self-test's pictures, int8 (n, h, w, c), n > 0.
        facts: of :func:`hatdet.commands.shared.decoders.device_metadata`; None: no decoder, ``no_decoder`` says why.
        target: of an NPU: compiled by Vela too, where that is installed.
        board: what is known of it stands in the page; None: no board was named.

    Raises:
        UserError: the target does not run the model, or not in its arithmetic.
    """
    remarks: list[str] = []
    check_profile(graph.profile, target, board)
    if target is not None and (other := target.other_arithmetic(graph.profile, graph.second)):
        remarks.append(other)  # LiteRT runs the file all the same, with other numbers
    compiled = compiled_for(target, model, graph_modules(graph), remarks)  # refused before anything is written
    texts: dict[str, str] = {}
    micro = computed_by_micro(graph.profile.name)
    memory = [f"flash: {len(model):,} bytes of model" if micro else f"file: {len(model):,} bytes"]
    arena, calls = None, list[str]()
    if micro:
        if how := micro_build(graph.profile.name):
            remarks.append(how)
        operators = read_file(model)
        arena, note = _arena(model)
        memory.append(f"arena of TensorFlow Lite Micro: {note}")
        texts |= array_texts(NAME, model, arena, note)
        texts |= _resolver(NAME, operators, remarks)
        calls = _calls(operators)
    if compiled is not None:
        texts |= _compiled_texts(compiled, memory, remarks)
    if board is not None:
        remarks += _too_large(board, model, arena, compiled)
    metadata = {**tflite.read_metadata(model), **_known(facts)}
    boxes = None
    folder.mkdir(parents=True, exist_ok=True)
    if facts is not None:
        emit(None, metadata, folder / NAME, overrides=overrides)
        names = runpy.run_path(str(folder / f"{NAME}_decoder.py"))
        boxes = names["decode"]
    expected = expectation(model, graph, codes, boxes)
    output_names = [o["name"] for o in metadata["outputs"]]
    texts |= selftest_texts(NAME, output_names, expected)
    texts["model.json"] = json.dumps(metadata, indent=1, sort_keys=True) + "\n"
    texts["labels.txt"] = "".join(" ".join(str(n).split()) + "\n" for n in metadata.get("classes") or [])
    files = {f"{NAME}.tflite": model} | ({f"{NAME}_vela.tflite": compiled.data} if compiled is not None else {})
    files |= {name: text.encode("utf-8") for name, text in texts.items()}
    files |= selftest_files(NAME, output_names, expected, model)
    for name, data in files.items():
        write_atomic(folder / name, data)
    written = (*files, *((f"{NAME}_decoder.h", f"{NAME}_decoder.py") if facts is not None else ()))
    page = readme(
        f"{TITLE} {hatdet.__version__}",
        metadata,
        {name: (folder / name).stat().st_size for name in written},
        memory,
        calls,
        expected,
        None if facts is not None else no_decoder,
        [f"SHA-256 of model.tflite: {hashlib.sha256(model).hexdigest()}", *remarks],
        board,
    )
    write_atomic(folder / PAGE, page.encode("utf-8"))
    for name in OWN_NAMES - set(written):  # of an earlier bundle: of another model
        (folder / name).unlink(missing_ok=True)
    return Bundle(folder, (PAGE, *written), tuple(remarks))


def compiled_for(
    target: Target | None, model: bytes, modules: dict[str, str] | None, remarks: list[str]
) -> VelaResult | None:
    """The file compiled by Vela where the target is an NPU; without Vela None, and a remark.

    Raises:
        UserError: the NPU does not run the model.
    """
    if target is None or not target.npu:
        return None
    try:
        return compile_file(model, target, modules=modules)
    except VelaMissing as error:
        remarks.append(f"no file for {target.name}: {error}")
        return None


def _known(facts: Mapping[str, Any] | None) -> dict[str, Any]:
    """What the config adds to the file's own metadata; its tensors stay the file's."""
    own = ("input", "outputs", "output_names", "format", "profile")
    return {key: value for key, value in (facts or {}).items() if key not in own}


def _arena(model: bytes) -> tuple[int | None, str]:
    try:
        arena = measure_arena(model)
    except UserError as error:  # not installed here, or refused there
        return None, f"not measured: {error}"
    return arena.needed, (
        f"{arena.needed} bytes were enough, {arena.used} used ({arena.head} activations, {arena.tail} structures of a "
        f"64-bit machine); {CMSIS}"
    )


def _too_large(board: Board, model: bytes, arena: int | None, compiled: VelaResult | None) -> list[str]:
    """What of the board's memory does not suffice, or hardly does."""
    if compiled is not None:
        what = "SRAM of the NPU as Vela estimates it"
        found = memory_findings(board, len(compiled.data), sram_of(compiled), what)
    else:
        used = arena if board.micro else None
        found = memory_findings(board, len(model), used, "arena of TensorFlow Lite Micro")
    return [f"{board.name}: {finding.message}" for finding in found if finding.severity != INFO]


def _resolver(name: str, operators: FileModel, remarks: list[str]) -> dict[str, str]:
    codes = [op.code for op in operators.operators]
    if missing := without_kernel(codes):
        remarks.append(f"no {name}_ops.h: TensorFlow Lite Micro has no kernel of {', '.join(missing)}")
        return {}
    return {f"{name}_ops.h": resolver_text(name, codes)}


def _calls(operators: FileModel) -> list[str]:
    return resolver_calls(op.code for op in operators.operators if RESOLVER_CALLS.get(op.code))


def _compiled_texts(result: VelaResult, memory: list[str], remarks: list[str]) -> dict[str, str]:
    name = f"{NAME}_vela"
    sram = sram_of(result)
    note = f"Vela {result.version} estimates {sram} bytes of SRAM for the NPU; the interpreter's structures come on top"
    memory += [f"flash of {name}.tflite: {len(result.data):,} bytes", f"arena of {name}.tflite: {note}"]
    remarks.append(
        f"{name}.tflite is compiled for {result.target.name} ({result.system_config}, {result.memory_mode}) and was "
        "not run: run the self-test on the board"
    )
    return array_texts(name, result.data, None, note) | _resolver(name, result.compiled, remarks)
