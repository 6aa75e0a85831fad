"""The log of a run: one logger, plain lines on the console and in ``log.txt``, one live line in a terminal."""

from __future__ import annotations

import contextlib
import errno
import logging
import sys
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hatdet.utils import distributed
from hatdet.utils.interruption import ending
from hatdet.utils.starting.program import spoken

if TYPE_CHECKING:
    from rich.live import Live

logger = logging.getLogger("hatdet")

FILE_ONLY = {"file_only": True}
"""``logger.info(text, extra=FILE_ONLY)``: to the file, and to a console that has no live line."""

NO_CONSOLE = {"no_console": True}
"""To the file alone: the command itself says it on the console."""


CONSOLE_ONLY = {"console_only": True}
"""To the console alone: the file has it already."""

_PLAIN = {ord("━"): "#", ord("─"): "-"}
"""For terminals that have no lines."""


class _ConsoleHandler(logging.Handler):
    """Prints bare messages; above the live line where one is shown. Uses the present sys.stdout."""

    def __init__(self) -> None:
        super().__init__()
        self.live: Live | None = None
        self.early: deque[logging.LogRecord] = deque(maxlen=1000)
        """What was said while there was no file; a server never has one."""

    def emit(self, record: logging.LogRecord) -> None:
        if not any(isinstance(handler, logging.FileHandler) for handler in logger.handlers):
            self.early.append(record)
        if getattr(record, "no_console", False):
            return
        text = self.format(record)
        if self.live is not None:
            if not getattr(record, "file_only", False):
                self.live.console.print(text, markup=False, highlight=False, soft_wrap=True)
            return
        stream = sys.stderr if record.levelno >= logging.ERROR else sys.stdout
        try:
            stream.write(text + "\n")
            stream.flush()
        except OSError as error:  # the terminal was closed, or Ctrl-C has ended the reader of the pipe as well
            if error.errno != errno.EIO and not ending():
                raise


class _Formatter(logging.Formatter):
    """Names commands as the user of this process types them."""

    def format(self, record: logging.LogRecord) -> str:
        return spoken(super().format(record))


class _ConsoleFormatter(_Formatter):
    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        return text if record.levelno < logging.WARNING else f"{record.levelname.lower()}: {text}"


_console = _ConsoleHandler()
_console.setFormatter(_ConsoleFormatter("%(message)s"))


def setup_logging(file: str | Path | None = None, level: int = logging.INFO) -> logging.Logger:
    """Send hatdet's log to the console and, if given, to ``file`` (appended). Other ranks than 0 only warn.

    Calling it again replaces the file. What was said before there was one comes first in it.
    """
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
        if handler is not _console:
            handler.close()
    logger.setLevel(level if distributed.is_main_process() else logging.WARNING)
    logger.propagate = False
    logger.addHandler(_console)
    if file is not None and distributed.is_main_process():
        Path(file).parent.mkdir(parents=True, exist_ok=True)
        handler = logging.FileHandler(file, encoding="utf-8")
        handler.setFormatter(_Formatter("%(asctime)s %(levelname)s %(message)s"))
        handler.addFilter(lambda record: not getattr(record, "console_only", False))
        logger.addHandler(handler)
        for record in _console.early:
            handler.handle(record)
    _console.early.clear()
    return logger


@contextlib.contextmanager
def live_line() -> Iterator[Any]:
    """A line at the foot of the terminal: gives a function ``show(text)``, or None where the output is no terminal.

    Inside another one it shows in the same line.
    """
    if _console.live is not None:
        outer = _console.live
        yield lambda text: _show(outer, text)
        return
    if not sys.stdout.isatty() or not distributed.is_main_process():
        yield None
        return
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    with Live(Text(""), console=Console(), refresh_per_second=4, transient=True) as live:
        _console.live = live
        try:
            yield lambda text: _show(live, text)
        finally:
            _console.live = None


def _show(live: Live, text: str) -> None:
    from rich.text import Text

    if live.console.options.ascii_only:
        text = text.translate(_PLAIN)
    live.update(Text(text, no_wrap=True, overflow="ellipsis"))


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Let only warnings and errors of hatdet through: inside, steps are taken that the user did not ask for."""
    before = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(before)
