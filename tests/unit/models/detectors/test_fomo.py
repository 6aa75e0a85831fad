"""FOMO: the stated parameters and MACs layer by layer, targets, losses and cells by hand."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest
import torch
from torch import Tensor

from hatdet.building import Builder
from hatdet.config.load import load_config
from hatdet.models.backbones.mobilenetv2 import MobileNetV2
from hatdet.models.detectors.fomo import FOMO
from hatdet.models.heads.fomo_head import FOMOHead
from hatdet.models.losses.weighted_cross_entropy import WeightedCrossEntropy
from hatdet.models.task_modules.cells import CellPostProcess, cell_boxes, cell_targets
from hatdet.profiling.calops import count_ops
from hatdet.utils.errors import RegistryError

CONFIG = "configs/fomo/fomo_mobilenetv2_035.py"
GRAY = "configs/fomo/fomo_mobilenetv2_035_gray_96.py"


def model(config: str = CONFIG, **options: object) -> FOMO:
    built = Builder({}).build(load_config(config, {"num_classes": 1, **options}).model)
    assert isinstance(built, FOMO)
    return built


def layers(channels: int, classes: int) -> list[tuple[int, int, int, int]]:
    """(weights and biases, batch norm's parameters, weights' uses a position, stride of the positions) of every
    convolution, from the tables of the papers: widths 16, 8, 8, 16 (0.35 times 32, 16, 24, 32, to multiples of 8)."""
    rows = [(channels * 16 * 9, 2 * 16, channels * 16 * 9, 2)]  # the stem
    width, stride = 16, 2
    for expansion, out, step in [(1, 8, 1), (6, 8, 2), (6, 8, 1), (6, 16, 2), (6, 16, 1), (6, 16, 1)]:
        hidden = expansion * width
        if expansion > 1:
            rows.append((width * hidden, 2 * hidden, width * hidden, stride))
        stride *= step
        rows += [(hidden * 9, 2 * hidden, hidden * 9, stride), (hidden * out, 2 * out, hidden * out, stride)]
        width = out
    rows.append((width * 96, 2 * 96, width * 96, stride))  # the cut: the next block's expansion
    outputs = 1 + classes
    return [*rows, (96 * 32 + 32, 0, 96 * 32, stride), (32 * outputs + outputs, 0, 32 * outputs, stride)]


@pytest.mark.parametrize(("config", "channels"), [(CONFIG, 3), (GRAY, 1)])
@pytest.mark.parametrize("classes", [1, 3])
def test_parameters_and_macs_layer_by_layer(config: str, channels: int, classes: int) -> None:
    rows = layers(channels, classes)
    detector = model(config, num_classes=classes)
    convolutions = [m for m in detector.modules() if isinstance(m, torch.nn.Conv2d)]
    assert [sum(p.numel() for p in c.parameters()) for c in convolutions] == [row[0] for row in rows]
    assert sum(p.numel() for p in detector.parameters()) == sum(row[0] + row[1] for row in rows)
    macs = sum(uses * (96 // stride) ** 2 for _, _, uses, stride in rows)
    total = count_ops(detector.network(), (1, channels, 96, 96))
    assert (total.params, total.macs) == (sum(row[0] + row[1] for row in rows), macs)


def test_the_configs_state_what_is_derived() -> None:
    text = re.sub(r"(?<=\d) (?=\d)", "", " ".join(Path(CONFIG).read_text().split('"""')[1].split()))
    color, gray = layers(3, 1), layers(1, 1)

    def macs(rows: list[tuple[int, int, int, int]], size: int) -> int:
        return sum(uses * (size // stride) ** 2 for _, _, uses, stride in rows)

    params = sum(row[0] + row[1] for row in color)
    norms = sum(row[1] for row in color)
    assert f"{params} parameters with one class (33 more for each further one), of which {norms} are" in text
    assert f"folding turns into {norms // 2} biases" in text
    assert f"MACs at 96 x 96 with one class: {macs(color, 96)};" in text and f"{macs(color, 192)} at 192" in text
    less = sum(row[0] + row[1] for row in gray)
    assert f"{less} parameters and {macs(gray, 96)} MACs at 96 x 96" in text
    gray_text = " ".join(Path(GRAY).read_text().split('"""')[1].split())
    assert f"{less:,} parameters".replace(",", " ") in gray_text and f"{params - less} fewer" in gray_text


def test_the_cut_has_the_names_of_the_whole_network() -> None:
    cut = MobileNetV2(widen_factor=0.35, out_indices=(2,), expand_last=True)
    assert (cut.feature_info.channels, cut.feature_info.strides) == ((96,), (8,))
    whole = MobileNetV2(widen_factor=0.35, out_indices=(3,))
    cut.load_state_dict({k: v for k, v in whole.state_dict().items() if k in cut.state_dict()})  # none is missing
    x = torch.rand(1, 3, 32, 32)
    expected = x
    for layer in whole.features[:7]:
        expected = layer.eval()(expected)
    expected = whole.features[7].eval().conv[0](expected)
    assert torch.equal(cut.eval()(x)[0], expected)
    with pytest.raises(ValueError, match="behind stage 6 of MobileNetV2 comes no expansion"):
        MobileNetV2(out_indices=(2, 6), expand_last=True)


def test_cells_learn_the_smallest_object_whose_middle_they_hold() -> None:
    boxes = [
        [0.0, 0.0, 8.0, 8.0],  # middle (4, 4): cell 0
        [2.0, 2.0, 6.0, 6.0],  # the same middle, smaller: it wins
        [8.0, 0.0, 24.0, 8.0],  # middle (16, 4) on a border: the cell at its right
        [0.0, 8.0, 8.0, 24.0],  # middle (4, 16): the second row's lower border, so row 2, which is not there
        [0.0, 0.0, 0.0, 0.0],
    ]
    labels = [0, 2, 1, 1, -1]
    found = cell_targets(torch.tensor([boxes]), torch.tensor([labels]), (2, 3), 8)
    assert found.tolist() == [[3, 0, 2, 0, 0, 0]]
    same = cell_targets(torch.tensor([boxes[:1] * 2]), torch.tensor([[1, 0]]), (2, 3), 8)
    assert same[0, 0] == 2  # of equal ones the first
    none = cell_targets(torch.zeros(2, 1, 4), torch.full((2, 1), -1), (2, 3), 8)
    assert none.shape == (2, 6) and not none.any()


def test_the_loss_weighs_objects() -> None:
    logits = torch.tensor([[[0.0, 0.0], [0.0, 0.0], [math.log(3.0), 0.0], [0.0, 0.0]]])
    # Two classes of a softmax: log 2 each, and log(4 / 3) where background is 3 times as likely.
    targets = torch.tensor([[1, 0, 0, 0]])
    loss = WeightedCrossEntropy(object_weight=100.0)(logits, targets)
    assert loss == pytest.approx((100 * math.log(2) + 2 * math.log(2) + math.log(4 / 3)) / 4)
    with pytest.raises(ValueError, match="object_weight is above 0, got 0"):
        WeightedCrossEntropy(object_weight=0)


def found(scores: Tensor, size: tuple[int, int], **settings: object) -> list[tuple[tuple[int, int], float, int]]:
    """Detections of one picture as (cell's row and column, score, label)."""
    own = {name: settings.pop(name) for name in ("img_size", "scale_factor") if name in settings}
    (one,) = CellPostProcess(**settings)(scores[None], size, 8, **own)  # type: ignore[arg-type]
    cells = [(int(box[1]) // 8, int(box[0]) // 8) for box in one["boxes"].tolist()]
    return list(zip(cells, [round(s, 4) for s in one["scores"].tolist()], one["labels"].tolist(), strict=True))


def test_neighbours_of_a_class_are_fused_into_the_best() -> None:
    scores = torch.zeros(4, 5, 2)
    scores[1, 1, 0], scores[0, 0, 0], scores[2, 2, 0] = 0.6, 0.5, 0.4  # both are diagonal neighbours of the best
    scores[1, 2, 1] = 0.5  # another class
    scores[1, 3, 0] = 0.3  # two cells away from the best, a neighbour only of what was dropped
    rows = scores.reshape(-1, 2)
    assert found(rows, (4, 5)) == [((1, 1), 0.6, 0), ((1, 2), 0.5, 1), ((1, 3), 0.3, 0)]
    assert found(rows, (4, 5), fuse=2) == [((1, 1), 0.6, 0), ((1, 2), 0.5, 1)]
    assert len(found(rows, (4, 5), fuse=0)) == 5
    assert found(rows, (4, 5), max_per_img=1) == [((1, 1), 0.6, 0)]
    assert found(rows, (4, 5), score_thr=0.5) == [((1, 1), 0.6, 0)]  # above, not at


def test_equal_scores_go_row_by_row_and_to_the_first_class() -> None:
    scores = torch.full((6, 2), 0.5)
    assert found(scores, (2, 3)) == [((0, 0), 0.5, 0), ((0, 2), 0.5, 0)]


def test_cells_of_the_padding_are_no_detections_and_boxes_end_with_the_picture() -> None:
    scores = torch.zeros(1, 6, 1)
    scores[0, [0, 1, 2], 0] = torch.tensor([0.5, 0.6, 0.9])  # the third is in the padding, the second half in it
    known = {"img_size": torch.tensor([[16, 12]]), "scale_factor": torch.tensor([[0.5, 0.5]])}
    (one,) = CellPostProcess(fuse=0)(scores, (2, 3), 8, **known)
    assert one["boxes"].tolist() == [[16.0, 0.0, 24.0, 16.0], [0.0, 0.0, 16.0, 16.0]]
    assert cell_boxes((1, 2), 8).tolist() == [[0.0, 0.0, 8.0, 8.0], [8.0, 0.0, 16.0, 8.0]]


def test_a_detector_from_logits_to_cells() -> None:
    detector = model(num_classes=2).eval()
    logits = torch.full((1, 3, 2, 2), -10.0)
    logits[:, 0] = 0.0
    logits[0, 2, 1, 0] = math.log(3.0)  # three times as likely as background
    (one,) = detector.predict((logits,), {})
    assert one["boxes"].tolist() == [[0.0, 8.0, 8.0, 16.0]] and one["labels"].tolist() == [1]
    assert one["scores"].item() == pytest.approx(3 / (4 + math.exp(-10)))
    boxes, scores = detector.decoding((16, 16))(logits)
    (decoded,) = detector.predict_decoded(boxes, scores, {"img": torch.zeros(1, 3, 16, 16)})
    assert torch.equal(decoded["boxes"], one["boxes"]) and decoded["scores"].item() == pytest.approx(0.75, abs=1e-4)
    assert detector.output_names == ("cls_8",) and detector.metadata()["cells"] is True


def test_training_finds_what_a_cell_holds() -> None:
    torch.manual_seed(0)
    detector = model(num_classes=2).train()
    boxes, labels = torch.tensor([[[12.0, 4.0, 28.0, 20.0]]]).repeat(2, 1, 1), torch.zeros(2, 1, dtype=torch.int64)
    batch = {"img": torch.rand(2, 3, 32, 48), "gt_boxes": boxes, "gt_labels": labels}
    maps = detector.run_network(detector.preprocess(batch["img"]))
    assert [m.shape for m in maps] == [(2, 3, 4, 6)]
    loss = detector.loss(maps, batch)["loss_cls"]
    loss.backward()
    targets = torch.zeros(2, 24, dtype=torch.int64)
    targets[:, 8] = 1  # middle (20, 12): row 1, column 2 of 6
    assert loss.item() == WeightedCrossEntropy()(maps[0].permute(0, 2, 3, 1).flatten(1, 2), targets).item()
    assert detector.bbox_head.cls.weight.grad.abs().sum() > 0  # type: ignore[union-attr, operator]


def test_an_untrained_head_is_half_sure_of_an_object() -> None:
    head = FOMOHead(num_classes=3, in_channels=4)
    torch.nn.init.zeros_(head.cls.weight)
    shares = head([torch.rand(1, 4, 1, 1)])[0].softmax(dim=1).flatten()
    assert shares.tolist() == pytest.approx([0.5, 1 / 6, 1 / 6, 1 / 6])
    with pytest.raises(ValueError, match="prior_probability is between 0 and 1, got 1"):
        FOMOHead(num_classes=1, in_channels=4, prior_probability=1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"score_thr": 1.0}, "score_thr is at least 0 and below 1, got 1.0"),
        ({"fuse": -1}, "fuse is at least 0 and max_per_img at least 1, got -1 and 100"),
    ],
)
def test_settings_out_of_range(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CellPostProcess(**settings)  # type: ignore[arg-type]


def test_a_stride_that_the_backbone_does_not_have_is_refused() -> None:
    parts = load_config(CONFIG, {"num_classes": 1}).model
    with pytest.raises(RegistryError, match=r"the strides \(16,\), but the backbone's maps have the strides \(8,\)"):
        Builder({}).build({**parts, "bbox_head": {**parts["bbox_head"], "strides": (16,)}})
    with pytest.raises(ValueError, match=r"strides is \(8, 16\); FOMO has one map: name one stride"):
        FOMOHead(num_classes=1, in_channels=4, strides=(8, 16))
