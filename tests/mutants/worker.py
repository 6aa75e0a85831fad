"""A warm interpreter that runs pytest in forked children: torch is imported once, hatdet anew for every run.

Runs in the copy of the tree that it tests, as ``python -m tests.mutants.worker``. It reads one JSON object a line
(``args`` for pytest, ``limit`` in seconds, ``output`` for what pytest prints, and optionally ``trace``: where to write
which test ran which line of ``paths``) and answers each with one: ``{"code": exit code or null at the limit,
"seconds": ...}``.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

# Slow to import, and none of them knows hatdet. What is not installed is left out.
WARM = (
    "numpy", "torch", "torch.ao.quantization", "torch.fx", "torch.export", "cv2", "lmdb", "msgpack",
    "pycocotools.cocoeval", "hotcoco", "rich.console", "onnx", "onnxruntime", "flatbuffers",
    "ai_edge_litert.interpreter",
)  # fmt: skip


class Trace:
    """A pytest plugin: the lines of some files that each test ran, how long it took and whether it failed."""

    def __init__(self, paths: list[str]) -> None:
        root = str(Path.cwd())
        self.paths = {f"{root}/{path}": path for path in paths}
        self.tests: dict[str, dict[str, Any]] = {}
        self.lines: dict[str, set[int]] = {}

    def _enter(self, frame: FrameType, event: str, argument: Any) -> Any:
        path = self.paths.get(frame.f_code.co_filename)
        if path is None:
            return None
        lines = self.lines.setdefault(path, set())  # not the line of the def: that was run when it was imported

        def local(frame: FrameType, event: str, argument: Any) -> Any:
            lines.add(frame.f_lineno)
            return local

        return local

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        """Traces one test with its fixtures."""
        self.lines = {}
        self.tests[item.nodeid] = {"failed": False}
        threading.settrace(self._enter)
        sys.settrace(self._enter)
        start = time.perf_counter()
        try:
            return (yield)
        finally:
            sys.settrace(None)
            threading.settrace(None)  # type: ignore[arg-type]
            lines = {path: sorted(lines) for path, lines in self.lines.items()}
            self.tests[item.nodeid] |= {"seconds": time.perf_counter() - start, "lines": lines}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Notes a test that fails."""
        self.tests[report.nodeid]["failed"] |= report.failed


def _child(request: dict[str, Any]) -> None:
    os.setsid()  # the limit ends the tests' own processes too
    out = os.open(request["output"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0), os.dup2(out, 1), os.dup2(out, 2)
    trace = Trace(request["paths"]) if "trace" in request else None
    code = int(pytest.main(request["args"], plugins=[trace] if trace else []))
    if trace:
        Path(request["trace"]).write_text(json.dumps(trace.tests), encoding="utf-8")
    sys.stdout.flush()
    os._exit(code)


def run(request: dict[str, Any]) -> dict[str, Any]:
    """One run of pytest in a child; at its limit the child and all it started are killed."""
    start = time.perf_counter()
    pid = os.fork()
    if pid == 0:
        try:
            _child(request)
        finally:
            os._exit(99)
    child = os.pidfd_open(pid)
    ended = bool(select.select([child], [], [], request["limit"])[0])
    os.close(child)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    return {"code": os.waitstatus_to_exitcode(status) if ended else None, "seconds": time.perf_counter() - start}


def main() -> None:
    """Answers requests until standard input ends."""
    for name in WARM:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    answers = os.fdopen(os.dup(1), "w")
    for line in sys.stdin:
        print(json.dumps(run(json.loads(line))), file=answers, flush=True)


if __name__ == "__main__":
    main()
