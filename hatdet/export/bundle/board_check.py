"""Does a model fit a board? Its file is held against flash, RAM, NPU, resolver and layout, as far as they are known."""

from __future__ import annotations

from collections.abc import Iterator

from hatdet.export.runtimes.arena import measure_arena
from hatdet.export.runtimes.micro_operators import without_kernel
from hatdet.export.targets.boards import Board
from hatdet.export.targets.report import INFO, REFUSED, WARNING, CheckReport, Finding
from hatdet.export.targets.table import Target
from hatdet.export.tflite.file_operators import FileModel
from hatdet.export.vela.compile import VelaResult, compile_file
from hatdet.integer.arithmetic import PROFILE
from hatdet.integer.profiles.table import profile_named
from hatdet.utils.errors import UserError

NEARLY = 0.75
"""A share of a memory above which little is left for the program."""


def check_board(board: Board, report: CheckReport) -> None:
    """Add to the report what of the board a model does not keep to.

    Args:
        report: of the board's target; without a file where the model was refused before, or packages are missing.
    """
    report.board = board
    if board.micro and not report.target.arithmetic and not computed_by_micro(report.arithmetic):
        report.add(REFUSED, "", f"{board.name} runs TensorFlow Lite Micro, which does not compute in the arithmetic "
                   f"{report.arithmetic!r}: set arithmetic={PROFILE!r}")  # fmt: skip
    elif board.micro and (how := micro_build(report.arithmetic)):
        report.add(INFO, "", how)
    if report.file is None or report.model is None:
        report.add(INFO, "", f"memory and operators of {board.name} are checked once there is a file")
        return
    for finding in _findings(board, report.target, report.model, report.file):
        report.add(finding.severity, finding.path, finding.message)


def _findings(board: Board, target: Target, model: FileModel, data: bytes) -> Iterator[Finding]:
    yield from _operators(board, model)
    yield from _layout(board, model)
    size, sram, working = len(data), None, ""
    if target.npu:
        try:
            compiled = compile_file(data, target)
            size, sram = len(compiled.data), sram_of(compiled)
            working = f"SRAM of the NPU as Vela {compiled.version} estimates it"
        except UserError as error:  # not installed; what the NPU refuses is refused before
            yield Finding(INFO, "", f"working memory: not known, {error}")
    elif board.micro:
        try:
            sram, working = measure_arena(data).needed, "arena as TensorFlow Lite Micro needs it here"
        except UserError as error:
            yield Finding(INFO, "", f"arena: not measured, {error}")
    if sram is None and not target.npu:
        sram, at = model.peak_activation()
        working = f"activations at {at}, which is the least that any runtime needs"
    yield from memory_findings(board, size, sram, working)
    if board.npu_memory is not None and board.npu_memory.value is not None:
        if model.constant_bytes > board.npu_memory.value:
            yield Finding(WARNING, "", f"NPU memory: weights of {model.constant_bytes:,} bytes, there are "
                          f"{board.npu_memory.value:,}: the rest is fetched at every run")  # fmt: skip


def computed_by_micro(arithmetic: str) -> bool:
    """Whether TensorFlow Lite Micro computes in an arithmetic, built as :func:`micro_build` says."""
    return profile_named(arithmetic).micro is not None


def micro_build(arithmetic: str) -> str:
    """How TensorFlow Lite Micro must be built to compute in an arithmetic; empty: as it is, or it cannot."""
    needed = " ".join(f"-D{word}" for word in profile_named(arithmetic).micro or ())
    return needed and f"TensorFlow Lite Micro computes in the arithmetic {arithmetic!r} when it is built with {needed}"


def sram_of(compiled: VelaResult) -> int:
    """Bytes of SRAM that Vela estimates for the NPU."""
    return round(1024 * compiled.number("sram_memory_used"))


def memory_findings(board: Board, size: int, sram: int | None, what: str) -> Iterator[Finding]:
    """A file of ``size`` bytes against the board's flash, and its working memory (None: not known) against the RAM."""
    yield from _memory("flash", size, "file", board.flash.value, board.flash.about, False)
    if sram is not None:
        yield from _memory("RAM", sram, what, board.ram.value, board.ram.about, board.external)


def _memory(name: str, used: int, what: str, there: int | None, about: str, external: bool) -> Iterator[Finding]:
    line = f"{name}: {used:,} bytes ({what})"
    if there is None:
        yield Finding(INFO, "", f"{line}; how much there is, is not known: {about}")
    elif used > there:
        more = "; it has to lie in external memory, which is slower" if external else ""
        yield Finding(WARNING if external else REFUSED, "", f"{line}, there are {there:,}{more}")
    elif used > NEARLY * there:
        yield Finding(WARNING, "", f"{line} of {there:,}: little is left for the program and the camera")
    else:
        yield Finding(INFO, "", f"{line} of {there:,}")


def _operators(board: Board, model: FileModel) -> Iterator[Finding]:
    if board.micro:
        for code in without_kernel(op.code for op in model.operators):
            path = next(op.path for op in model.operators if op.code == code)
            yield Finding(REFUSED, path, f"{code}: TensorFlow Lite Micro has no kernel of it")
    if board.operators is None:
        return
    left = [op for op in model.operators if op.code not in board.operators]
    if left:
        first, number = left[0], model.operators.index(left[0])
        yield Finding(WARNING, first.path, f"{first.code} is not mapped by the compiler of {board.name}: it and the "
                      f"{len(model.operators) - number - 1} operators after it run on the CPU")  # fmt: skip


def _layout(board: Board, model: FileModel) -> Iterator[Finding]:
    if not board.eight_bits_only:
        return
    wide = [op for op in model.operators if any(t.dtype not in ("INT8", "UINT8") for t in op.outputs)]
    if wide:
        yield Finding(WARNING, wide[0].path, f"{wide[0].code} gives {wide[0].outputs[0].dtype.lower()}: {board.name} "
                      "computes with 8 bits only, so this runs on the CPU")  # fmt: skip
    for op in model.operators:
        if any(n != 1 for t in op.outputs for n in t.shape[:-3]):
            yield Finding(WARNING, op.path, f"{op.code} makes a tensor of more than 3 dimensions larger than 1")
