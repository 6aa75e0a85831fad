"""Training and test pipelines of MMDetection's configs make samples: a handful here, all of them where they are."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import pytest
import torch

from hatdet.building import Builder
from hatdet.config.check import check
from hatdet.config.mmdetection.data.parts import DataParts
from hatdet.config.mmdetection.data.translate import translate_data
from hatdet.config.mmdetection.syntax import files
from hatdet.config.mmdetection.whole import version_of
from hatdet.data.samplers import SampleRef
from hatdet.utils.errors import ConfigError, UserError
from tests.helpers.samples import random_boxes, smooth

BCCD = Path(__file__).parents[4] / "shared" / "data" / "bccd"
CONFIGS = "HATDET_MMDET_CONFIGS"
"""Environment variable: folders with MMDetection's official configs (``.mim/configs`` of its wheels), as in PATH."""
DENSE = {
    "RetinaNet", "SingleStageDetector", "YOLOV3", "YOLOX", "RTMDet", "FCOS", "NASFCOS", "ATSS", "GFL", "PAA", "VFNet",
    "TOOD", "DDOD", "AutoAssign", "FSAF", "FOVEA", "RepPointsDetector", "YOLOF", "CenterNet", "CornerNet", "RPN",
}  # fmt: skip
ELSEWHERE = ("OpenImages", "WIDERFace", "V3Det", "VOC")
"""Data sets of official configs that are not COCO's."""

LOAD: list[dict[str, Any]] = [dict(type="LoadImageFromFile"), dict(type="LoadAnnotations", with_bbox=True)]
MEAN, STD = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]
NORM = dict(type="Normalize", mean=MEAN, std=STD, to_rgb=True)
LAST2 = [dict(type="DefaultFormatBundle"), dict(type="Collect", keys=["img", "gt_bboxes", "gt_labels"])]
PACK = [dict(type="PackDetInputs")]
BLACK: dict[str, Any] = dict(mean=[0, 0, 0], std=[1, 1, 1], to_rgb=True)


def resize(side: int) -> list[dict[str, Any]]:
    return [LOAD[0], dict(type="Resize", scale=(side, side), keep_ratio=True), *PACK]


def views(side: int, *steps: Any) -> list[dict[str, Any]]:
    first = [dict(type="Resize", keep_ratio=True), dict(type="RandomFlip")]
    inner = [*first, *steps, dict(type="ImageToTensor", keys=["img"])]
    return [LOAD[0], dict(type="MultiScaleFlipAug", img_scale=(side, side), flip=False, transforms=inner)]


RTMDET = [
    *LOAD,
    dict(type="CachedMosaic", img_scale=(64, 64), pad_val=114.0),
    dict(type="RandomResize", scale=(128, 128), ratio_range=(0.5, 2.0), resize_type="mmdet.Resize", keep_ratio=True),
    dict(type="RandomCrop", crop_size=(64, 64)),
    dict(type="YOLOXHSVRandomAug"),
    dict(type="RandomFlip", prob=0.5),
    dict(type="Pad", size=(64, 64), pad_val=dict(img=(114, 114, 114))),
    dict(type="CachedMixUp", img_scale=(64, 64), ratio_range=(1.0, 1.0), max_cached_images=20, pad_val=(114, 114, 114)),
    *PACK,
]
YOLOX3 = [
    dict(type="Mosaic", img_scale=(64, 48), pad_val=114.0),
    dict(type="RandomAffine", scaling_ratio_range=(0.1, 2), border=(-32, -24)),
    dict(type="MixUp", img_scale=(64, 48), ratio_range=(0.8, 1.6), pad_val=114.0),
    dict(type="YOLOXHSVRandomAug"),
    dict(type="RandomFlip", prob=0.5),
    dict(type="Resize", scale=(64, 48), keep_ratio=True),
    dict(type="Pad", pad_to_square=True, pad_val=dict(img=(114.0, 114.0, 114.0))),
    dict(type="FilterAnnotations", min_gt_bbox_wh=(1, 1), keep_empty=False),
    *PACK,
]
YOLOX2 = [
    dict(type="Mosaic", img_scale=(48, 64), pad_val=114.0),
    dict(type="RandomAffine", scaling_ratio_range=(0.1, 2), border=(-24, -32)),
    dict(type="MixUp", img_scale=(48, 64), ratio_range=(0.8, 1.6), pad_val=114.0),
    dict(type="YOLOXHSVRandomAug"),
    dict(type="RandomFlip", flip_ratio=0.5),
    dict(type="Resize", img_scale=(64, 48), keep_ratio=True),
    dict(type="Pad", pad_to_square=True, pad_val=dict(img=(114.0, 114.0, 114.0))),
    dict(type="FilterAnnotations", min_gt_bbox_wh=(1, 1), keep_empty=False),
    *LAST2,
]
SSD2 = [
    *LOAD,
    dict(type="Expand", mean=MEAN, to_rgb=True, ratio_range=(1, 4)),
    dict(type="MinIoURandomCrop", min_ious=(0.1, 0.3, 0.5, 0.7, 0.9), min_crop_size=0.3),
    dict(type="Resize", img_scale=(60, 50), keep_ratio=False),
    dict(type="RandomFlip", flip_ratio=0.5),
    dict(type="PhotoMetricDistortion", brightness_delta=32, contrast_range=(0.5, 1.5), hue_delta=18),
    NORM,
    *LAST2,
]
NASFPN2 = [
    *LOAD,
    dict(type="Resize", img_scale=(64, 64), ratio_range=(0.8, 1.2), keep_ratio=True),
    dict(type="RandomCrop", crop_size=(48, 64)),
    dict(type="RandomFlip", flip_ratio=0.5),
    NORM,
    dict(type="Pad", size=(48, 64)),
    *LAST2,
]
CENTERNET3 = [
    dict(type="LoadImageFromFile", to_float32=True, backend_args=None),
    LOAD[1],
    dict(type="PhotoMetricDistortion"),
    dict(type="RandomCenterCropPad", crop_size=(64, 64), ratios=(0.6, 1.0, 1.4), border=8, **BLACK, test_pad_mode=None),
    dict(type="Resize", scale=(64, 64), keep_ratio=True),
    dict(type="RandomFlip", prob=0.5),
    *PACK,
]  # fmt: skip
CENTER_TEST = [
    LOAD[0],
    dict(type="RandomCenterCropPad", ratios=None, border=None, **BLACK, test_mode=True,
         test_pad_mode=["logical_or", 31], test_pad_add_pix=1),
    *PACK,
]  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A COCO set of six pictures, one of them without a box."""
    root = tmp_path_factory.mktemp("set")
    content: dict[str, Any] = {"images": [], "annotations": []}
    content["categories"] = [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}]
    for i, (height, width) in enumerate([(50, 70), (70, 50), (40, 40), (33, 90), (64, 48), (45, 71)]):
        cv2.imwrite(str(root / f"{i}.png"), smooth(height, width, i))
        content["images"].append({"id": i, "file_name": f"{i}.png", "width": width, "height": height})
        for x1, y1, x2, y2 in random_boxes(height, width, 3, i) if i != 4 else []:
            box = [x1, y1, x2 - x1, y2 - y1]
            content["annotations"].append({
                "id": len(content["annotations"]), "image_id": i, "category_id": 1 + len(content["annotations"]) % 2,
                "bbox": box, "area": box[2] * box[3], "iscrowd": int(len(content["annotations"]) == 5),
            })  # fmt: skip
    (root / "a.json").write_text(json.dumps(content))
    return root


def config3(folder: Path, train: Any, test: Any, mixed: bool = False, **more: Any) -> dict[str, Any]:
    files_of = dict(type="CocoDataset", data_root=f"{folder}/", ann_file="a.json", data_prefix=dict(img=""))
    data = dict(files_of, pipeline=LOAD if mixed else train, filter_cfg=dict(filter_empty_gt=False, min_size=8))
    if mixed:
        data = dict(type="MultiImageMixDataset", dataset=data, pipeline=train)
    loader = dict(batch_size=2, num_workers=0, sampler=dict(type="DefaultSampler", shuffle=True), dataset=data)
    val = dict(batch_size=2, num_workers=0, sampler=dict(type="DefaultSampler", shuffle=False))
    val["dataset"] = dict(files_of, pipeline=test, test_mode=True)
    model = dict(data_preprocessor=dict(mean=MEAN, std=STD, bgr_to_rgb=True, pad_size_divisor=32))
    evaluator = dict(type="CocoMetric", metric="bbox")
    return dict(train_dataloader=loader, val_dataloader=val, val_evaluator=evaluator, model=model, **more)


def config2(folder: Path, train: Any, test: Any, mixed: bool = False, **more: Any) -> dict[str, Any]:
    files_of = dict(type="CocoDataset", ann_file=f"{folder}/a.json", img_prefix=f"{folder}/")
    data = dict(files_of, pipeline=LOAD if mixed else train, filter_empty_gt=False)
    if mixed:
        data = dict(type="MultiImageMixDataset", dataset=data, pipeline=train)
    return dict(data=dict(samples_per_gpu=2, workers_per_gpu=0, train=data, val=dict(files_of, pipeline=test)), **more)


def verified(parts: DataParts, count: int) -> Any:
    """Loaders of both kinds build and give batches whose boxes lie in their pictures."""
    loaders = (parts.data_loader, parts.val_data_loader, parts.calibration_data_loader)
    assert [problem for loader in loaders for problem in check(loader)] == []
    builder, batch = Builder(), None
    for loader in loaders:
        plain = {key: value for key, value in loader.items() if key != "persistent_workers"}
        built: Any = builder.build({**plain, "num_workers": 0}, "loader")
        for batch, _ in zip(built, range(count), strict=False):
            height, width = batch["img"].shape[2:]
            divisor = loader["collate_fn"]["size_divisor"]
            assert height % divisor == width % divisor == 0 and batch["img"].dtype == torch.uint8
            assert (batch["img_size"] <= torch.tensor([height, width])).all()
            boxes = batch["gt_boxes"][batch["gt_labels"] >= 0]
            cut = "'bbox_clip_border': False" not in str(loader)
            inside = (boxes >= 0).all() and (boxes <= torch.tensor([width, height, width, height])).all()
            assert inside or not cut
            assert (boxes[:, 2:] >= boxes[:, :2]).all()
            assert batch["gt_labels"].max() < len(built.dataset.classes)
    return batch


@pytest.mark.parametrize(
    ("train", "test", "mixed", "version"),
    [
        (RTMDET, [*resize(64)[:2], dict(type="Pad", size=(64, 64), pad_val=dict(img=(114, 114, 114)))], False, 3),
        (YOLOX3, [*resize(64)[:2], dict(type="Pad", pad_to_square=True, pad_val=dict(img=(114.0,) * 3))], True, 3),
        (YOLOX2, views(64, dict(type="Pad", pad_to_square=True, pad_val=dict(img=(114.0,) * 3))), True, 2),
        (SSD2, views(64, NORM), False, 2),
        (NASFPN2, views(64, NORM, dict(type="Pad", size_divisor=32)), False, 2),
        (CENTERNET3, CENTER_TEST, False, 3),
    ],
    ids=["rtmdet", "yolox3", "yolox2", "ssd2", "nasfpn2", "centernet3"],
)  # fmt: skip
def test_pipelines_make_samples(folder: Path, train: Any, test: Any, mixed: bool, version: int) -> None:
    config = (config3 if version == 3 else config2)(folder, train, test, mixed)
    parts = translate_data(config, version)
    batch = verified(parts, 3)
    dataset: Any = Builder().build(parts.data_loader["dataset"], "dataset")
    ref = SampleRef(1, 77, (2, 3, 0, 5))
    first, second = dataset[ref], dataset[ref]
    assert torch.equal(first["img"], second["img"]) and torch.equal(first["gt_boxes"], second["gt_boxes"])
    several = [dataset[SampleRef(1, seed, (2, 3, 0, 5))]["img"] for seed in range(4)]
    assert len({image.numpy().tobytes() for image in several}) == 4
    if test is CENTER_TEST:
        assert batch["border"].shape == (2, 4)


def test_both_versions_say_the_same(folder: Path) -> None:
    new = translate_data(config3(folder, YOLOX3, resize(64), True), 3).data_loader["dataset"]["transforms"]
    old = translate_data(config2(folder, YOLOX2, views(64), True), 2).data_loader["dataset"]["transforms"]
    assert json.dumps(new) == json.dumps(old)


def test_padding_is_what_becomes_nothing(folder: Path) -> None:
    parts = translate_data(config2(folder, NASFPN2, views(64, NORM, dict(type="Pad", size_divisor=32))), 2)
    loader: Any = Builder().build(parts.data_loader, "loader")
    found = 0
    for batch in loader:
        assert tuple(batch["img"].shape[2:]) == (48, 64)  # Pad(size) after Normalize: (h, w) in version 2
        for image, (height, width) in zip(batch["img"], batch["img_size"].tolist(), strict=True):
            around = torch.cat([image[:, height:].flatten(1), image[:, :, width:].flatten(1)], 1)
            mean = torch.tensor(MEAN[::-1])[:, None]  # pictures are BGR
            assert ((around.float() - mean).abs() <= 0.5).all()
            found += around.shape[1]
    assert found


def test_the_last_epochs_have_their_pipeline(folder: Path) -> None:
    hook = dict(type="YOLOXModeSwitchHook", num_last_epochs=15)
    dataset = translate_data(config3(folder, YOLOX3, resize(64), True, custom_hooks=[hook]), 3).data_loader["dataset"]
    kinds = [step["type"].removeprefix("mmdet.") for step in dataset["late_transforms"]]
    assert kinds == ["YOLOXHSVRandomAug", "RandomFlip", "Resize", "Pad", "FilterAnnotations", "ToTensor"]
    hook = dict(type="PipelineSwitchHook", switch_epoch=20, switch_pipeline=[*LOAD, *resize(64)[1:]])
    dataset = translate_data(config3(folder, RTMDET, resize(64), custom_hooks=[hook]), 3).data_loader["dataset"]
    assert [step["type"] for step in dataset["late_transforms"]] == ["mmdet.Resize", "ToTensor"]
    built: Any = Builder().build(dataset, "dataset")
    assert built[SampleRef(0, 1, (1, 2), 1)]["img"].shape == (3, 46, 64)


def test_partners_go_through_the_steps_before_them(folder: Path) -> None:
    transforms = translate_data(config3(folder, RTMDET, resize(64)), 3).data_loader["dataset"]["transforms"]
    mixup = transforms[-2]
    assert mixup["type"] == "mmdet.CachedMixUp"
    assert [step["type"] for step in mixup["before"]] == [step["type"] for step in transforms[:-2]]
    assert "before" not in transforms[0]


# --------------------------------------------------------------------------------------- all official configs
def official() -> Iterator[tuple[Path, Any]]:
    for root in filter(None, os.environ.get(CONFIGS, "").split(os.pathsep)):
        for path in sorted(Path(root).rglob("*.py")):
            if "_base_" in path.parts:
                continue
            try:
                values = files.read(path)
            except ConfigError:
                continue
            if (values.get("model") or {}).get("type") in DENSE:
                yield path, values


def on_bccd(value: Any, split: str = "train") -> Any:
    """The same config with that data set's files."""
    if isinstance(value, (list, tuple)):
        return type(value)(on_bccd(item, split) for item in value)
    if not isinstance(value, dict):
        return value
    value = {key: on_bccd(item, "val" if key.startswith(("val", "test")) else split) for key, item in value.items()}
    if value.get("type") in ("CocoDataset", "Objects365V1Dataset", "Objects365V2Dataset"):
        if "img_prefix" in value:
            files_of = {"ann_file": f"{BCCD}/annotations/instances_{split}.json", "img_prefix": f"{BCCD}/{split}/"}
            value.pop("data_root", None)
        else:
            files_of = {"data_root": f"{BCCD}/", "ann_file": f"annotations/instances_{split}.json"}
            value["data_prefix"] = {"img": f"{split}/"}
        value = {**{key: item for key, item in value.items() if key not in ("metainfo", "classes")}, **files_of}
    return value


@pytest.mark.slow
@pytest.mark.skipif(not os.environ.get(CONFIGS), reason=f"{CONFIGS} does not name folders of official configs")
@pytest.mark.skipif(not BCCD.is_dir(), reason="the data set ../shared/data/bccd is not beside this checkout")
def test_every_dense_pipeline(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HATDET_CACHE", str(tmp_path_factory.mktemp("cache")))
    seen, wrong = set[str](), list[str]()
    for path, values in official():
        if any(name in str(values) for name in ELSEWHERE):
            continue
        try:
            parts = translate_data(on_bccd(values), version_of(values))
            key = repr((parts.data_loader, parts.val_data_loader))
            if key not in seen:
                seen.add(key)
                verified(parts, 1)
        except (UserError, AssertionError) as error:
            wrong.append(f"{path}: {type(error).__name__}: {str(error)[:200]}")
    assert not wrong, "\n".join(wrong)
    assert len(seen) > 50
