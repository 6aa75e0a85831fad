"""A training that is asked to end (Ctrl-C, SIGTERM, SIGHUP): where it may, what it saves, what it says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from hatdet.utils import distributed
from hatdet.utils.errors import UserError
from hatdet.utils.interruption import START_AGAIN

if TYPE_CHECKING:
    from hatdet.engine.loop import Loop


class EvaluationStopped(BaseException):
    """Leaves an evaluation at the end of an epoch; the resumed run begins it anew."""


def asked(loop: Loop) -> bool:
    """Whether any process was asked to end, and this is a place where a checkpoint can be written."""
    requested = distributed.any_process(loop.interruption.requested)
    return requested and not loop.batch_processor.between_updates(loop)


def stop_evaluation(loop: Loop) -> None:
    """Called within a validation: leaves it where that is right (alone, and at the end of an epoch)."""
    if loop.in_epoch_end and loop.interruption.requested and distributed.get_world_size() == 1:
        raise EvaluationStopped


def until_asked(loop: Loop, batches: Iterator[Any]) -> Iterator[Any]:
    """The batches; where they end because the whole job is being ended, the training ends at the step before."""
    while True:
        try:
            batch = next(batches)
        except StopIteration:
            return
        except UserError as error:
            if not loop.interruption.requested:
                raise
            if distributed.get_world_size() > 1 or loop.batch_processor.between_updates(loop):
                raise loop.interruption.error() from error
            leave(loop, save=loop.resume_rng is None)  # else: nothing was done since it was resumed
        yield batch


def leave(loop: Loop, *, save: bool = True) -> NoReturn:
    """Write the checkpoint that ``--resume`` continues from, and raise what the signal stands for.

    Args:
        save: False: it is written already.
    """
    writer = next((callback for callback in loop.callbacks if hasattr(callback, "last_path")), None)
    if writer is None:
        raise loop.interruption.error("nothing is saved: there is no Checkpoint callback")
    if save:
        writer.save(loop, [])  # type: ignore[attr-defined]
    done = loop.progress
    where = f"epoch {done.epoch + 1}, step {done.step_in_epoch} of {loop.steps_per_epoch}"
    raise loop.interruption.error(
        f"{where} is saved in {writer.last_path}; the same command with --resume continues there"
    )


def describe(loop: Loop, error: KeyboardInterrupt) -> str:
    """What to do after an interruption, also after one at which nothing was saved."""
    if str(error):
        return str(error)
    paths = [path for c in loop.callbacks if isinstance(path := getattr(c, "last_path", None), Path)]
    last = next((path for path in paths if path.is_file()), None)
    if loop.resumable and last is not None:
        return f"the same command with --resume continues from {last}"
    return START_AGAIN
