"""The data half of MMDetection's configs of both versions as hatdet's loaders."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import pytest

from hatdet.config.mmdetection.data.steps2 import modernize
from hatdet.config.mmdetection.data.translate import translate_data
from hatdet.utils.errors import ConfigError

MEAN, STD = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]
TRAIN3 = [
    dict(type="LoadImageFromFile", backend_args=None),
    dict(type="LoadAnnotations", with_bbox=True),
    dict(type="Resize", scale=(1333, 800), keep_ratio=True),
    dict(type="RandomFlip", prob=0.5),
    dict(type="PackDetInputs"),
]
TEST3 = [TRAIN3[0], TRAIN3[2], TRAIN3[1], dict(type="PackDetInputs", meta_keys=("img_id",))]


def version3(**changes: Any) -> dict[str, Any]:
    files = dict(type="CocoDataset", data_root="data/coco/")
    train = dict(files, ann_file="annotations/train.json", data_prefix=dict(img="train/"), pipeline=TRAIN3)
    train["filter_cfg"] = dict(filter_empty_gt=True, min_size=32)
    val = dict(files, ann_file="annotations/val.json", data_prefix=dict(img="val/"), pipeline=TEST3, test_mode=True)
    config = dict(
        train_dataloader=dict(
            batch_size=2, num_workers=2, persistent_workers=True, sampler=dict(type="DefaultSampler", shuffle=True),
            batch_sampler=dict(type="AspectRatioBatchSampler"), dataset=train,
        ),
        val_dataloader=dict(
            batch_size=1, num_workers=2, drop_last=False, sampler=dict(type="DefaultSampler", shuffle=False),
            dataset=val,
        ),
        val_evaluator=dict(type="CocoMetric", ann_file="data/coco/annotations/val.json", metric="bbox"),
        model=dict(data_preprocessor=dict(
            type="DetDataPreprocessor", mean=MEAN, std=STD, bgr_to_rgb=True, pad_size_divisor=32)),
    )  # fmt: skip
    return {**copy.deepcopy(config), **changes}


def version2(**changes: Any) -> dict[str, Any]:
    norm = dict(type="Normalize", mean=MEAN, std=STD, to_rgb=True)
    last = [norm, dict(type="Pad", size_divisor=32)]
    train = [
        dict(type="LoadImageFromFile"),
        dict(type="LoadAnnotations", with_bbox=True),
        dict(type="Resize", img_scale=[(1333, 640), (1333, 800)], multiscale_mode="value", keep_ratio=True),
        dict(type="RandomFlip", flip_ratio=0.5),
        *last,
        dict(type="DefaultFormatBundle"),
        dict(type="Collect", keys=["img", "gt_bboxes", "gt_labels"]),
    ]
    views = dict(type="MultiScaleFlipAug", img_scale=(1333, 800), flip=False)
    views["transforms"] = [dict(type="Resize", keep_ratio=True), dict(type="RandomFlip"), *last,
                           dict(type="ImageToTensor", keys=["img"]), dict(type="Collect", keys=["img"])]  # fmt: skip
    files = dict(type="CocoDataset", ann_file="data/coco/a.json", img_prefix="data/coco/train/")
    data = dict(samples_per_gpu=2, workers_per_gpu=2)
    data.update(train=dict(files, pipeline=train), val=dict(files, pipeline=[train[0], views]))
    config = dict(data=data, evaluation=dict(interval=1, metric="bbox"))
    return {**copy.deepcopy(config), **changes}


def test_a_config_of_version_3() -> None:
    parts = translate_data(version3(), 3)
    loader = parts.data_loader
    assert parts.image_size == (800, 1344) and parts.classes is None and parts.tta is None and parts.notes == ()
    assert parts.pixels == {"mean": MEAN, "std": STD, "bgr_to_rgb": True} and parts.input_color == "bgr"
    assert loader["batch_size"] == 2 and loader["num_workers"] == 2 and loader["persistent_workers"] is True
    assert loader["sampler"] == {"type": "mmdet.AspectRatioSampler", "shuffle": True, "batch_size": 2}
    # 104, 116, 124: the pixel values B, G, R that are nearest to 0 once normalized
    assert loader["collate_fn"] == {"type": "Collate2D", "size_divisor": 32, "fill": [104, 116, 124]}
    dataset = loader["dataset"]
    assert (dataset["data_root"], dataset["ann_file"], dataset["img_prefix"]) == (
        "data/coco/", "annotations/train.json", "train/",
    )  # fmt: skip
    assert dataset["filter_empty"] and dataset["min_size"] == 32 and dataset["crowds"]
    assert dataset["transforms"] == [
        {"type": "mmdet.Resize", "scale": (1333, 800), "keep_ratio": True},
        {"type": "mmdet.RandomFlip", "prob": 0.5},
        {"type": "ToTensor", "color": "bgr"},
    ]
    val = parts.val_data_loader
    assert val["sampler"] == {"type": "SeededSampler", "shuffle": False} and val["dataset"]["test_mode"]
    assert parts.val_metrics == {"type": "COCODetectionMetric", "classwise": False}
    calibration = parts.calibration_data_loader["dataset"]
    assert calibration["ann_file"] == "annotations/train.json" and "crowds" not in calibration
    assert calibration["transforms"] == val["dataset"]["transforms"]


def test_a_config_of_version_2() -> None:
    parts = translate_data(version2(), 2)
    assert parts.image_size == (800, 1344) and parts.pixels["bgr_to_rgb"]
    dataset = parts.data_loader["dataset"]
    assert (dataset["data_root"], dataset["img_prefix"]) == ("data/coco", "train")
    assert dataset["filter_empty"] and dataset["min_size"] == 32  # version 2's own defaults
    assert dataset["transforms"][:2] == [
        {"type": "mmdet.RandomChoiceResize", "scales": [(1333, 640), (1333, 800)], "keep_ratio": True},
        {"type": "mmdet.RandomFlip", "prob": 0.5},
    ]
    assert parts.val_data_loader["dataset"]["transforms"][0]["scale"] == (1333, 800)
    assert parts.data_loader["collate_fn"]["size_divisor"] == 32
    assert parts.data_loader["sampler"]["type"] == "mmdet.AspectRatioSampler"  # GroupSampler


def test_an_rpn_counts_all_classes_as_one() -> None:
    config = version3(val_evaluator=dict(type="CocoMetric", metric="proposal_fast", proposal_nums=(100, 300, 1000)))
    config["model"]["type"] = "RPN"
    parts = translate_data(config, 3)
    loaders = (parts.data_loader, parts.val_data_loader, parts.calibration_data_loader)
    assert {loader["dataset"]["one_class"] for loader in loaders} == {"object"}
    assert parts.val_metrics == {"type": "COCOProposalMetric", "proposal_nums": [100, 300, 1000]}
    assert "one_class" not in translate_data(version3(), 3).data_loader["dataset"]


@pytest.mark.parametrize(
    ("evaluator", "expected"),
    [
        (dict(type="CocoMetric", metric=["bbox", "proposal"], classwise=True),
         [{"type": "COCODetectionMetric"}, {"type": "COCOProposalMetric"}]),
        (dict(type="CocoMetric", metric=["proposal_fast", "bbox"], proposal_nums=(1, 10, 100), outfile_prefix="x"),
         [{"type": "COCODetectionMetric", "classwise": False, "results_file": "x.bbox.json"},
          {"type": "COCOProposalMetric", "proposal_nums": [1, 10, 100], "results_file": "x.proposal.json"}]),
        ([dict(type="CocoMetric", metric="bbox"), dict(type="CocoMetric", metric="proposal")],
         [{"type": "COCODetectionMetric", "classwise": False}, {"type": "COCOProposalMetric"}]),
    ],
)  # fmt: skip
def test_several_metrics_are_all_measured(evaluator: Any, expected: list[dict[str, Any]]) -> None:
    found = translate_data(version3(val_evaluator=evaluator), 3).val_metrics
    assert found == {"type": "Metrics", "metrics": expected}
    same = [dict(type="CocoMetric", metric="bbox")] * 2
    assert translate_data(version3(val_evaluator=same), 3).val_metrics["type"] == "COCODetectionMetric"


def test_the_colour_of_an_expanded_picture_is_the_nearest_level_to_version_2s() -> None:
    steps = modernize([dict(type="Expand", mean=[123.675, 116.28, 103.53], to_rgb=True, ratio_range=(1, 4))], "p").steps
    assert steps == [{"type": "Expand", "mean": (124, 116, 104), "to_rgb": True, "ratio_range": (1, 4)}]


def test_views_and_how_they_are_merged() -> None:
    def views(directions: Sequence[str], **model: Any) -> Any:
        flips: list[dict[str, Any]] = [dict(type="RandomFlip", prob=1.0, direction=d) for d in directions]
        flips.append(dict(type="RandomFlip", prob=0.0))
        resizes = [dict(type="Resize", scale=(1333, side), keep_ratio=True) for side in (800, 400)]
        steps = [dict(type="LoadImageFromFile"), dict(type="TestTimeAug", transforms=[resizes, flips])]
        return translate_data(version3(tta_pipeline=steps, tta_model=dict(type="DetTTAModel", **model)), 3).tta

    assert views(["horizontal"]) == {"type": "TTA", "scales": [1.0, 0.5], "flip": True}
    nms = dict(type="nms", iou_threshold=0.6)
    found = views(["horizontal", "vertical"], tta_cfg=dict(nms=nms, max_per_img=100))
    assert found["directions"] == ["horizontal", "vertical"] and found["nms"] == nms and found["max_per_img"] == 100
    assert views([]) == {"type": "TTA", "scales": [1.0, 0.5], "flip": False}


def test_what_has_no_counterpart_is_named_with_its_path() -> None:
    config = version3()
    config["train_dataloader"]["dataset"]["pipeline"][3]["type"] = "RandomFlop"
    with pytest.raises(ConfigError, match=r"train_dataloader\.dataset\.pipeline\.3\.type: 'RandomFlop'.*RandomFlip"):
        translate_data(config, 3)
    config = version3()
    config["train_dataloader"]["dataset"]["type"] = "CrowdHumanDataset"
    with pytest.raises(ConfigError, match="CrowdHumanDataset is not read here: convert it"):
        translate_data(config, 3)
