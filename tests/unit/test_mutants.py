"""`make mutants`: what is mutated, and that its draw stays where it is."""

from __future__ import annotations

import tomllib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.mutants.core import CORE, core_files

SOURCE = '''
from __future__ import annotations

import functools
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


@functools.lru_cache
def wide(a: int | None, *, limit: int = 5) -> int | None:
    """Text with 5 < 6."""
    if a is None or not a < limit:
        return -1
    return min(a + 1, limit)
'''


def test_core_modules_are_where_the_list_says(repo_root: Path) -> None:
    """A module that moves takes its place in the list with it."""
    files = core_files(repo_root)
    assert set(files.values()) == set(CORE) and len(files) > 60
    assert all((repo_root / "tests" / "unit" / folder).is_dir() for folder in CORE)
    assert files["hatdet/ops/nms.py"] == "ops"
    with pytest.raises(SystemExit, match=r"is no file here; name the module's new place"):
        core_files(repo_root / "docs")


def test_equivalent_mutants_have_a_reason(repo_root: Path) -> None:
    rows = tomllib.loads((repo_root / "tests" / "mutants" / "equivalent.toml").read_text()).get("mutant", [])
    assert all(set(row) == {"path", "before", "after", "reason"} and len(row["reason"]) > 10 for row in rows)
    assert len({(row["path"], row["before"], row["after"]) for row in rows}) == len(rows)


def drawn(root: Path, source: str, count: int = 1000, seed: int = 1) -> list[tuple[str, str]]:
    sample = pytest.importorskip("tests.mutants.sample", reason="Cosmic Ray is not installed")
    (root / "a.py").write_text(source)
    return [(mutant.before, mutant.after) for mutant in sample.draw(root, {"a.py": "ops"}, count, seed)]


def test_every_token_that_runs_is_drawn_once(tmp_path: Path) -> None:
    found = drawn(tmp_path, SOURCE)
    places = {
        "@functools.lru_cache": 1, "def wide(a: int | None, *, limit: int = 5) -> int | None:": 1,
        "if a is None or not a < limit:": 5,  # the whole condition, is, or, not, <
        "return -1": 2, "return min(a + 1, limit)": 3,
    }  # fmt: skip
    assert {before: sum(line == before for line, _ in found) for before, _ in found} == places
    assert ("return min(a + 1, limit)", "return max(a + 1, limit)") in found
    assert ("@functools.lru_cache", "(removed)") in found


def test_a_draw_depends_on_the_seed_and_the_lines_alone(tmp_path: Path) -> None:
    few = drawn(tmp_path, SOURCE, 6)
    assert few == drawn(tmp_path, SOURCE, 6) and few == drawn(tmp_path, SOURCE)[:6]
    assert few == drawn(tmp_path, "# a line more\n" + SOURCE, 6) != drawn(tmp_path, SOURCE, 6, seed=2)


def test_tests_of_the_line_come_first_the_quickest_before_the_others() -> None:
    run = pytest.importorskip("tests.mutants.run", reason="Cosmic Ray is not installed")
    baseline: Any = object.__new__(run.Baseline)
    baseline.folder, baseline.failed = "ops", ["broken"]
    baseline.tests = {
        "slow": {"seconds": 2.0, "lines": {"a.py": [1, 7]}}, "quick": {"seconds": 0.5, "lines": {"a.py": [7]}},
        "other": {"seconds": 0.25, "lines": {"a.py": [1]}}, "elsewhere": {"seconds": 0.0, "lines": {"b.py": [7]}},
        "broken": {"seconds": 0.0, "lines": {"a.py": [7]}},
    }  # fmt: skip
    baseline.seconds = 10.0
    whole = (["tests/unit/ops", "--deselect", "broken"], 170)
    assert baseline.runs(SimpleNamespace(path="a.py", line=7)) == [(["quick", "slow"], 72.5)]
    assert baseline.runs(SimpleNamespace(path="a.py", line=9)) == [(["other", "quick", "slow"], 73.75), whole]
    assert baseline.runs(SimpleNamespace(path="c.py", line=7)) == [whole]


def test_the_command_fails_where_too_many_survive(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = pytest.importorskip("tests.mutants.run", reason="Cosmic Ray is not installed")
    mutants = [run.Mutant("a.py", "ops", "x", 0, i, f"line {i}", "changed", "") for i in range(10)]
    monkeypatch.setattr(run, "equivalents", lambda: {("a.py", "line 0", "changed"): "it is only a name"})
    caught: dict[Any, str | None] = dict.fromkeys(mutants, "FAILED test")
    assert run.summary(caught, [], 0.92) == 0
    assert run.summary(caught | {mutants[0]: None}, [], 0.9) == 0
    assert "9 of 10 mutants caught (90.0%), 1 listed as equivalent, 0 neither" in capsys.readouterr().out
    assert run.summary(caught | {mutants[0]: None}, [], 0.92) == 1  # too few
    assert run.summary(caught | {mutants[1]: None}, [], 0.5) == 1  # not listed
    assert run.summary(caught, ["test_x"], 0.92) == 1
    assert "a.py:1  NOT LISTED in tests/mutants/equivalent.toml\n  - line 1\n  + changed" in capsys.readouterr().out
