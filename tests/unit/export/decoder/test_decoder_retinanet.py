"""The exported decoders of RetinaNet: anchors, deltas, the filter of positions; equal to the toolbox's boxes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hatdet.export.decoder.model import Overrides, decoder_model
from hatdet.models.task_modules.encoders import OneHotClassEncoder, XYWHBBoxEncoder
from hatdet.models.task_modules.max_iou_matcher import MaxIoUMatcher
from hatdet.models.task_modules.multi_stride_filter import RetinanetMultiStrideFilter
from hatdet.models.task_modules.retinanet_post_process import RetinaNetPostProcess
from hatdet.models.task_modules.target_generator import BBoxTargetGenerator, MatchLabelSepEncoder
from hatdet.utils.errors import UserError
from tests.helpers.decoders import Decoders, assert_same, file_metadata, random_codes, toolbox
from tests.helpers.retinanet import STRIDES, build_retinanet

SIZE = (96, 160)  # levels of 12x20, 6x10, 3x5, 2x3, 1x2
SCALES = [
    (0.05, 120),
    (0.047, 110),
    (0.031, 127),
    (0.06, 100),
    (0.04, 90),
    *[(0.011, 3), (0.02, -7)],
    *[(0.016, 0)] * 3,
]
FINE = [(scale / 256, zero * 256) for scale, zero in SCALES]


def targets(num_classes: int, mean: tuple[float, ...], std: tuple[float, ...]) -> BBoxTargetGenerator:
    return BBoxTargetGenerator(
        matcher=MaxIoUMatcher(pos_iou=0.5, neg_iou=0.4),
        label_encoder=MatchLabelSepEncoder(
            bbox_encoder=XYWHBBoxEncoder(reg_mean=mean, reg_std=std),
            class_encoder=OneHotClassEncoder(num_classes=num_classes + 1),
        ),
    )


CASES: dict[str, dict[str, Any]] = {
    "as configured": {},
    "one class": dict(num_classes=1),
    "few of a level": dict(post_process=RetinaNetPostProcess(topk_candidates=11, score_thresh=0.2)),
    "the filter is stricter than the threshold": dict(
        filter_module=RetinanetMultiStrideFilter(strides=STRIDES, threshold=0.3),
        post_process=RetinaNetPostProcess(score_thresh=0.01, topk_candidates=100000),
    ),
    "no filter": dict(filter_module=None, post_process=RetinaNetPostProcess(score_thresh=0.0, detections_per_img=2000)),
    "scaled deltas": dict(targets=targets(2, (0.1, 0.0, -0.05, 0.02), (0.1, 0.1, 0.2, 3.0))),
    "nothing passes": dict(filter_module=RetinanetMultiStrideFilter(strides=STRIDES, threshold=50.0)),
}


@pytest.mark.parametrize("name", CASES)
def test_equal_to_the_toolbox(name: str, tmp_path: Path) -> None:
    detector = build_retinanet(**CASES[name])
    metadata = file_metadata(detector, SIZE, SCALES)
    decoders = Decoders(tmp_path, metadata)
    rng = np.random.default_rng(0)
    cases = []
    for kind in ("any", "few", "lowest", "highest"):
        codes = random_codes(metadata, rng, kind)
        cases += [(codes, file) for file in ((480, 640), (61, 400), (1, 1))]
    counts = []
    for (codes, file), from_c in zip(cases, decoders.c_many(cases), strict=True):
        expected = toolbox(detector, metadata, codes, file)
        assert_same(decoders.numpy(codes, file), expected)
        assert_same(from_c, expected)
        counts.append(len(expected[0]))
    assert max(counts) == 0 if name == "nothing passes" else max(counts) > 8


def test_int16_outputs(tmp_path: Path) -> None:
    detector = build_retinanet(targets=targets(2, (0.0, 0.0, 0.0, 0.0), (0.1, 0.1, 0.2, 0.3)))
    metadata = file_metadata(detector, SIZE, FINE, "int16")
    decoders = Decoders(tmp_path, metadata)
    codes = random_codes(metadata, np.random.default_rng(1))
    expected = toolbox(detector, metadata, codes, (333, 97))
    assert len(expected[0]) > 50
    assert_same(decoders.numpy(codes, (333, 97)), expected)
    assert_same(decoders.c(codes, (333, 97)), expected)


def test_filter_and_threshold_are_codes() -> None:
    """Scale 0.05, zero point 120: logit -2.944 is code 61.12, so 62 passes; a score of 0.05 is logit -2.9444."""
    metadata = file_metadata(build_retinanet(), SIZE, SCALES)
    level = decoder_model(metadata)["levels"][0]
    assert (level["threshold"], level["gate"]) == (62, 62)
    level = decoder_model(metadata, Overrides(score_thr=0.01))["levels"][0]
    assert (level["threshold"], level["gate"]) == (29, 62)  # logit -4.595: code 28.1
    level = decoder_model(metadata, Overrides(score_thr=0.5))["levels"][0]
    assert (level["threshold"], level["gate"]) == (121, 121)


def test_an_anchor_by_hand(tmp_path: Path) -> None:
    """Stride 8, column 7, row 5, the middle anchor of ratio 1 (32 * 2**(1/3) = 40.3, so +-20): moved and enlarged."""
    scales = [(0.05, 120)] * 5 + [(0.25, 0)] * 5
    detector = build_retinanet()
    metadata = file_metadata(detector, SIZE, scales)
    decoders = Decoders(tmp_path, metadata)
    codes = random_codes(metadata, np.random.default_rng(0), "lowest")
    anchor = 4
    codes[0][0, 5, 7, 2 * anchor + 1] = 127
    codes[5][0, 5, 7, 4 * anchor : 4 * anchor + 4] = (1, -1, 0, 0)  # a quarter of 40 to the right and up
    boxes, _, labels = decoders.numpy(codes, SIZE)
    assert boxes.tolist() == [[46, 10, 86, 50]] and labels.tolist() == [1]
    assert_same(decoders.c(codes, SIZE), toolbox(detector, metadata, codes, SIZE))


def test_what_cannot_be_decoded() -> None:
    metadata = file_metadata(build_retinanet(post_process=None), SIZE, SCALES)
    with pytest.raises(UserError, match="built without post_process"):
        decoder_model(metadata)
    metadata = file_metadata(build_retinanet(), SIZE, SCALES)
    metadata.pop("reg_std")
    with pytest.raises(UserError, match="has no reg_std; export the model again"):
        decoder_model(metadata)


def test_the_picture_is_yuv_as_the_detector_says() -> None:
    metadata = file_metadata(build_retinanet(), SIZE, SCALES)
    assert decoder_model(metadata)["input"]["channels"] == "YUV"
    metadata = file_metadata(build_retinanet(input_color="rgb"), SIZE, SCALES)
    assert decoder_model(metadata)["input"]["channels"] == "RGB"
