"""How the library of C kernels is made and found, and what there is without it."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from hatdet.integer.executor import IntExecutor
from hatdet.integer.graph import IntGraph
from hatdet.integer.native import build
from hatdet.integer.operators.layout.pad import PadOp
from hatdet.integer.tensors import QuantParams, TensorInfo


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Nothing is compiled yet."""
    monkeypatch.delenv("HATDET_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    for cached in (build.library, build._found):
        cached.cache_clear()
    yield tmp_path / "home" / "hatdet" / "machine"
    for cached in (build.library, build._found):
        cached.cache_clear()


def script(folder: Path, text: str) -> str:
    file = folder / "some-cc"
    file.write_text(f"#!/bin/sh\n{text}\n")
    file.chmod(0o755)
    return str(file)


def executor(backend: str = "auto") -> IntExecutor:
    q = QuantParams(1.0, 0)
    tensors = {"x": TensorInfo("x", (1, 2, 2), q), "y": TensorInfo("y", (1, 3, 2), q)}
    return IntExecutor(IntGraph(tensors, [PadOp("p", "x", "y", (1, 0, 0, 0))], ("x",), ("y",)), backend=backend)


def refused(reason: str) -> None:
    assert build.library() is None
    assert reason in build.describe() and build.describe().startswith("torch (")
    assert executor().backend in ("int8", "float32")
    (made,) = executor()(torch.ones(1, 1, 2, 2, dtype=torch.int8))
    assert made.view(-1).tolist() == [0, 0, 1, 1, 1, 1]
    with pytest.raises(ValueError, match="the native backend is not available here"):
        executor("native")


def test_the_switch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HATDET_NATIVE", "0")
    refused("HATDET_NATIVE is off")


def test_a_compiler_that_is_no_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", 'gcc "-O2')
    refused("No closing quotation")


def test_no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build.shutil, "which", lambda name: None)
    refused("no C compiler")


@pytest.mark.parametrize("text", ["echo 'k.c:1: error: not today' >&2; exit 1", "exit 0", "kill -9 $$"])
def test_a_compiler_that_fails(text: str, tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", script(tmp_path, text))
    refused("failed: ")
    assert "not today" in build.describe() or "error" not in text
    assert list(own_cache.iterdir()) == [], "nothing is left behind"


def test_a_compiler_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", script(tmp_path, "exec sleep 60"))
    monkeypatch.setattr(build, "PATIENCE", 0.1)
    refused("timed out")


def test_no_folder_to_write_into(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if build.shutil.which("cc") is None:
        pytest.skip("no C compiler")
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    refused("Not a directory")


def test_a_file_that_is_no_library(own_cache: Path) -> None:
    made = library_or_skip()
    made.write_bytes(b"\x7fELF")
    refused("file too short")


def test_wrong_kernels_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    library_or_skip()
    monkeypatch.setattr(build, "prove", lambda kernels: False)
    refused("not exact")


def library_or_skip() -> Path:
    try:
        return build.built()
    except build._Unavailable as error:
        pytest.skip(f"no kernels in C here: {error}")


def test_compiled_once_and_anew_for_other_flags(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = library_or_skip()
    assert made.parent == own_cache and list(own_cache.iterdir()) == [made]
    monkeypatch.setattr(build, "_compile", lambda command, target: pytest.fail("it is there"))
    assert build.built() == made
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(own_cache.parents[1]))
    assert build.built(["-DOTHER"]) != made
    assert build.library() is not None and "products at once" in build.describe()
    made_executor = executor()
    assert made_executor.backend == "native"
    assert copy.deepcopy(made_executor).native is made_executor.native


def test_what_another_user_wrote_is_not_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    made = library_or_skip()
    assert build._is_ours(made)
    monkeypatch.setattr(os, "getuid", lambda: made.stat().st_uid + 1)
    assert not build._is_ours(made)


def test_processes_that_compile_at_once(own_cache: Path) -> None:
    library_or_skip().unlink()
    code = "from hatdet.integer.native import build; assert build.library() is not None, build.describe()"
    started = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(2)]
    assert [process.wait() for process in started] == [0, 0]
    assert len(list(own_cache.iterdir())) == 1
