"""Data sets made of others, and crowds."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hatdet.data.collate import Collate2D
from hatdet.data.datasets.coco_lmdb import CocoFromLMDB
from hatdet.data.datasets.wrappers import ClassBalancedDataset, ConcatDataset, RepeatDataset
from hatdet.data.samplers import SampleRef
from hatdet.data.transforms.mmdet.mix.mosaic import CachedMosaic
from hatdet.data.transforms.mmdet.move import RandomFlip
from hatdet.data.transforms.mmdet.resize import Resize
from hatdet.metrics.coco import COCODetectionMetric
from hatdet.utils.errors import UserError


def plain(packed: Path, **options: Any) -> CocoFromLMDB:
    return CocoFromLMDB(data_path=packed, **{"transforms": [Resize(scale=(64, 48))], **options})


def test_crowds_are_kept_apart(packed: Path) -> None:
    data = plain(packed, crowds=True)  # image 0 has a crowd of 30 x 30 in a picture of 37 x 53 (h, w)
    item = data[0]
    assert item["gt_ignore"].tolist() == [pytest.approx([0, 0, 30 * 64 / 53, 30 * 48 / 37])]
    assert len(item["gt_boxes"]) == len(item["gt_labels"]) == 2 and (item["gt_labels"] >= 0).all()
    assert data[1]["gt_ignore"].shape == (0, 4)
    batch = Collate2D()([data[1], data[0]])
    assert batch["gt_ignore"].shape == (2, 1, 4) and not batch["gt_ignore"][0].any()
    assert Collate2D()([data[1], data[2]])["gt_ignore"].shape == (2, 0, 4)
    assert all((labels >= 0).all() for labels in data.image_labels())
    assert "gt_ignore" not in plain(packed)[0]
    mosaic = plain(packed, crowds=True, transforms=[CachedMosaic(img_scale=(64, 48), max_cached_images=8)])
    kept = [mosaic[SampleRef(0, seed, (1, 2, 3))]["gt_ignore"] for seed in range(20)]
    assert any(len(boxes) for boxes in kept)


def test_all_classes_as_one(packed: Path) -> None:
    data = plain(packed, one_class="object")
    assert data.classes == data.listed_classes == ("object",) and data.category_ids == (1,)
    assert data[0]["gt_labels"].tolist() == [0, 0]
    content = data.coco_annotations()
    assert {box["category_id"] for box in content["annotations"]} == {1} and len(content["categories"]) == 1
    data.use_classes(["object"])
    with pytest.raises(UserError, match="one class, 'object'"):
        data.use_classes(["dot"])
    some = plain(packed, one_class="object", classes=["dot"])
    assert some[0]["gt_labels"].tolist() == [0]


def test_repeat(packed: Path) -> None:
    data = plain(packed)
    many = RepeatDataset(data, times=3)
    assert len(many) == 3 * len(data) and many.window == 0 and many.classes == data.classes
    for i in (0, 5, len(data) + 5, 2 * len(data) + 5):
        assert torch.equal(many[i]["img"], data[i % len(data)]["img"])
    assert many[len(data) + 5]["img_id"] == many[5]["img_id"] == 5
    assert len(many.image_labels()) == len(many) and len(many.picture_sizes()) == len(many)
    assert len(many.objects()) == len(data.objects()) and many.picture_sums() == data.picture_sums()
    assert many.input_scale((37, 53)) == data.input_scale((37, 53))
    with pytest.raises(UserError, match="times must be at least 1"):
        RepeatDataset(data, times=0)


def test_concat_has_one_list_of_classes(packed: Path) -> None:
    first, second = plain(packed, classes=["dot"]), plain(packed, classes=["box", "bar"])
    both = ConcatDataset([first, second])
    assert both.classes == ("dot", "box", "bar") and both.category_ids == (1, 2, 3)
    assert first.classes == second.classes == both.classes
    assert len(both) == len(first) + len(second)
    assert set(both[0]["gt_labels"].tolist()) == {0} and set(both[len(first)]["gt_labels"].tolist()) == {1}
    assert both.image_labels()[len(first)].tolist() == both[len(first)]["gt_labels"].tolist()
    content = both.coco_annotations()
    assert [image["id"] for image in content["images"]] == list(range(len(both)))
    names = {category["id"]: category["name"] for category in content["categories"]}
    assert Counter(names[box["category_id"]] for box in content["annotations"]) == {"dot": 8, "box": 8, "bar": 1}
    both.use_classes(["box", "dot", "bar"])
    assert both.classes == ("box", "dot", "bar") and set(both[0]["gt_labels"].tolist()) == {1}


def test_concat_is_scored_like_its_parts(packed: Path) -> None:
    data = ConcatDataset([plain(packed, test_mode=True, num_samples=4), plain(packed, test_mode=True)])
    metric = COCODetectionMetric(backend="pycocotools")
    metric.bind(data)
    for i in range(len(data)):
        item = data[i]
        scale = torch.tensor(item["scale_factor"]).repeat(2)
        found = {"boxes": item["gt_boxes"] / scale, "labels": item["gt_labels"]}
        found["scores"] = torch.ones(len(found["labels"]))
        metric.update([found], {"img_id": torch.tensor([item["img_id"]])})
    assert metric.compute()["AP"] == pytest.approx(1.0)


def test_partners_come_from_all_parts(packed: Path) -> None:
    first, second = plain(packed, transforms=[CachedMosaic(img_scale=(32, 32))]), plain(packed)
    both = ConcatDataset([first, second])
    assert both.window == CachedMosaic().window
    assert both.raw(len(first) + 1).img_id == len(first) + 1
    alone = both[SampleRef(0, 3, ())]
    mixed = both[SampleRef(0, 3, (len(first), len(first) + 2))]
    assert alone["img"].shape == (3, 37, 53) and mixed["img"].shape == (3, 64, 64)
    assert torch.equal(mixed["img"], both[SampleRef(0, 3, (len(first), len(first) + 2))]["img"])


def test_class_balance(packed: Path) -> None:
    data = plain(packed, filter_empty=False)
    # nine pictures, eight with a dot and a box; bar has only a crowd
    assert ClassBalancedDataset(data, oversample_thr=0.5).table[:, 1].tolist() == list(range(9))

    class Rare:
        """Label 1 in one picture of four: sqrt(0.75 / 0.25) = 1.7, so two times."""

        classes = ("a", "b")

        def __len__(self) -> int:
            return 4

        def __getattr__(self, name: str) -> Any:
            return getattr(data, name)

        def image_labels(self) -> list[np.ndarray]:
            return [np.array(row, np.int64) for row in ([0], [0, 1], [0], [])]

    assert ClassBalancedDataset(Rare(), oversample_thr=0.75).table[:, 1].tolist() == [0, 1, 1, 2, 3]


def test_repeated_pictures_are_augmented_each_in_its_way(packed: Path) -> None:
    many = RepeatDataset(plain(packed, transforms=[RandomFlip(prob=0.5)]), times=2)
    pictures = {many[SampleRef(0, seed)]["img"].numpy().tobytes() for seed in range(20)}
    assert len(pictures) == 2
