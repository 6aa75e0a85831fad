"""Options that change predictions change decoders by tables alike, or are refused by name."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hatdet.export.decoder.tabled.steps import buckets_of, soften, vote
from hatdet.models.mmdet.heads.base import DenseHead
from hatdet.models.mmdet.heads.coding import Coding, Picking
from hatdet.registry import resolve, shipped_names
from hatdet.utils.errors import UserError
from tests.helpers.decoders import assert_same
from tests.helpers.dense_models import ANCHOR, DELTAS, of
from tests.helpers.dense_roads import REFUSED, ROADS
from tests.helpers.tabled import Decoders
from tests.unit.export.decoder.test_tabled import metadata_of, random_codes, toolbox

SOFT = {"type": "soft_nms", "iou_threshold": 0.4}
SOFTMAX = {"type": "CrossEntropyLoss", "use_sigmoid": False}
LEGACY = {"type": "LegacyDeltaXYWHBBoxCoder", "target_stds": [0.1, 0.1, 0.2, 0.2]}
OLD_ANCHORS = {
    "type": "LegacyAnchorGenerator", "center_offset": 0.5, "octave_base_scale": 4, "scales_per_octave": 2,
    "ratios": [0.5, 1.0], "strides": [8, 16, 32],
}  # fmt: skip
BETWEEN = {**ANCHOR, "center_offset": 0.5, "ratios": [0.7]}


def changed(name: str, test: dict[str, Any], **head: Any) -> Any:
    """A detector of the road's test with another ``test_cfg`` and another head."""
    config = copy.deepcopy(ROADS[name])
    own = config["rpn_head" if "rpn_head" in config else "bbox_head"]
    own.update(head)
    (config["test_cfg"]["rpn"] if "rpn_head" in config else config["test_cfg"]).update(test)
    return of(config).eval()


OPTIONS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "soft": ("RetinaNet", {"nms": SOFT}, {}),
    "soft, gaussian": ("FCOS", {"nms": {**SOFT, "method": "gaussian", "min_score": 0.1, "max_num": 9}}, {}),
    "soft, naive": ("ATSS", {"nms": {**SOFT, "method": "naive", "class_agnostic": True}, "min_bbox_size": 3}, {}),
    "soft of levels": ("RPN", {"nms": SOFT, "min_bbox_size": 4}, {}),
    "soft of all": ("YOLOv3", {"nms": {**SOFT, "sigma": 0.3, "method": "gaussian"}, "max_per_img": -1}, {}),
    "soft and votes": ("PAA", {"nms": SOFT}, {}),
    "no suppression": ("RetinaNet", {"nms": None}, {}),
    "old name": ("FCOS", {"nms": {"type": "nms", "iou_thr": 0.3, "max_num": 5}}, {}),
    "any class": ("FCOS", {"nms": {"type": "mmcv.nms", "iou_threshold": 0.3, "class_agnostic": True}}, {}),
    "everything": ("RetinaNet", {"score_thr": 0.0, "nms_pre": -1, "max_per_img": -1}, {}),
    "large ones": ("FCOS", {"min_bbox_size": 9, "score_thr": 0.3}, {}),
    "any level": ("RPN", {"nms": {"type": "nms", "iou_threshold": 0.2, "class_agnostic": True}}, {}),
    "no threshold": ("RPN", {"score_thr": 0.7}, {"loss_cls": SOFTMAX}),
    "softmax": ("RetinaNet", {}, {"loss_cls": SOFTMAX}),
    "softmax and bins": ("GFL", {}, {"loss_cls": SOFTMAX}),
    "YOLOX": ("YOLOX", {"nms_pre": 5, "max_per_img": 3, "min_bbox_size": 20, "score_thr": 0.5}, {}),
    "YOLOv3 without a first threshold": ("YOLOv3", {"conf_thr": -1, "nms_pre": 30}, {}),
    "CenterNet": ("CenterNet", {
        "topk": 17, "local_maximum_kernel": 5, "max_per_img": 3, "nms": SOFT, "score_thr": 0.5, "nms_pre": 4}, {}),
    "no votes": ("PAA", {"nms_pre": 4, "min_bbox_size": 9, "score_thr": 0.4}, {"score_voting": False}),
    "votes of all": ("PAA", {"nms_pre": -1, "score_thr": 0.0, "max_per_img": -1}, {}),
    "votes and any class": ("LAD", {"nms": {"type": "nms", "iou_threshold": 0.3, "class_agnostic": True}}, {
        "score_voting": True}),
    "an odd number of buckets": ("SABL", {"nms_pre": 5, "nms": SOFT}, {
        "bbox_coder": {"type": "BucketingBBoxCoder", "num_buckets": 7, "scale_factor": 1.7, "clip_border": False}}),
    "buckets and a softmax": ("SABL", {}, {"loss_cls": SOFTMAX}),
    "TOOD between positions": ("TOOD", {}, {"anchor_generator": BETWEEN}),
    "TOOD of anchors between positions": ("TOOD of anchors", {"score_thr": 0.3}, {
        "anchor_generator": BETWEEN, "bbox_coder": {**DELTAS, "add_ctr_clamp": True, "ctr_clamp": 4}}),
    "old pixels": ("RetinaNet", {}, {"anchor_generator": OLD_ANCHORS, "bbox_coder": LEGACY}),
    "GLIP's pixels": ("ATSS", {}, {"bbox_coder": {**DELTAS, "type": "DeltaXYWHBBoxCoderForGLIP"}}),
    "boxes beyond the picture": ("FoveaBox", {}, {
        "bbox_coder": {"type": "DistancePointBBoxCoder", "clip_border": False}}),
    "four divisors": ("FSAF", {}, {"bbox_coder": {"type": "TBLRBBoxCoder", "normalizer": [4.0, 3.0, 2.0, 1.0]}}),
    "learned of a teacher": ("GFL", {}, {"type": "LDHead"}),
    "ranked": ("SSD", {}, {"type": "PISASSDHead"}),
    "found by a search": ("FCOS", {}, {"type": "NASFCOSHead"}),
    "few of a level": ("RTMDet with objectness", {"nms_pre": 7, "score_thr": 0.3}, {}),
}  # fmt: skip


@pytest.mark.parametrize("name", OPTIONS)
def test_an_option_changes_the_decoders_too(name: str, tmp_path: Path) -> None:
    model, test, head = OPTIONS[name]
    detector = changed(model, test, **head)
    metadata = metadata_of(detector)
    decoders, rng, total = Decoders(tmp_path, metadata), np.random.default_rng(1), 0
    kinds = [("any", (64, 96)), ("few", (200, 300)), ("rare", (33, 20)), ("lowest", (64, 96))]
    cases = [(random_codes(metadata, kind, rng), file) for kind, file in kinds]
    for (codes, file), of_c in zip(cases, decoders.c(cases), strict=True):
        expected = toolbox(detector, metadata, codes, file)
        assert_same(decoders.numpy(codes, file), expected)
        assert_same(of_c, expected)
        total += len(expected[1])
    assert total > 9, "nothing was found"


def test_a_root_of_a_low_and_a_high_score_passes(tmp_path: Path) -> None:
    """sqrt(0.04 * 0.9) = 0.19 is above 0.15, 0.04 is not: every class code may pass whose root does."""
    detector = changed("TOOD", {"score_thr": 0.15, "nms_pre": 1000, "max_per_img": 500})
    metadata = metadata_of(detector)
    for output in metadata["outputs"]:
        output.update(scale=0.05, zero_point=0)
    metadata["decoding"] = detector.decoder_tables(metadata["outputs"])
    codes = [np.zeros(o["shape"], np.int8) for o in metadata["outputs"]]
    for level in range(3):
        codes[level][:], codes[6 + level][:] = -64, 44  # logits -3.2 and 2.2
    expected = toolbox(detector, metadata, codes, (64, 96))
    assert len(expected[1]) > 20 and 0.15 < expected[1].min() < 0.25
    decoders = Decoders(tmp_path, metadata)
    assert_same(decoders.numpy(codes, (64, 96)), expected)
    assert_same(decoders.c([(codes, (64, 96))])[0], expected)


@pytest.mark.parametrize(
    ("name", "test", "head", "said"),
    [
        ("FCOS", {"nms": {"type": "nms", "iou_threshold": 0.5, "offset": 1}}, {}, "no nms.offset=1; set nms=dict"),
        ("FCOS", {"nms": {"type": "nms", "iou_threshold": 0.5, "score_threshold": 0.2}}, {}, "nms.score_threshold=0.2"),
        ("FCOS", {"nms": {"type": "nms", "iou_threshold": 0.5, "typo": 2}}, {}, "decoders have no nms.typo=2;"),
        ("FCOS", {"nms": {"type": "nms_match"}}, {}, "decoders have no nms.type='nms_match'"),
        ("FCOS", {"nms": {**SOFT, "method": "cubic"}}, {}, r"nms.method='cubic'.* \(naive, linear, gaussian\)"),
        ("FCOS", {"nms": {"type": "nms"}}, {}, "test_cfg.nms says no iou_threshold; write"),
        ("FCOS", {"max_per_img": 0}, {}, "max_per_img=0 finds nothing; set test_cfg.max_per_img to 1"),
        (
            "FCOS",
            {},
            {"loss_cls": {"type": "SeesawLoss", "num_classes": 3}},
            "for scores of SeesawLoss; train",
        ),
        ("PAA", {}, {"loss_cls": SOFTMAX}, "no decoder for PAAHead with a softmax.* set loss_cls.use_sigmoid=True"),
        ("ATSS", {}, {"bbox_coder": {"type": "PseudoBBoxCoder"}}, "no decoder for boxes of PseudoBBoxCoder"),
        ("GFL", {}, {"bbox_coder": DELTAS}, "for boxes of DeltaXYWHBBoxCoder in this head; take its usual bbox_coder"),
    ],
)
def test_what_decoders_do_not_have_is_refused(name: str, test: dict[str, Any], head: dict[str, Any], said: str) -> None:
    detector = changed(name, {}, **head)
    outputs = [
        {"name": name, "shape": [1, 4, 4, 12], "dtype": "int8", "scale": 0.05, "zero_point": 0}
        for name in detector.output_names
    ]
    detector.head.test_cfg.update(test)
    with pytest.raises(UserError, match=said):
        detector.decoder_tables(outputs)


def test_every_registered_head_has_a_decoder_or_names_another() -> None:
    heads = [resolve(name) for name in shipped_names() if name.startswith("mmdet.") and name.endswith("Head")]
    dense = {head for head in heads if isinstance(head, type) and issubclass(head, DenseHead)}
    assert len(dense) > 30
    without = {head for head in dense if head.without_decoder}
    assert {head.__name__ for head in without} == {
        "CascadeRPNHead", "CentripetalHead", "CornerHead", "GARPNHead", "GARetinaHead", "GuidedAnchorHead",
        "RepPointsHead", "VFNetHead",
    }  # fmt: skip
    tried = {config["rpn_head" if "rpn_head" in config else "bbox_head"]["type"] for config in ROADS.values()}
    tried |= {head["type"] for _, _, head in OPTIONS.values() if "type" in head}
    assert {head.__name__ for head in dense - without} - tried == {"AnchorHead", "StageCascadeRPNHead"}  # parts


def test_a_map_of_another_stride_than_the_papers(tmp_path: Path) -> None:
    """CenterNet with one layer less has maps of an eighth of the picture: places are shares of the picture."""
    config = copy.deepcopy(ROADS["CenterNet"])
    config["neck"].update(num_deconv_filters=(16, 8), num_deconv_kernels=(4, 4))
    detector = of(config).eval()
    metadata = metadata_of(detector)
    codes = random_codes(metadata, "any", np.random.default_rng(0))
    assert codes[0].shape[1:3] == (8, 12)
    expected = toolbox(detector, metadata, codes, (64, 96))
    assert expected[0].max() > 60 and len(expected[0]) > 9
    decoders = Decoders(tmp_path, metadata)
    assert_same(decoders.numpy(codes, (64, 96)), expected)
    assert_same(decoders.c([(codes, (64, 96))])[0], expected)
    maps = [torch.randn(m.shape[0], m.shape[3], *m.shape[1:3]) for m in codes]
    batch = {"img": torch.zeros(1, 3, 64, 96)}
    (found,) = detector.predict_decoded(*detector.decoding((64, 96))(*maps), batch)
    assert torch.allclose(found["boxes"], detector.predict(maps, batch)[0]["boxes"], atol=1e-4)


def test_proposals_have_one_class_whatever_the_data_names(tmp_path: Path) -> None:
    detector = of(ROADS["RPN"]).eval()
    metadata = metadata_of(detector)
    metadata["classes"] = ["cat", "dog", "emu"]
    codes = random_codes(metadata, "any", np.random.default_rng(0))
    decoders = Decoders(tmp_path, metadata)
    assert decoders.module.CLASSES == ["object"]
    expected = toolbox(detector, metadata, codes, (64, 96))
    assert_same(decoders.numpy(codes, (64, 96)), expected)
    assert_same(decoders.c([(codes, (64, 96))])[0], expected)


def test_a_network_of_gray_pictures(tmp_path: Path) -> None:
    detector = of(ROADS["FCOS"]).eval()
    metadata = metadata_of(detector)
    metadata["input"]["shape"] = [1, 64, 96, 1]
    with pytest.raises(UserError, match="takes 1 channel"):
        Decoders(tmp_path, metadata)
    metadata["preprocessing"] = {"keep_ratio": True, "fill": 0, "channels": "GRAY", "interpolation": "linear"}
    decoders = Decoders(tmp_path, metadata)
    assert decoders.module.preprocess(np.full((32, 48), 7, np.uint8)).shape == (1, 64, 96, 1)
    codes = random_codes(metadata, "any", np.random.default_rng(0))
    assert_same(decoders.c([(codes, (64, 96))])[0], toolbox(detector, metadata, codes, (64, 96)))
    metadata["preprocessing"]["size"] = [64, 64]
    with pytest.raises(UserError, match=r"the transforms make pictures of \[64, 64\], the model takes \[64, 96\]"):
        Decoders(tmp_path, metadata)


@pytest.mark.parametrize("name", ["GuidedAnchors", "RepPoints", "VFNet", "CornerNet"])
def test_heads_without_integers_name_another(name: str) -> None:
    with pytest.raises(UserError, match=r"there is no decoder for \w+Head, whose .*: take \w+Head.*; export without"):
        of(REFUSED[name]).head.coding()


def test_every_flag_of_picking_is_told_to_decoders() -> None:
    detector = changed("FCOS", {})
    outputs = [
        {"name": name, "shape": [1, 4, 4, 12], "dtype": "int8", "scale": 0.05, "zero_point": 0}
        for name in detector.output_names
    ]
    told = set(detector.decoder_tables(outputs)) | {"ignores"}
    assert set(Picking.__dataclass_fields__) <= told
    inside = {"form", "cls", "box", "factor", "factor_thr", "shift", "kernel", "order"}  # of levels, or renamed
    assert set(Coding.__dataclass_fields__) - inside <= told


def test_soft_suppression_by_hand() -> None:
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 5], [20, 0, 30, 10]], np.float32)  # the second is half of the first
    scores = np.array([0.9, 0.8, 0.5], np.float32)
    model = {"soft": "linear", "iou_threshold": 0.5, "sigma": 0.5, "min_score": 0.05, "max_per_img": 10}
    keep, left = soften(boxes, scores, np.zeros(3, int), model)
    assert keep.tolist() == [0, 2, 1] and left.tolist() == pytest.approx([0.9, 0.4, 0.5])
    keep, left = soften(boxes, scores, np.zeros(3, int), {**model, "soft": "gaussian", "min_score": 0.5})
    assert keep.tolist() == [0, 2] and left[1] == pytest.approx(0.8 * np.exp(-(0.5**2) / 0.5))
    keep, _ = soften(boxes, scores, np.array([0, 1, 0]), {**model, "soft": "naive", "max_per_img": 2})
    assert keep.tolist() == [0, 1]
    keep, _ = soften(boxes[:0], scores[:0], np.zeros(0, int), model)
    assert keep.tolist() == []


def test_votes_by_hand() -> None:
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 8], [50, 50, 60, 60]], np.float32)
    scores, labels = np.array([0.9, 0.9, 0.7], np.float32), np.zeros(3, int)
    weight = np.exp(-(0.2**2) / 0.025)
    moved = vote(boxes[:1], labels[:1], boxes, scores, labels)
    assert moved[0].tolist() == pytest.approx([0, 0, 10, (10 + 8 * weight) / (1 + weight)])
    assert vote(boxes[:0], labels[:0], boxes, scores, labels).shape == (0, 4)
    assert vote(boxes[:1], labels[:1], boxes[:0], scores[:0], labels[:0]).tolist() == boxes[:1].tolist()


def test_buckets_by_hand() -> None:
    """Codes are logits in units of log 2: shares of 1/4, 1/2, 1/4 and, where two are alike, of the first of them."""
    bins = np.exp((np.arange(256) - 128) * np.log(2)).tolist()
    level = {"bins": bins, "shifts": ((np.arange(256) - 128) / 4).tolist()}
    codes = np.array([[[0, 1, 0], [1, 0, 1], [0, 0, 0], [0, 1, 2]]])
    offsets = np.array([[[4, 8, 12]] * 4])
    index, shift, sure = buckets_of({}, level, codes, offsets)
    assert index.tolist() == [[1, 0, 0, 2]] and shift.tolist() == [[2, 1, 1, 3]]
    assert sure[0] == pytest.approx((3 / 4 + 2 / 5 + 2 / 3 + 6 / 7) / 4)
    assert torch.tensor(sure).dtype == torch.float32
