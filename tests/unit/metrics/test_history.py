from __future__ import annotations

from pathlib import Path

import pytest

from hatdet.metrics.history import read_history, series
from hatdet.utils.errors import UserError


def test_blank_cells_and_a_torn_last_line(tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    path.write_text("epoch, loss ,AP\n1,2.5,\n2,2.0,0.25\n3,1.5")
    columns = read_history(path)
    assert columns == {"epoch": [1, 2, 3], "loss": [2.5, 2.0, 1.5], "AP": [None, 0.25, None]}
    assert series(columns, "epoch", "AP") == [(2, 0.25)]
    with pytest.raises(UserError, match="no column 'mAP'; there are epoch, loss, AP"):
        series(columns, "epoch", "mAP")


def test_missing_and_empty_files(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no results file at"):
        read_history(tmp_path / "results.csv")
    (tmp_path / "results.csv").write_text("\n")
    with pytest.raises(UserError, match="no header"):
        read_history(tmp_path / "results.csv")
