"""Ctrl-C, SIGTERM and SIGHUP: an exception that cleans up as Ctrl-C does, or a request that a loop answers.

SIGTERM is what batch systems, containers and torchrun send before they kill; SIGHUP comes when a terminal closes.
"""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

from hatdet.utils.starting.torchrun import is_first_of_group, launched_by_torchrun

START_AGAIN = "start it again with the same command"
GROUP_SECONDS = 5.0
"""Under torchrun a signal comes twice, from the terminal and from torchrun: a repetition within this time is the same
request."""
AGAIN_SECONDS = 0.1
_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


class Terminated(KeyboardInterrupt):
    """Another signal than Ctrl-C's asks the process to end; whoever cleans up after Ctrl-C cleans up after it."""

    def __init__(self, number: int, message: str = "") -> None:
        super().__init__(*([message] if message else []))
        self.number = number


def signal_name(error: KeyboardInterrupt) -> str:
    """``SIGTERM`` and the like; empty for Ctrl-C."""
    return signal.Signals(error.number).name if isinstance(error, Terminated) else ""


def exit_status(error: KeyboardInterrupt) -> int:
    """128 and the signal's number: 130 for Ctrl-C, 143 for SIGTERM, 129 for SIGHUP."""
    return 128 + (error.number if isinstance(error, Terminated) else signal.SIGINT)


@contextlib.contextmanager
def terminating_like_ctrl_c() -> Iterator[None]:
    """Inside, SIGTERM and SIGHUP raise :class:`Terminated` in the main thread; what is ignored stays ignored.

    Child processes that are forked have the system's handlers.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    wanted = [n for n in _SIGNALS if n != signal.SIGINT and signal.getsignal(n) is signal.SIG_DFL]
    for number in wanted:
        signal.signal(number, _raise)
    before = sys.unraisablehook
    sys.unraisablehook = functools.partial(_send_again, before)
    try:
        yield
    finally:
        sys.unraisablehook = before
        for number in wanted:
            signal.signal(number, signal.SIG_DFL)


def _raise(number: int, frame: FrameType | None) -> None:
    raise error_of(number)


def _send_again(before: Callable[[Any], object], failure: Any) -> None:
    """A signal that comes while Python forks or frees something raises where exceptions are dropped: it comes again."""
    error = failure.exc_value
    if not isinstance(error, KeyboardInterrupt):
        before(failure)
        return
    number = error.number if isinstance(error, Terminated) else signal.SIGINT
    again = threading.Timer(AGAIN_SECONDS, os.kill, (os.getpid(), number))
    again.daemon = True
    again.start()


def _forget() -> None:
    for number in _SIGNALS:
        if signal.getsignal(number) is _raise:
            signal.signal(number, signal.SIG_DFL)


os.register_at_fork(after_in_child=_forget)


def error_of(number: int, message: str = "") -> KeyboardInterrupt:
    """The exception that a signal stands for."""
    if number == signal.SIGINT:
        return KeyboardInterrupt(*([message] if message else []))
    return Terminated(number, message)


class Interruption:
    """Requests to end, kept until the loop asks for them.

    Inside :meth:`deferred` the first signal only sets :attr:`number`; a second one raises at once.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self._since = 0.0

    @property
    def requested(self) -> bool:
        """Whether this process was asked to end."""
        return self.number is not None

    @contextlib.contextmanager
    def deferred(self) -> Iterator[None]:
        """Inside, signals are requests. In another thread than the main one nothing changes."""
        global _present
        self.number = None
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        wanted = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
        before = {number: signal.signal(number, self._request) for number in wanted}
        outer, _present = _present, self
        try:
            yield
        finally:
            _present = outer
            for number, handler in before.items():
                signal.signal(number, handler)

    def error(self, message: str = "") -> KeyboardInterrupt:
        """The exception to leave with."""
        return error_of(self.number if self.number is not None else signal.SIGTERM, message)

    def _request(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.number is None:
            self.number, self._since = number, now
            _say(f"{signal.Signals(number).name}: ending after this step; a second signal ends at once")
        elif not launched_by_torchrun() or now - self._since > GROUP_SECONDS:
            raise error_of(number)


_present: Interruption | None = None


def ending() -> bool:
    """Whether a request to end is being answered: a terminal or a pipe may be gone by now."""
    return _present is not None and _present.requested


def _say(text: str) -> None:
    """A line on stderr, in the way that a signal handler may."""
    if is_first_of_group():
        with contextlib.suppress(OSError, ValueError):
            os.write(sys.stderr.fileno(), f"{text}\n".encode())


@contextlib.contextmanager
def held_back() -> Iterator[None]:
    """Inside, signals wait; for a process that is forked here until it calls :func:`leave_signals_to_parent`."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def leave_signals_to_parent() -> None:
    """For a process that loads data: signals that go to the whole group are the training process's to answer.

    It needs its batches to finish the step, and ends its workers itself.
    """
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
