"""Flags of tools/train.py that do not go together, or say nothing."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from hatdet.utils.errors import ConfigError, UserError

Tool = Callable[[str], Callable[[list[str]], int | None]]


def test_resume_and_overwrite_do_not_go_together(tool: Tool) -> None:
    with pytest.raises(UserError, match="--resume continues a run, --overwrite starts it anew: give one of them"):
        tool("train")(["config.py", "--resume", "--overwrite"])


def test_overwrite_of_a_later_stage_is_said_to_mean_nothing(tool: Tool, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises((UserError, ConfigError, OSError)):
        tool("train")(["no_such_config.py", "--stage", "qat", "--overwrite"])
    assert "--overwrite says nothing to the stage qat, which can be run again as it is" in capsys.readouterr().out


@pytest.mark.parametrize("more", [["--resume"], ["--overwrite"], ["--stage", "qat"]])
def test_a_numbered_folder_is_for_a_new_run(more: list[str], tool: Tool) -> None:
    with pytest.raises(UserError, match="--work-dir auto makes a folder for a new float training"):
        tool("train")(["config.py", "--work-dir", "auto", *more])


@pytest.mark.parametrize("seed", [-1, 2**63])
def test_a_seed_that_no_generator_takes_is_refused(seed: int, tool: Tool) -> None:
    with pytest.raises(UserError, match=f"--seed {seed}: give a number from 0 to"):
        tool("train")(["c.py", "--seed", str(seed)])
