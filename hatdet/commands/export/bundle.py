"""``--bundle DIR``: the folder for whoever writes the board's program."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from hatdet.commands.export.source import Source, decoder_facts
from hatdet.config.config import Config
from hatdet.export.bundle.selftest import PICTURES
from hatdet.export.bundle.write import check_profile, write_bundle
from hatdet.export.decoder.model import Overrides, decoder_model
from hatdet.export.formats.table import ExportJob, FileRecord
from hatdet.export.metadata import build_metadata
from hatdet.export.runtimes.integer import to_nhwc
from hatdet.export.targets.boards import Board, get_board
from hatdet.export.targets.table import Target, get_target
from hatdet.utils.errors import UserError

if TYPE_CHECKING:
    from hatdet.commands.export.run import Request


def write_board_bundle(
    config: Config, request: Request, source: Source, job: ExportJob, int8: FileRecord, proven: bool
) -> dict[str, Any]:
    """Write the bundle around the exported int8 file and say what it has; its record for the results file.

    Args:
        proven: whether the file passed its checks; a bundle of another would only spread it.

    Raises:
        UserError: the target does not run the model.
    """
    assert request.bundle is not None
    if not proven:
        print(f"no bundle in {request.bundle}: {int8.path.name} did not pass its checks")
        return {"folder": None}
    target, board = devices(config, request)
    overrides = Overrides(score_thr=request.decoder_score_thr)
    facts, why = bundle_facts(source, job, overrides)
    bundle = write_bundle(
        Path(request.bundle),
        int8.path.read_bytes(),
        job.graph,
        to_nhwc(job.sample_codes(PICTURES)),
        facts,
        no_decoder=why,
        overrides=overrides,
        target=target,
        board=board,
    )
    for remark in (*([f"no decoder: {why}"] if why else []), *bundle.remarks):
        print(f"note: {remark}")
    print(f"written: {bundle.folder} ({len(bundle.files)} files; README.md says what they are)")
    return {"folder": str(bundle.folder), "files": list(bundle.files), "remarks": list(bundle.remarks)}


def check_devices(config: Config, request: Request, job: ExportJob) -> None:
    """Refuse a bundle for what computes in another arithmetic than the model is made for.

    Raises:
        UserError: naming both.
    """
    check_profile(job.graph.profile, *devices(config, request))


def devices(config: Config, request: Request) -> tuple[Target | None, Board | None]:
    """What files are for: the target that was asked for, that of the board, or the config's."""
    board = get_board(request.board) if request.board is not None else None
    name = request.options.target or (board.targets[0] if board is not None else config.get("target"))
    return get_target(name) if name else None, board


def bundle_facts(source: Source, job: ExportJob, overrides: Overrides) -> tuple[dict[str, Any] | None, str]:
    """What the decoder needs, or None and why there is none: a bundle is of use without it too."""
    try:
        facts = decoder_facts(source, job.graph)
        decoder_model(build_metadata(job.graph, facts), overrides)
    except UserError as error:
        return None, str(error)
    return facts, ""
