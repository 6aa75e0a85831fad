"""Counts of parameters and multiply-accumulates."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from hatdet.building import Builder
from hatdet.commands import calops
from hatdet.config.load import load_config
from hatdet.profiling.calops import count_ops, parse_shape
from hatdet.utils.errors import UserError
from tests.helpers.rtmdet import build_rtmdet


def test_nano_at_192() -> None:
    report = count_ops(build_rtmdet(num_classes=2), (1, 3, 192, 192))
    assert report.params == 2_436_538
    assert report.macs == 333_089_280
    assert report.summary() == "input 1x3x192x192: 2.437 M parameters, 0.333 GMACs (0.666 GFLOPs)"
    assert count_ops(build_rtmdet(num_classes=80), (1, 3, 192, 192)).params == 2_451_748
    assert round(count_ops(build_rtmdet(num_classes=2), (1, 3, 320, 320)).macs / 1e9, 3) == 0.925


@pytest.mark.parametrize(
    ("config", "params", "macs"),
    [("rtmdet_pico_03m", 272_058, 127_360_512), ("rtmdet_pico_06m", 571_134, 258_812_928)],
)
def test_pico_at_192(config: str, params: int, macs: int) -> None:
    values = load_config(f"configs/rtmdet/{config}.py", {"num_classes": 2})
    report = count_ops(Builder(values).build(values["model"], "model"), (1, 3, 192, 192))
    assert (report.params, report.macs) == (params, macs)


def test_by_hand() -> None:
    net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, stride=2, groups=8, bias=False))
    report = count_ops(net, (2, 3, 10, 7))
    rows = {row.name: row for row in report.rows}
    assert (rows["0"].params, rows["0"].macs) == (3 * 8 * 9 + 8, 2 * 8 * 70 * 27)
    assert (rows["2"].params, rows["2"].macs) == (8 * 9, 2 * 8 * (4 * 3) * 9)
    assert rows["1"].macs == 0
    assert (report.params, report.macs) == (224 + 72, 30240 + 1728)


def test_lists_of_modules_and_shared_parameters() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            conv = nn.Conv2d(4, 4, 1)
            self.convs = nn.ModuleList([conv, nn.Conv2d(4, 4, 1)])

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.convs[1](self.convs[0](self.convs[0](x)))

    report = count_ops(Shared(), (1, 4, 5, 5))
    rows = {row.name: row for row in report.rows}
    assert report.params == 2 * 20
    assert rows["convs.0"].macs == 2 * 16 * 25  # called twice
    assert rows["convs"].macs == report.macs == 3 * 16 * 25


def test_the_model_is_left_alone() -> None:
    net = nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1)).train()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    count_ops(net, (1, 1, 4, 4))
    assert net.training and all(torch.equal(before[key], value) for key, value in net.state_dict().items())


def test_table() -> None:
    lines = count_ops(build_rtmdet(), (1, 3, 192, 192)).format(depth=1).splitlines()
    assert [line.split()[0] for line in lines[2:5]] == ["backbone", "neck", "bbox_head"]
    assert lines[6].split() == ["total", "DetectorNetwork", "2,436,538", "333,089,280", "100.0"]
    assert len({len(line) for line in lines[:7]}) == 1


def test_wrong_shapes() -> None:
    assert parse_shape("1,3,192,192") == parse_shape("1x3x192x192") == parse_shape("(1, 3, 192, 192)")
    for text in ("3,192,192", "1,3,0,192", "1,3,a,192", ""):
        with pytest.raises(UserError, match="four positive integers"):
            parse_shape(text)
    with pytest.raises(UserError, match=r"does not take an input of shape \(1, 3, 200, 200\)"):
        count_ops(build_rtmdet(), (1, 3, 200, 200))


def test_command_line(repo_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = str(repo_root / "configs" / "rtmdet" / "rtmdet_nano_8xb32_300e_coco_ncadc_relu6.py")
    options = ["num_classes=2", "model.backbone.spp_pooling=parallel"]
    calops.main(["--config", config, "--input-shape", "1,3,192,192", "--cfg-options", *options])
    assert capsys.readouterr().out.splitlines()[-1].endswith("2.437 M parameters, 0.333 GMACs (0.666 GFLOPs)")
    with pytest.raises(UserError, match=r"model\.backbone\.spp_pooling"):
        calops.main(
            ["--config", config, "--input-shape", "1,3,192,192", "--cfg-options", "model.backbone.spp_pooling=fast"]
        )
