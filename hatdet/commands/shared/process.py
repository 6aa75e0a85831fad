"""How a command starts and ends: one clear line for an error, an exit status, signals and closed pipes.

A command is a module, or a package with a module ``command``, that reads::

    def add_arguments(parser: argparse.ArgumentParser) -> None: ...

    def run(args: argparse.Namespace) -> int | None: ...

    main = command(__doc__, add_arguments, run)

Nothing large is imported before ``run``: ``--help`` is answered at once.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn, Protocol

from hatdet.commands.shared.arguments import EXIT_USER_ERROR, make_parser
from hatdet.utils.errors import UserError
from hatdet.utils.faults import explain, explain_os
from hatdet.utils.interruption import START_AGAIN, exit_status, signal_name, terminating_like_ctrl_c
from hatdet.utils.starting import program
from hatdet.utils.starting.torchrun import is_first_of_group

EXIT_BROKEN_PIPE = 141
FIRST_OF_GROUP_S = 5.0
"""Seconds that the other processes of a group hold an error back: where the first one has the same, torchrun ends them
meanwhile, and it is read once; an error that it has not is read a little later."""


class Main(Protocol):
    """The main function of a command."""

    def __call__(self, argv: Sequence[str] | None = None) -> int: ...


def command(
    description: str | None,
    add_arguments: Callable[[argparse.ArgumentParser], None],
    execute: Callable[[argparse.Namespace], int | None],
) -> Main:
    """The main function of a command: it returns the exit status.

    With arguments it is a function like any other, and raises what ``execute`` raises. Without, it does what the
    process's command line says and ends the process, as :func:`run` does.

    Args:
        description: what ``--help`` begins with, usually the module's ``__doc__``.
        add_arguments: declares the arguments. execute: does what they ask for; None means status 0.
    """

    def main(argv: Sequence[str] | None = None) -> int:
        if argv is None:
            run(lambda _: main(sys.argv[1:]))
        parser = make_parser(description)
        add_arguments(parser)
        return execute(parser.parse_args(argv)) or 0

    return main


def describe(error: BaseException) -> str:
    """What a user reads for an error: its message and notes, or the file that an OSError is about and what to do."""
    if isinstance(error, FileNotFoundError) and error.filename is not None:
        text = f"no such file or directory: {_plain(error.filename)}"
    elif isinstance(error, PermissionError) and error.filename is not None:
        text = f"permission denied: {_plain(error.filename)}; change its rights, or name another place"
    elif isinstance(error, OSError) and error.strerror:
        plain = f"{error.strerror}: {_plain(error.filename)}" if error.filename is not None else error.strerror
        text = explain_os(error) or plain
    else:
        text = str(error) or type(error).__name__
    notes = getattr(error, "__notes__", [])
    return f"{text} ({'; '.join(notes)})" if notes else text


def _plain(name: Any) -> Any:
    """A file's name as text: libraries that open files by bytes put these into the error."""
    return os.fsdecode(name) if isinstance(name, bytes) else name


def run(main: Callable[[Sequence[str] | None], int | None]) -> NoReturn:
    """Call ``main(None)`` and leave the process with its status.

    An error that is the user's to mend, or the machine's fault, is printed without a traceback (with one where
    ``HATDET_TRACEBACK=1``) and gives status 2; Ctrl-C gives 130, SIGTERM 143, SIGHUP 129; a reader that closed the
    pipe ends the run quietly with 141. Any other exception is a defect and keeps its traceback.
    """
    _prepare_streams()
    try:
        with terminating_like_ctrl_c(), _threads_leave_faults_to_their_owner():
            status = main(None) or 0
            sys.stdout.flush()
    except BrokenPipeError:
        status = EXIT_BROKEN_PIPE
    except KeyboardInterrupt as error:
        _show_traceback()
        if is_first_of_group():
            _complain(f"{program.name()}: interrupted{interruption(error)}")
        status = exit_status(error)
    except Exception as error:
        text = describe(error) if isinstance(error, (UserError, OSError)) else explain(error)
        if text is None:
            raise
        if not is_first_of_group():
            time.sleep(FIRST_OF_GROUP_S)
        _show_traceback()
        _complain(program.spoken(f"{program.name()}: error: {text}"))
        status = EXIT_USER_ERROR
    _flush()
    sys.exit(status)


def interruption(error: KeyboardInterrupt) -> str:
    """`` (SIGTERM); what to do``."""
    name = signal_name(error)
    return (f" ({name})" if name else "") + f"; {str(error) or START_AGAIN}"


def _prepare_streams() -> None:
    """Closed streams swallow what is written; characters that a stream's encoding lacks are written escaped."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_WRONLY), "w", encoding="utf-8"))
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


@contextlib.contextmanager
def _threads_leave_faults_to_their_owner() -> Iterator[None]:
    """A thread that writes (TensorBoard's) meets a full disk, a folder that is gone: whoever owns it gets the error."""
    before = threading.excepthook

    def hook(failure: threading.ExceptHookArgs) -> None:
        if not isinstance(failure.exc_value, OSError) or os.environ.get("HATDET_TRACEBACK", "") not in ("", "0"):
            before(failure)

    threading.excepthook = hook
    try:
        yield
    finally:
        threading.excepthook = before


def _complain(text: str) -> None:
    try:
        print(text, file=sys.stderr, flush=True)
    except OSError:  # a terminal that was closed
        pass


def _flush() -> None:
    """Python flushes stdout at exit and would complain where nobody reads it: give it somewhere to write."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _show_traceback() -> None:
    if os.environ.get("HATDET_TRACEBACK", "") not in ("", "0"):
        traceback.print_exc()
