"""One folder, one run: who may write into a work dir, what happens to what an earlier run has left there."""

from __future__ import annotations

import contextlib
import logging
import os
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from hatdet.config.config import Config
from hatdet.engine.checkpoints.provenance import file_digest, read_record
from hatdet.engine.stages import TRAIN_STAGES, best_checkpoint, find_callback, work_dir_of
from hatdet.utils import distributed
from hatdet.utils.checkpoints.archive import newest_whole
from hatdet.utils.errors import UserError
from hatdet.utils.locks import holder, locked_file, release_inherited

LOCK = ".lock"
GRAPH = "int_infer-graph.pth.tar"
_T = TypeVar("_T")
logger = logging.getLogger("hatdet")
os.register_at_fork(after_in_child=release_inherited)  # a worker that outlives a killed training holds nothing


@contextlib.contextmanager
def numbered(config: Config) -> Iterator[Path]:
    """A folder of its own for a new run, made now: the config's work dir, or the first of ``NAME-2``, ``NAME-3``, ...

    Every process of a group gets rank 0's. Where nothing was written into it, it is removed at the end.
    """

    def make() -> Path:
        base = work_dir_of(config, "").as_posix().rstrip("/")
        for number in range(1, 10**6):
            path = Path(base if number == 1 else f"{base}-{number}")
            with contextlib.suppress(FileExistsError):
                path.mkdir(parents=True)
                return path
        raise AssertionError("unreachable")

    folder = _once(make)
    try:
        yield folder
    finally:
        with contextlib.suppress(OSError):
            folder.rmdir()


@contextlib.contextmanager
def claimed(config: Config, stage: str, *, resume: bool, overwrite: bool) -> Iterator[None]:
    """Inside, this run (the processes of one group count as one) is the only one that trains in the folder.

    A new float training moves the folder of an earlier run aside first (``overwrite``), a new QAT its own former files.

    Raises:
        UserError: another process trains there, or an earlier run is there and ``overwrite`` is not given.
    """
    with contextlib.ExitStack() as stack:

        def enter() -> None:
            check_unused(config, stage, resume=resume, overwrite=overwrite)
            if stage == "float" and overwrite:
                replace_run(config)
            for folder in folders(config, stage):
                stack.enter_context(_lock(folder))
            check_unused(config, stage, resume=resume, overwrite=False)  # another process may have been quicker
            if stage == "qat" and not resume:
                set_aside(config, "an earlier QAT")

        _once(enter)
        yield


def check_unused(config: Config, stage: str, *, resume: bool, overwrite: bool) -> None:
    """Refuse a new float training in a folder in which a run has left checkpoints, and to resume one without its last.

    Raises:
        UserError: with the ways out.
    """
    if resume:
        _check_resumable(config, stage)
    if stage != "float" or resume or overwrite:
        return
    found = leftovers(config)
    if not found:
        return
    main = next((path for path in found if "-last." in path.name), found[0])
    raise UserError(
        f"{found[0].parent} holds a run already ({main.name}): --resume continues it, --overwrite moves it to "
        f"{_free(work_dir_of(config, ''))} and starts anew, --work-dir auto takes a folder of its own"
    )


def _check_resumable(config: Config, stage: str) -> None:
    """Without its last file a resumed training would begin anew, and mix its files with those that are there."""
    found = leftovers(config, TRAIN_STAGES if stage == "float" else (stage,))
    found = [path for path in found if path.name != GRAPH]
    if not found or stage == "calibration":  # which is always done whole
        return
    last = best_checkpoint(config, stage, "last")
    if not last.is_file():
        whole = newest_whole(last)
        copy = f"`cp {shlex.quote(str(whole))} {shlex.quote(str(last))}` lets it go on from there, " if whole else ""
        anew = "--overwrite instead of --resume" if stage == "float" else "leaving --resume out"
        raise UserError(
            f"nothing to resume from: {last.parent} has {found[0].name}, but no {last.name}: {copy}{anew} begins anew"
        )


def leftovers(config: Config, stages: tuple[str, ...] = TRAIN_STAGES) -> list[Path]:
    """Checkpoints that the stages of a run have left, and the integer graph."""
    found = []
    for stage in stages:
        if find_callback(config.get(f"{stage}_trainer") or {}, "Checkpoint"):
            best = best_checkpoint(config, stage)
            prefix = best.name.removesuffix("best.pth.tar")
            found += sorted(best.parent.glob(f"{prefix}*.pth.tar"))
            found += [graph for graph in [best.with_name(GRAPH)] if graph.is_file() and graph not in found]
    return found


def folders(config: Config, stage: str) -> list[Path]:
    """The folders that a stage writes into: the work dir, and that of its checkpoints where it is another."""
    found = [work_dir_of(config, "")]
    if find_callback(config.get(f"{stage}_trainer") or {}, "Checkpoint"):
        found.append(best_checkpoint(config, stage).parent)
    return list({path.absolute(): path for path in found}.values())


def replace_run(config: Config) -> None:
    """Move the folders of an earlier run aside, whole: ``NAME-old-1``; nothing is deleted.

    Raises:
        UserError: it is being written, or something lies in it that is not the run's (data, the config, this process).
    """
    if not leftovers(config):
        return
    places = [path for path in folders(config, "float") if path.is_dir()]
    places = [p for p in places if not any(p.absolute().is_relative_to(q.absolute()) for q in places if q != p)]
    for folder in places:
        _check_movable(config, folder)
    for folder in places:
        target = _free(folder)
        with _lock(folder):
            os.rename(folder, target)
        (target / LOCK).unlink(missing_ok=True)
        logger.info("%s of an earlier run is moved to %s", folder, target)


def set_aside(config: Config, whose: str) -> None:
    """Move the files of QAT, and the graph made of them, into ``old-1`` (``old-2``, ...) beside them."""
    found = leftovers(config, ("qat",))
    if not found:
        return
    folder = found[0].parent
    target = next(path for n in range(1, 10**6) if not (path := folder / f"old-{n}").exists())
    target.mkdir()
    for path in found:
        os.rename(path, target / path.name)
    logger.info("%d files of %s (%s) are moved to %s", len(found), whose, found[0].name, target)


def retire_qat(config: Config) -> None:
    """After a calibration: move the files of a QAT aside that started from another one; nothing takes them any more."""
    calibration, qat = (best_checkpoint(config, stage) for stage in ("calibration", "qat"))
    parent = ((read_record(qat) or {}).get("parents") or {}).get("calibration")
    if parent is not None and calibration.is_file() and parent["digest"] != file_digest(calibration):
        set_aside(config, "a QAT that started from another calibration")


def _free(folder: Path) -> Path:
    return next(path for n in range(1, 10**6) if not (path := Path(f"{folder}-old-{n}")).exists())


def _check_movable(config: Config, folder: Path) -> None:
    inside = {"the config file": config.path, "the current directory": Path.cwd()}
    for name, value in config.items():
        if isinstance(value, str) and name not in ("work_dir", "ckpt_dir") and os.sep in value and Path(value).exists():
            inside[name] = Path(value)
    place = folder.resolve()
    for what, path in inside.items():
        if path.exists() and path.resolve().is_relative_to(place):
            raise UserError(
                f"--overwrite would move {folder} aside, but {what} ({path}) lies in it: move that elsewhere, or give "
                "the new run a folder of its own with --work-dir"
            )


@contextlib.contextmanager
def _lock(folder: Path) -> Iterator[None]:
    new = not folder.is_dir()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / LOCK
    before = holder(path) if path.exists() else None
    try:
        with locked_file(path, f"the work dir {folder}", wait=False):
            if before is not None:
                logger.info("%s was in use by %s, which has ended: taken over", folder, before)
            yield
    finally:
        if new:
            with contextlib.suppress(OSError):  # it holds something now
                folder.rmdir()


def _once(action: Callable[[], _T]) -> _T:
    """Do it in rank 0; every process gets what it gives, or its error."""
    result: tuple[Any, str | None] = (None, None)
    error: UserError | None = None
    if distributed.is_main_process():
        try:
            result = (action(), None)
        except UserError as caught:
            error, result = caught, (None, str(caught))
    value, text = distributed.broadcast(result)
    if text is not None:
        raise error or UserError(text)
    return value  # type: ignore[no-any-return]
