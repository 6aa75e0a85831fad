"""What the command lines in ``tools/`` share: parsers, the config's arguments, and how a run ends.

A tool reads::

    def main(argv: Sequence[str] | None = None) -> int | None:
        parser = make_parser(__doc__)
        add_config_arguments(parser)
        config = load_from_args(parser.parse_args(argv))
        ...

    if __name__ == "__main__":
        run(main)
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
from typing import TYPE_CHECKING, Any, NoReturn

from hatdet.utils.errors import UserError, did_you_mean
from hatdet.utils.faults import explain, explain_os
from hatdet.utils.interruption import START_AGAIN, exit_status, signal_name, terminating_like_ctrl_c
from hatdet.utils.torchrun import is_first_of_group

if TYPE_CHECKING:
    from hatdet.config import Config

EXIT_USER_ERROR = 2
EXIT_BROKEN_PIPE = 141
FIRST_OF_GROUP_S = 5.0
"""Seconds that the other processes of a group hold an error back: where the first one has the same, torchrun ends them
meanwhile, and it is read once; an error that it has not is read a little later."""


class Parser(argparse.ArgumentParser):
    """An argument parser that names the nearest flag for an unknown one; positionals may stand anywhere."""

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As in argparse, but ``tool a --flag x b`` works where both positionals are optional."""
        if self._subparsers is not None:
            return super().parse_args(args, namespace)
        return self.parse_intermixed_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        """Print one line on stderr and exit with status 2."""
        prefix = "unrecognized arguments: "
        if message.startswith(prefix):
            words = message.removeprefix(prefix).split()
            flags = list(self._option_string_actions)
            hints = [did_you_mean(word.split("=")[0], flags) for word in words if word.startswith("-")]
            message += next((hint for hint in hints if hint), "; see --help")
        self.exit(EXIT_USER_ERROR, f"{self.prog}: error: {message}\n")


def make_parser(description: str | None) -> Parser:
    """A parser whose help begins with ``description``, usually the tool's ``__doc__``, as it is written."""
    return Parser(
        description=(description or "").strip(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,  # a flag that is added later must not change what an abbreviation means
    )


def add_config_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ``config`` (positional or ``--config``), ``--cfg-options K=V ...`` and ``--work-dir``."""
    parser.add_argument("config", nargs="?", metavar="CONFIG", help="config file (a Python file)")
    parser.add_argument("--config", dest="config_flag", metavar="CONFIG", help="the same, as a flag")
    parser.add_argument(
        "--cfg-options",
        "--cfg_options",
        nargs="+",
        action="extend",
        default=[],
        metavar="K=V",
        help="values for names of the config (num_classes=2 'imgsz=(192,192)'), which reach every expression"
        " that uses them, or for keys inside it (float_trainer.optimizer.lr=1e-3)",
    )
    parser.add_argument(
        "--work-dir",
        "--work_dir",
        metavar="DIR",
        help="where results go (default: the config's work_dir, or work_dirs/CONFIG)",
    )


def add_launcher_arguments(parser: argparse.ArgumentParser) -> None:
    """Accept what SSCMA's users write (``--launcher none --local_rank 0``) for a command that one process runs."""
    parser.add_argument("--launcher", choices=("none",), default="none", help="only none: one process does this")
    parser.add_argument("--local-rank", "--local_rank", type=int, default=0, help=argparse.SUPPRESS)


def check_json(path: str | None) -> None:
    """Refuse an ``--out`` that is not a json file.

    Raises:
        UserError: e.g. ``x.pkl``: loading a pickle can run code, so none is written.
    """
    if path is not None and not path.endswith(".json"):
        hint = " (a pickle can run code when it is read)" if path.endswith((".pkl", ".pickle")) else ""
        raise UserError(f"--out {path}: numbers are written as json{hint}; give a name that ends with .json")


def config_path(args: argparse.Namespace) -> str:
    """The config file named on the command line.

    Raises:
        UserError: none is named, or the positional and ``--config`` differ.
    """
    if args.config and args.config_flag and os.path.abspath(args.config) != os.path.abspath(args.config_flag):
        raise UserError(f"two configs: {args.config!r} and --config {args.config_flag!r}; give one of them")
    path = args.config or args.config_flag
    if not path:
        swallowed = [word for word in args.cfg_options if word.endswith(".py") and "=" not in word]
        hint = f"; put {swallowed[0]} before --cfg-options" if swallowed else "; give one, or --config FILE"
        raise UserError(f"no config file was given{hint}")
    return str(path)


def place_file_argument(args: argparse.Namespace, name: str) -> None:
    """Move the positional that follows the config to its place: with ``--config`` it is the first one.

    What is a Python file stays: it is a second config.
    """
    if getattr(args, name) is None and args.config_flag and args.config and not args.config.endswith(".py"):
        args.config, found = None, args.config
        setattr(args, name, found)


def take_file_argument(args: argparse.Namespace, name: str) -> str:
    """The positional that follows the config (:func:`place_file_argument`), which has to be there.

    Raises:
        UserError: it is missing.
    """
    place_file_argument(args, name)
    if getattr(args, name) is None:
        swallowed = [word for word in args.cfg_options if "=" not in word]
        hint = f"put {swallowed[0]} before --cfg-options" if swallowed else f"give its file: CONFIG {name.upper()}"
        raise UserError(f"no {name} was given; {hint}")
    return str(getattr(args, name))


def load_from_args(args: argparse.Namespace) -> Config:
    """Load the config that the arguments of :func:`add_config_arguments` describe."""
    from hatdet.config import load_config

    return load_config(config_path(args), options_from_args(args))


def options_from_args(args: argparse.Namespace) -> dict[str, object]:
    """The options of ``--cfg-options`` and ``--work-dir``."""
    from hatdet.config import parse_options

    options = dict(parse_options(args.cfg_options))
    if args.work_dir == "auto":
        raise UserError("--work-dir auto is for a new float training (tools/train.py); name the folder of the run")
    if args.work_dir is not None:
        options["work_dir"] = args.work_dir
    return options


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
    program = os.path.basename(sys.argv[0])
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
            _complain(f"{program}: interrupted{interruption(error)}")
        status = exit_status(error)
    except Exception as error:
        text = describe(error) if isinstance(error, (UserError, OSError)) else explain(error)
        if text is None:
            raise
        if not is_first_of_group():
            time.sleep(FIRST_OF_GROUP_S)
        _show_traceback()
        _complain(f"{program}: error: {text}")
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
