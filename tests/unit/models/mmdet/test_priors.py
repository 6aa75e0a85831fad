"""Points and boxes on grids."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from hatdet.models.mmdet.priors.anchors import AnchorGenerator, LegacyAnchorGenerator
from hatdet.models.mmdet.priors.points import MlvlPointGenerator, PointGenerator
from hatdet.models.mmdet.priors.ssd import LegacySSDAnchorGenerator, SSDAnchorGenerator
from hatdet.models.mmdet.priors.yolo import YOLOAnchorGenerator
from tests.helpers.components import case, made, names

GRIDS = [name for name in names("priors") if name != "point"]


@pytest.mark.parametrize("name", GRIDS)
def test_reference(name: str) -> None:
    kept = case("priors", name)
    given, wanted = kept["inputs"], kept["outputs"]
    priors = made(kept["args"], kept["type"])
    sizes = given["featmap_sizes"]
    sparse = given["sparse"]
    got: dict[str, Any] = {
        "num_base_priors": priors.num_base_priors,
        "grid_priors": priors.grid_priors(sizes),
        "valid_flags": priors.valid_flags(sizes, given["pad_shape"]),
        "sparse_priors": priors.sparse_priors(sparse["prior_idxs"], sparse["featmap_size"], sparse["level_idx"]),
    }
    if "base_anchors" in wanted:
        got["base_anchors"] = priors.base_anchors
    else:
        got["grid_priors_with_stride"] = priors.grid_priors(sizes, with_stride=True)
    assert set(got) == set(wanted)
    for key, want in wanted.items():
        torch.testing.assert_close(got[key], want, rtol=0, atol=0, msg=key)


@pytest.mark.parametrize("name", [name for name in names("priors") if name not in GRIDS])
def test_reference_of_points(name: str) -> None:
    kept = case("priors", name)
    given, points = kept["inputs"], made(kept["args"], kept["type"])
    for level, size in enumerate(given["featmap_sizes"]):
        torch.testing.assert_close(
            points.grid_points(size, given["strides"][level]), kept["outputs"]["grid_points"][level], rtol=0, atol=0
        )
        flags = points.valid_flags(size, given["valid_sizes"][level])
        assert flags.tolist() == kept["outputs"]["valid_flags"][level].tolist()


def test_points_by_hand() -> None:
    points = MlvlPointGenerator([(4, 8)])
    assert points.grid_priors([(2, 3)])[0].tolist() == [[2, 4], [6, 4], [10, 4], [2, 12], [6, 12], [10, 12]]
    assert points.sparse_priors(torch.tensor([4, 0]), (2, 3), 0).tolist() == [[6, 12], [2, 4]]
    assert points.valid_flags([(2, 3)], (8, 5))[0].tolist() == [True, True, False, False, False, False]
    assert PointGenerator().grid_points((1, 2), 8).tolist() == [[0, 0, 8], [8, 0, 8]]
    with pytest.raises(ValueError, match="2 feature maps, but MlvlPointGenerator has 1 strides"):
        points.grid_priors([(1, 1), (1, 1)])


def test_anchors_by_hand() -> None:
    assert AnchorGenerator([16], [1.0], [1.0], [9]).grid_priors([(1, 2)])[0].tolist() == [
        [-4.5, -4.5, 4.5, 4.5],
        [11.5, -4.5, 20.5, 4.5],
    ]
    # Ratio 4: twice as tall, half as wide.
    assert AnchorGenerator([(8, 4)], [4.0], [2.0]).base_anchors[0].tolist() == [[-2, -8, 2, 8]]
    assert AnchorGenerator([8], [1.0], [1.0], centers=[(3, 5)]).base_anchors[0].tolist() == [[-1, 1, 7, 9]]
    assert AnchorGenerator([8], [1.0], [1.0], center_offset=0.5).base_anchors[0].tolist() == [[0, 0, 8, 8]]
    by_scale = AnchorGenerator([4], [1.0, 4.0], [1.0, 2.0]).base_anchors[0]
    by_ratio = AnchorGenerator([4], [1.0, 4.0], [1.0, 2.0], scale_major=False).base_anchors[0]
    assert torch.equal(by_scale[[0, 2, 1, 3]], by_ratio)
    old = LegacyAnchorGenerator([16], [1.0], [1.0], [9], center_offset=0.5)
    assert old.grid_priors([(1, 2)])[0].tolist() == [[0, 0, 8, 8], [16, 0, 24, 8]]


@pytest.mark.parametrize("levels, largest", [(6, (0.2, 0.9)), (7, (0.1, 0.9))])
def test_anchors_of_ssd(levels: int, largest: tuple[float, float]) -> None:
    strides = [8, 16, 32, 64, 128, 256, 512][:levels]
    size = 300 if levels == 6 else 512
    shapes = [[2]] * levels
    generator = SSDAnchorGenerator(strides, shapes, None, None, largest, size, False)
    assert generator.num_base_priors == [4] * levels and generator.base_sizes[0] == int(size * (0.1, 0.04)[levels - 6])
    sides = generator.base_anchors[1][:, 2:] - generator.base_anchors[1][:, :2]
    assert sides[0].tolist() == [generator.base_sizes[1]] * 2 and sides[1, 0] > sides[0, 0]
    torch.testing.assert_close(sides[2] / sides[3], torch.tensor([2.0, 0.5]))
    old = LegacySSDAnchorGenerator(strides, shapes, largest, size, False)
    assert torch.equal(old.base_anchors[0], old.base_anchors[0].round())
    # One level: sizes are worked out for 15 % and 90 % too, and the first pair (7 %, 15 %) is taken.
    assert SSDAnchorGenerator([8], [[2]]).base_sizes == [21]


def test_cells_that_answer_for_a_box() -> None:
    generator = YOLOAnchorGenerator([16, 8], [[(4, 4)], [(2, 2)]])
    boxes = torch.tensor([[8.0, 0.0, 12.0, 4.0], [28.0, 4.0, 36.0, 12.0]])  # centres (10, 2), (32, 8): on the edge
    coarse, fine = generator.responsible_flags([(1, 2), (2, 4)], boxes)
    assert coarse.tolist() == [1, 1] and fine.tolist() == [0, 1, 0, 0, 0, 0, 0, 1]
    assert not generator.responsible_flags([(1, 2), (2, 4)], boxes[:0])[0].any()


def test_what_generators_refuse() -> None:
    with pytest.raises(ValueError, match="give either scales, or octave_base_scale"):
        AnchorGenerator([8], [1.0])
    with pytest.raises(ValueError, match="give either scales, or octave_base_scale"):
        AnchorGenerator([8], [1.0], [2], octave_base_scale=4, scales_per_octave=3)
    with pytest.raises(ValueError, match="base_sizes has 1 entries for 2 strides"):
        AnchorGenerator([8, 16], [1.0], [1.0], [4])
    with pytest.raises(ValueError, match="center_offset is from 0 to 1"):
        AnchorGenerator([8], [1.0], [1.0], center_offset=1.5)
    with pytest.raises(ValueError, match="input_size 320 .* is no SSD"):
        SSDAnchorGenerator([8, 16, 32], [[2]] * 3, input_size=320)
    with pytest.raises(ValueError, match=r"base_sizes has \[1\] boxes for 2 strides"):
        YOLOAnchorGenerator([8, 16], [[(1, 1)]])
    with pytest.raises(ValueError, match="use_box_type"):
        AnchorGenerator([8], [1.0], [1.0], use_box_type=True)
