"""What stands in the losses of anchor heads, with numbers that a reader can check."""

from typing import Any

import pytest
import torch
from torch import Tensor

from hatdet.models.mmdet.heads.anchor.cascade.stage import anchor_offset
from hatdet.models.mmdet.heads.anchor.guided.targets import location_targets, regions
from hatdet.models.mmdet.heads.anchor.retina.fsaf import FSAFHead
from hatdet.models.mmdet.heads.anchor.rpn import best_of_levels
from hatdet.models.mmdet.heads.base import PictureMeta, Truth
from hatdet.utils.errors import RegistryError, UserError
from tests.helpers.components import made

META: PictureMeta = {"img_shape": (16, 32), "pad_shape": (16, 32)}
ONE = {"type": "AnchorGenerator", "ratios": [1.0], "scales": [1], "strides": [8, 16]}
FOCAL = {"type": "FocalLoss", "use_sigmoid": True}
TRAIN = {
    "assigner": {"type": "MaxIoUAssigner", "pos_iou_thr": 0.5, "neg_iou_thr": 0.4, "min_pos_iou": 0.0},
    "allowed_border": -1, "pos_weight": 3.0,
}  # fmt: skip
NOTHING = Truth(torch.zeros((0, 4)), torch.zeros(0, dtype=torch.long))


def _head(**options: Any) -> Any:
    return made(
        {
            "type": "RetinaHead", "num_classes": 2, "in_channels": 3, "feat_channels": 4, "stacked_convs": 1,
            "anchor_generator": ONE, "loss_cls": FOCAL, "train_cfg": TRAIN, **options,
        }
    )  # fmt: skip


def _feats(pictures: int = 1) -> list[Tensor]:
    torch.manual_seed(0)
    return [torch.randn(pictures, 3, 2, 4), torch.randn(pictures, 3, 1, 2)]


def test_targets_of_a_box_that_is_an_anchor() -> None:
    head = _head()
    truth = Truth(torch.tensor([[4.0, 4, 12, 12]]), torch.tensor([1]))  # the anchor of place (1, 1) of stride 8
    targets = head.get_targets(_feats(), [truth, NOTHING], [META, META])
    assert targets.labels[0].tolist() == [[2, 2, 2, 2, 2, 1, 2, 2], [2] * 8]
    assert targets.labels[1].tolist() == [[2, 2], [2, 2]]
    assert targets.label_weights[0].tolist() == [[1, 1, 1, 1, 1, 3, 1, 1], [1] * 8]
    assert targets.bbox_weights[0].sum() == 4 and targets.bbox_targets[0].abs().sum() == 0
    assert targets.avg_factor == 2  # a picture without boxes counts as one


def test_anchors_beyond_a_picture_do_not_count() -> None:
    truth = Truth(torch.tensor([[4.0, 4, 12, 12]]), torch.tensor([0]))
    narrow: PictureMeta = {"img_shape": (16, 16), "pad_shape": (16, 16)}
    weights = _head().get_targets(_feats(), [truth], [narrow]).label_weights
    assert weights[0].tolist() == [[1, 1, 0, 0, 1, 3, 0, 0]] and weights[1].tolist() == [[1, 0]]
    strict = _head(train_cfg={**TRAIN, "allowed_border": 0})
    assert strict.get_targets(_feats(), [truth], [META]).label_weights[0].tolist() == [[0, 0, 0, 0, 0, 3, 1, 1]]
    tiny: PictureMeta = {"img_shape": (3, 3), "pad_shape": (16, 32)}
    with pytest.raises(ValueError, match=r"no anchor lies inside a picture of \(3, 3\)"):
        strict.get_targets(_feats(), [truth], [tiny])


@pytest.mark.parametrize("decoded", [False, True])
def test_pictures_without_boxes_have_a_loss_of_classes_alone(decoded: bool) -> None:
    loss_bbox = {"type": "GIoULoss"} if decoded else {"type": "L1Loss"}
    head = _head(reg_decoded_bbox=decoded, loss_bbox=loss_bbox)
    losses = head.loss_by_feat(*head.outputs(_feats(2)), truths=[NOTHING, NOTHING], metas=[META, META])
    assert sum(x.item() for x in losses["loss_bbox"]) == 0 and all(x > 0 for x in losses["loss_cls"])
    torch.stack([*losses["loss_cls"], *losses["loss_bbox"]]).sum().backward()
    assert torch.isfinite(head.retina_reg.weight.grad).all()


def test_first_weights_make_objects_rare() -> None:
    bias = _head().retina_cls.bias
    assert torch.allclose(bias.sigmoid(), torch.full_like(bias, 0.01))


def test_levels_share_convolutions_but_not_their_norms() -> None:
    head = _head(type="RetinaSepBNHead", num_ins=2, norm_cfg={"type": "BN"})
    assert head.cls_convs[0][0].conv is head.cls_convs[1][0].conv
    assert head.cls_convs[0][0].bn is not head.cls_convs[1][0].bn
    assert "cls_convs.1.0.conv.weight" in head.state_dict()
    with pytest.raises(RegistryError, match="init_cfg must be None"):
        _head(type="RetinaSepBNHead", num_ins=2, init_cfg={"type": "Normal"})


@pytest.mark.parametrize(
    ("kind", "wrong", "message"),
    [
        ("RetinaHead", {"stacked_convs": -1}, "stacked_convs=-1 must not be negative"),
        (
            "FSAFHead",
            {"num_classes": 2, "in_channels": 3, "loss_cls": FOCAL, "train_cfg": TRAIN},
            "loss_cls has reduction='mean'",
        ),
        ("AnchorHead", {"num_classes": 0, "in_channels": 3}, "num_classes=0: a head needs at least one class"),
        ("RPNHead", {"num_classes": 2, "in_channels": 3}, "num_classes=2: proposals have one class"),
        (
            "SSDHead",
            {"in_channels": [3], "anchor_generator": ONE},
            "2 levels of anchors need as many",
        ),
        ("YOLOV3Head", {"num_classes": 2, "in_channels": [3]}, "need one length"),
        ("CascadeRPNHead", {"num_stages": 1, "stages": []}, "num_stages=1 needs as many stages"),
        (
            "CascadeRPNHead",
            {"num_stages": 1, "stages": [{"type": "StageCascadeRPNHead", "in_channels": 3, "with_cls": False}]},
            "write with_cls=True",
        ),
        (
            "GARPNHead",
            {"in_channels": 4, "square_anchor_generator": ONE},
            "need one scale and the same strides",
        ),
        ("StageCascadeRPNHead", {"in_channels": 3, "adapt_cfg": {"type": "shift"}}, "write 'dilation' or 'offset'"),
    ],
)
def test_what_does_not_go_is_refused(kind: str, wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(RegistryError, match=message):
        if kind == "RetinaHead":
            _head(**wrong)
        else:
            made({"type": kind, **wrong})


def test_the_best_of_each_level_keep_their_level() -> None:
    scores, values, priors, levels = best_of_levels(
        [torch.tensor([0.1, 0.9, 0.5]), torch.tensor([0.2])],
        [torch.tensor([10, 11, 12]), torch.tensor([20])],
        [torch.tensor([0, 1, 2]), torch.tensor([3])],
        nms_pre=2,
    )
    assert torch.equal(scores, torch.tensor([0.9, 0.5, 0.2])) and values.tolist() == [11, 12, 20]
    assert priors.tolist() == [1, 2, 3] and levels.tolist() == [0, 0, 1]


def test_the_middle_of_a_box() -> None:
    (found,) = regions(torch.tensor([[0.0, 0, 4, 2]]), 0.25, (3, 5))  # columns 1 to 3, rows round(0.5) to round(1.5)
    assert found.int().tolist() == [[0, 1, 1, 1, 0], [0, 1, 1, 1, 0], [0, 1, 1, 1, 0]]


def test_places_of_centres_and_what_lies_around_them() -> None:
    truth = Truth(torch.tensor([[0.0, 0, 8, 8]]), torch.tensor([0]))  # of the finer level: its side is 8
    wanted, weights, total = location_targets([truth], [(2, 3), (1, 2)], [8.0, 16.0], 1, 0.2, 0.5)
    assert wanted[0].tolist() == [[[1, 1, 0], [1, 1, 0]]]
    assert wanted[1].sum() == 0 and total == 8 / 200
    assert weights[0][0, 0, 0] == 1 and weights[0][0, 0, 2] == pytest.approx(0.1)
    assert weights[1][0, 0, 0] == 0 and weights[1][0, 0, 1] == pytest.approx(0.1)


def test_the_last_of_overlapping_boxes_decides() -> None:
    boxes = torch.tensor([[0.0, 0, 80, 80], [0, 0, 40, 80]])
    truth = Truth(boxes, torch.tensor([0, 0]))
    _, weights, _ = location_targets([truth], [(10, 10)], [8.0], 8, 0.2, 0.9)
    first = location_targets([Truth(boxes[:1], truth.labels[:1])], [(10, 10)], [8.0], 8, 0.2, 0.9)[1]
    assert first[0][0, 4, 4] == 1  # a centre of the first box, around the centre of the second
    assert weights[0][0, 4, 4] == 0


def test_taps_span_the_anchor_of_their_place() -> None:
    same = torch.tensor([[[-8.0, -8, 8, 8], [0, -8, 16, 8]]])  # side 2 strides: taps are where they would be
    assert anchor_offset(same, 8, (1, 2)).abs().sum() == 0
    wider = torch.tensor([[[-8.0, -8, 24, 8]]])  # twice as wide, its middle one position to the right
    y, x = anchor_offset(wider, 8, (1, 1)).view(9, 2).unbind(1)
    assert y.tolist() == [0] * 9 and x.tolist() == [0, 1, 2] * 3


def test_a_class_counts_where_there_is_an_object() -> None:
    head = made(
        {
            "type": "YOLOFHead", "num_classes": 2, "in_channels": 4, "num_cls_convs": 1, "num_reg_convs": 1,
            "anchor_generator": {"type": "AnchorGenerator", "ratios": [1.0], "scales": [1, 2], "strides": [32]},
            "loss_cls": FOCAL,
        }
    )  # fmt: skip
    cls = torch.tensor([0.0, 15.0, -3.0, 1.0]).view(1, 4, 1, 1)
    objects = torch.tensor([0.0, 15.0]).view(1, 2, 1, 1)
    scores = head.refine([cls], [cls], [objects])[0][0].sigmoid().flatten()
    # e^(c + o) / (1 + e^c + e^o + e^(c + o)): the product of two sigmoids
    expected = torch.tensor([0.25, 0.5, torch.tensor(-3.0).sigmoid(), torch.tensor(1.0).sigmoid()])
    assert torch.allclose(scores, expected, atol=1e-5)


def test_a_place_that_is_hardly_a_centre_says_nothing_in_eval_mode() -> None:
    head = made({"type": "GARPNHead", "in_channels": 4, "feat_channels": 4, "loc_filter_thr": 0.5})
    one = torch.ones(1, 1, 1, 2)
    loc = torch.tensor([[[[-1.0, 1.0]]]])
    assert head.eval().refine([one], [one], [one], [loc])[0][0].flatten().tolist() == [0, 1]
    assert head.train().refine([one], [one], [one], [loc])[0][0].flatten().tolist() == [1, 1]


def test_a_head_without_integers_has_no_decoder() -> None:
    with pytest.raises(UserError, match=r"there is no decoder for GARPNHead, whose .* take RetinaHead \(or RPNH"):
        made({"type": "GARPNHead", "in_channels": 4, "feat_channels": 4}).coding()


def test_a_box_goes_to_the_level_of_the_least_mean_loss() -> None:
    owners = [torch.tensor([0, 0, -1, 1]), torch.tensor([0, -1])]  # box 1 has no position on the second level
    cls = [torch.tensor([[1.0], [3.0], [9.0], [5.0]]), torch.tensor([[1.0], [9.0]])]
    box = [torch.tensor([1.0, 1.0, 0.0, 1.0]), torch.tensor([1.5, 0.0])]
    # box 0: (2 + 4) / 2 = 3 on the first level, 2.5 on the second; box 1: 6 on the first
    assert FSAFHead._best_levels(cls, box, owners, 2).tolist() == [1, 0]


def test_only_the_worst_background_counts_in_ssd() -> None:
    head = made(
        {
            "type": "SSDHead", "num_classes": 1, "in_channels": [3, 3], "anchor_generator": ONE,
            "train_cfg": {**TRAIN, "neg_pos_ratio": 2, "smoothl1_beta": 1.0},
        }
    )  # fmt: skip
    logits = torch.tensor([[0.0, 0.0], [0.0, 0.0], [0.0, 30.0], [30.0, 0.0]])  # the last is a false alarm
    labels, zeros = torch.tensor([0, 1, 1, 1]), torch.zeros(4, 4)
    loss_cls, loss_bbox = head.picture_loss(logits, zeros, zeros, labels, torch.ones(4), zeros, zeros, 2.0)
    log2 = float(torch.log(torch.tensor(2.0)))
    assert loss_cls.tolist() == pytest.approx([(log2 + 30 + log2) / 2]) and float(loss_bbox) == 0


def test_stages_of_proposals_are_clipped_to_the_pictures_of_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second stage reads at the boxes from which losses and predictions start, padded or not."""
    stage = {"type": "StageCascadeRPNHead", "in_channels": 3, "feat_channels": 4, "anchor_generator": ONE}
    head = {"type": "CascadeRPNHead", "num_stages": 2, "stages": [
        {**stage, "with_cls": False}, {**stage, "adapt_cfg": {"type": "offset"}},
    ]}  # fmt: skip
    torch.manual_seed(0)
    cascade = made(head)
    torch.nn.init.constant_(cascade.stages[0].rpn_reg.bias, 1.0)  # boxes move and grow to the right and down
    read: list[list[Tensor]] = []
    run = cascade.stages[1].run
    monkeypatch.setattr(cascade.stages[1], "run", lambda feats, anchors: (read.append(anchors), run(feats, anchors))[1])
    feats = [torch.randn(1, 3, 4, 6), torch.randn(1, 3, 2, 3)]
    with cascade.of_sizes([(20, 40)]):
        maps = cascade(feats)
    cascade(feats)
    metas: list[PictureMeta] = [{"img_shape": (20, 40)}]
    start = cascade._by_stage(cascade.levels(maps), metas)[1][1]
    assert all(torch.equal(a, b) for a, b in zip(read[0], start, strict=True))
    assert float(torch.cat(read[0], dim=1)[..., 2].max()) == 40 and float(torch.cat(read[1], dim=1)[..., 2].max()) == 48
