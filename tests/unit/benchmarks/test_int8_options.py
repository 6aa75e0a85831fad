"""The cells of the options' table, and their medians."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmarks.int8_options import HEAD, QAT, REFINEMENTS, Cells, main, signal_to_noise, table
from hatdet.config.load import load_config
from hatdet.quantization.ptq.refine import Refinement


def _measured(folder: Path) -> Cells:
    cells = Cells(folder)
    cells.add({"AP": 0.6, "AP50": 0.9}, 10.0, row="float", observer="", option="", seed=0)
    for seed, ap in ((2, 0.599), (0, 0.59), (1, 0.594)):
        key = {"row": "calibration", "observer": "mse", "option": "adaround", "seed": seed}
        cells.add({"AP": ap, "AP50": 0.88}, 2.04, 30.0 + seed, **key)
    return cells


def test_what_was_measured_is_there_for_the_next_process(tmp_path: Path) -> None:
    _measured(tmp_path / "nano")
    again = Cells(tmp_path / "nano")
    assert len(again.rows) == 4 and again.rows[1]["seconds"] == 2.0
    assert again.has(row="float") and again.has(row="calibration", observer="mse", seed=2, option="adaround")
    assert not again.has(row="calibration", observer="mse", seed=3, option="adaround")
    assert not again.has(row="calibration", observer="min_max", seed=2, option="adaround")


def test_rows_have_medians_and_their_distance_to_float(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = table(_measured(tmp_path / "nano").rows, "nano")
    assert rows == [
        "| nano | float |  | - | 0.6000 | 0.6000 |  | 0.9000 |  | 10 |",
        "| nano | calibration | mse | adaround | 0.5900, 0.5940, 0.5990 | 0.5940 | -0.60 | 0.8800 | 31.0 | 2 |",
    ]
    capsys.readouterr()
    assert main(["--out", str(tmp_path / "nano"), "--table"]) == 0
    assert capsys.readouterr().out.splitlines() == [*HEAD, *rows]
    assert all(row.count("|") == HEAD[0].count("|") for row in rows)


def test_signal_to_noise_is_of_deviations() -> None:
    """Deviations of 1 and errors of 0.1 are 20 dB, whatever the mean is; a second output of 40 dB makes 30."""
    a = torch.tensor([9.0, 11.0, 9.0, 11.0])
    near = [a + torch.tensor([0.1, -0.1, 0.1, 0.1]), a + 0.01]
    assert signal_to_noise([a], near[:1]) == pytest.approx(20.0, abs=1e-3)
    assert signal_to_noise([a, a], near) == pytest.approx(30.0, abs=1e-2)


def test_options_are_those_that_configs_have() -> None:
    """A name that no config had would be measured as nothing at all."""
    for options in QAT.values():
        config = load_config("configs/rtmdet/rtmdet_nano_ncadc_relu6_small_data.py", options)
        assert {name: config[name] for name in options} == options
    assert all(Refinement(**options).described() or not name for name, options in REFINEMENTS.items())
    assert {"qat_scales": "learned"} in QAT.values()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--config", "x.py"], "--config and --float say what is measured"),
        (["--config", "x.py", "--float", "y", "--options", "no EMA"], "--options 'no EMA': with --rows calibration"),
    ],
)
def test_what_cannot_be_measured_is_refused(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main([*words, "--out", str(tmp_path / "new")])
    assert message in capsys.readouterr().err and not list(tmp_path.iterdir())
