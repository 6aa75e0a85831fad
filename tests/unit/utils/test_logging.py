from __future__ import annotations

import io
import logging
from pathlib import Path

import pytest

from hatdet.utils.environment import memory_in_use, versions
from hatdet.utils.logging import live_line, setup_logging


def test_console_and_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    logger = setup_logging(tmp_path / "run" / "log.txt")
    logger.info("one line")
    logger.warning("careful")
    out = capsys.readouterr().out
    assert out == "one line\nwarning: careful\n"
    text = (tmp_path / "run" / "log.txt").read_text()
    assert "INFO one line" in text and "WARNING careful" in text
    setup_logging()
    logging.getLogger("hatdet").info("later")
    assert "later" not in (tmp_path / "run" / "log.txt").read_text()


def test_what_was_said_before_there_was_a_file_is_in_it(tmp_path: Path) -> None:
    setup_logging().info("of an earlier command")
    setup_logging().info("taken from x")
    for name in ("a", "b"):
        setup_logging(tmp_path / name).info("stage %s", name)
    first, second = ((tmp_path / name).read_text().splitlines() for name in ("a", "b"))
    assert [line.split("INFO ")[1] for line in first] == ["taken from x", "stage a"]
    assert [line.split("INFO ")[1] for line in second] == ["stage b"]
    setup_logging()


def test_no_live_line_without_a_terminal() -> None:
    with live_line() as show:
        assert show is None


def test_a_server_that_has_no_file_does_not_keep_all_it_says(tmp_path: Path) -> None:
    logger = setup_logging()
    for number in range(3000):
        logger.info("request %d", number)
    setup_logging(tmp_path / "log")
    lines = (tmp_path / "log").read_text().splitlines()
    assert len(lines) == 1000 and lines[-1].endswith("request 2999")


def test_environment() -> None:
    import torch

    assert versions()["torch"] == torch.__version__
    assert memory_in_use(torch.device("cpu")) > 1e6


def test_a_live_line_has_a_bar_where_the_terminal_has_lines() -> None:
    from rich.console import Console
    from rich.live import Live

    from hatdet.utils.logging import _show

    for encoding, expected in (("utf-8", "━━──  2/4"), ("ascii", "##--  2/4")):
        raw = io.BytesIO()
        console = Console(file=io.TextIOWrapper(raw, encoding=encoding), force_terminal=True, width=40)
        live = Live(console=console)
        _show(live, "━━──  2/4")
        assert str(live.renderable) == expected
